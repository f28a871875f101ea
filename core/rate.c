/*
 * max_rate: publishes of an outlet are spread evenly, with a short burst allowed so that timers
 * need not be exact. The limit is the broker's: the slots that have streams for it share it evenly.
 */
#include "core/slot_private.h"

#define BURST_NS UINT64_C(20000000)

static uint64_t interval_ns(const struct outlet *outlet)
{
    unsigned share = outlet->rate_share > 0 ? outlet->rate_share : 1;
    return UINT64_C(1000000000) * share / outlet->broker->max_rate;
}

bool rate_allows(struct outlet *outlet, uint64_t now_ms)
{
    if (outlet->broker->max_rate == 0)
        return true;
    uint64_t now_ns = net_now_us() * 1000;
    if (outlet->rate_next_ns <= now_ns + BURST_NS)
        return true;
    flow_wake_at(outlet, now_ms + (outlet->rate_next_ns - now_ns - BURST_NS) / 1000000 + 1);
    return false;
}

void rate_note(struct outlet *outlet)
{
    if (outlet->broker->max_rate == 0)
        return;
    uint64_t now_ns = net_now_us() * 1000;
    if (outlet->rate_next_ns < now_ns)
        outlet->rate_next_ns = now_ns;
    outlet->rate_next_ns += interval_ns(outlet);
}
