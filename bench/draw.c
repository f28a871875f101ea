/*
 * Chance for the load generator; see draw.h.
 */
#include "bench/draw.h"

#include "bench/common.h"

#include <math.h>
#include <stdlib.h>

struct draw draw_seeded(uint64_t seed)
{
    return (struct draw){seed};
}

/* splitmix64: any seed will do, 0 too. */
uint64_t draw_bits(struct draw *draw)
{
    uint64_t bits = draw->state += UINT64_C(0x9e3779b97f4a7c15);
    bits = (bits ^ bits >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    bits = (bits ^ bits >> 27) * UINT64_C(0x94d049bb133111eb);
    return bits ^ bits >> 31;
}

static uint64_t draw_below(struct draw *draw, uint64_t limit)
{
    return (draw_bits(draw) >> 32) * limit >> 32;
}

bool draw_percent(struct draw *draw, uint64_t percent)
{
    return percent > 0 && draw_below(draw, 100) < percent;
}

/* A column is left to its own key with the chance `own`, else it stands for `other`. */
struct column {
    double own;
    uint32_t other;
};

struct key_law {
    size_t count;
    struct column *columns; /* NULL: uniform */
};

/* Vose's way to fill the columns: one that has too little takes the rest of one with too much. */
static void fill_columns(struct key_law *law, double *weight)
{
    uint32_t *small = must_alloc(law->count, sizeof *small);
    uint32_t *large = must_alloc(law->count, sizeof *large);
    size_t small_count = 0;
    size_t large_count = 0;
    for (uint32_t i = 0; i < law->count; i++)
        if (weight[i] < 1)
            small[small_count++] = i;
        else
            large[large_count++] = i;
    while (small_count > 0 && large_count > 0) {
        uint32_t poor = small[--small_count];
        uint32_t rich = large[large_count - 1];
        law->columns[poor] = (struct column){weight[poor], rich};
        weight[rich] -= 1 - weight[poor];
        if (weight[rich] < 1) {
            large_count--;
            small[small_count++] = rich;
        }
    }
    while (large_count > 0)
        law->columns[large[--large_count]].own = 1;
    while (small_count > 0) /* by rounding only */
        law->columns[small[--small_count]].own = 1;
    free(small);
    free(large);
}

struct key_law *key_law_new(size_t count, double exponent)
{
    struct key_law *law = must_alloc(1, sizeof *law);
    law->count = count;
    if (exponent <= 0)
        return law;
    double *weight = must_alloc(count, sizeof *weight);
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += weight[i] = pow((double)(i + 1), -exponent);
    for (size_t i = 0; i < count; i++)
        weight[i] *= (double)count / sum;
    law->columns = must_alloc(count, sizeof *law->columns);
    fill_columns(law, weight);
    free(weight);
    return law;
}

size_t key_law_draw(const struct key_law *law, struct draw *draw)
{
    size_t index = draw_below(draw, law->count);
    if (law->columns == NULL)
        return index;
    double chance = (double)(draw_bits(draw) >> 11) / 9007199254740992.0;
    const struct column *column = &law->columns[index];
    return chance < column->own ? index : column->other;
}

void key_law_free(struct key_law *law)
{
    free(law->columns);
    free(law);
}

struct size_mix size_mix_nemo(void)
{
    return (struct size_mix){.count = 4,
                             .size = {200, 300, 1024, 16384},
                             .percent = {70, 20, 9, 1},
                             .non_ascii_percent = 30};
}

struct size_mix size_mix_fixed(size_t size)
{
    return (struct size_mix){.count = 1, .size = {size}, .percent = {100}};
}

size_t size_mix_draw(const struct size_mix *mix, struct draw *draw)
{
    if (mix->count == 1)
        return 0;
    uint64_t chance = draw_below(draw, 100);
    size_t index = 0;
    while (chance >= mix->percent[index])
        chance -= mix->percent[index++];
    return index;
}
