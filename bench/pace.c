/*
 * When events are due; see pace.h.
 */
#include "bench/pace.h"

#include <stdlib.h>

uint64_t phase_due(const struct phase *phase, uint64_t ns)
{
    double seconds = (double)ns / 1e9;
    if (phase->seconds > 0 && seconds > phase->seconds)
        seconds = phase->seconds;
    if (phase->rate <= 0)
        return phase->seconds > 0 && (double)ns / 1e9 >= phase->seconds ? 0 : phase->count;
    /* the first one is due at once; the rounding keeps whole numbers whole */
    uint64_t due = (uint64_t)(seconds * phase->rate + 1e-6) + 1;
    if (phase->seconds > 0) {
        uint64_t all = (uint64_t)(phase->seconds * phase->rate + 0.5);
        due = due < all ? due : all;
    }
    return due < phase->count ? due : phase->count;
}

uint64_t phase_when(const struct phase *phase, uint64_t number)
{
    return phase->rate > 0 ? (uint64_t)((double)number / phase->rate * 1e9 + 0.5) : 0;
}

bool phase_over(const struct phase *phase, uint64_t sent, uint64_t ns)
{
    if (sent >= phase->count)
        return true;
    return phase->seconds > 0 && (double)ns / 1e9 >= phase->seconds && sent >= phase_due(phase, ns);
}

bool phase_read_burst(struct phase *phase, const char *text)
{
    char *end = NULL;
    if (text[0] < '0' || text[0] > '9')
        return false;
    uint64_t count = strtoull(text, &end, 10);
    if (*end != '/' || end[1] < '0' || end[1] > '9')
        return false;
    double seconds = strtod(end + 1, &end);
    *phase = (struct phase){.count = count};
    if (*end != '\0' || count == 0 || seconds <= 0)
        return false;
    phase->rate = (double)count / seconds;
    return true;
}
