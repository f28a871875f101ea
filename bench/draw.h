/*
 * Chance for the load generator, repeatable by a seed: keys by Zipf's law and kinds of events by
 * the shares of a mix. Not for secrets.
 */
#ifndef NEMOGATE_BENCH_DRAW_H
#define NEMOGATE_BENCH_DRAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct draw {
    uint64_t state;
};

struct draw draw_seeded(uint64_t seed);
/* 64 random bits. */
uint64_t draw_bits(struct draw *draw);
/* True in percent of 100 cases. */
bool draw_percent(struct draw *draw, uint64_t percent);

/* Draws 0 to count - 1: key k with a chance in proportion to 1 / (k + 1)^exponent; exponent 0 is
 * uniform. Constant time (Walker's alias method). */
struct key_law;
struct key_law *key_law_new(size_t count, double exponent);
size_t key_law_draw(const struct key_law *law, struct draw *draw);
void key_law_free(struct key_law *law);

/* Sizes of payloads with their shares in percent. */
struct size_mix {
    size_t count;
    size_t size[4];
    unsigned percent[4];
    unsigned non_ascii_percent;
};

/* 70 % of 200 B, 20 % of 300 B, 9 % of 1 KiB, 1 % of 16 KiB; 30 % with names beyond ASCII. */
struct size_mix size_mix_nemo(void);
struct size_mix size_mix_fixed(size_t size);
/* An index into size. */
size_t size_mix_draw(const struct size_mix *mix, struct draw *draw);

#endif
