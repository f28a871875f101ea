/*
 * The sequence checker; see sequence.h. The missing numbers are a hash set with linear probing
 * that is only looked at while a number is missing, so an intact flow costs one comparison.
 */
#include "bench/sequence.h"

#include "bench/common.h"

#include <stdlib.h>

#define HOLES_BITS 21
#define HOLES (UINT64_C(1) << HOLES_BITS)
#define HOLES_MAX (HOLES / 4 * 3)

struct sequences {
    struct sequence_counts counts;
    uint32_t *next;  /* by key: the newest number + 1 */
    uint64_t *holes; /* key << 32 | number, + 1; 0: free */
    uint64_t hole_count;
    bool gaps_allowed;
};

struct sequences *sequences_new(size_t keys, bool gaps_allowed)
{
    struct sequences *sequences = must_alloc(1, sizeof *sequences);
    sequences->next = must_alloc(keys, sizeof *sequences->next);
    sequences->holes = must_alloc(HOLES, sizeof *sequences->holes);
    sequences->gaps_allowed = gaps_allowed;
    return sequences;
}

void sequences_free(struct sequences *sequences)
{
    free(sequences->next);
    free(sequences->holes);
    free(sequences);
}

static uint64_t hole_name(size_t key, uint32_t number)
{
    return ((uint64_t)key << 32 | number) + 1;
}

static uint64_t hole_home(uint64_t name)
{
    return name * UINT64_C(0x9e3779b97f4a7c15) >> (64 - HOLES_BITS);
}

/* The place of the name, or the free place where it would stand. */
static uint64_t hole_place(const struct sequences *sequences, uint64_t name)
{
    uint64_t place = hole_home(name);
    while (sequences->holes[place] != 0 && sequences->holes[place] != name)
        place = (place + 1) % HOLES;
    return place;
}

/* Those behind the place move up, where their way from home leads over it. */
static void hole_remove(struct sequences *sequences, uint64_t place)
{
    uint64_t *holes = sequences->holes;
    uint64_t at = place;
    for (;;) {
        at = (at + 1) % HOLES;
        if (holes[at] == 0)
            break;
        uint64_t from_home = (at - hole_home(holes[at])) % HOLES;
        if (from_home >= (at - place) % HOLES) {
            holes[place] = holes[at];
            place = at;
        }
    }
    holes[place] = 0;
    sequences->hole_count--;
}

static void note_gap(struct sequences *sequences, size_t key, uint32_t from, uint32_t to)
{
    sequences->counts.missing += to - from;
    if (sequences->gaps_allowed)
        return;
    for (uint32_t number = from; number != to; number++) {
        if (sequences->hole_count == HOLES_MAX) {
            sequences->counts.untracked += to - number;
            return;
        }
        uint64_t name = hole_name(key, number);
        sequences->holes[hole_place(sequences, name)] = name;
        sequences->hole_count++;
    }
}

static bool arrived_late(struct sequences *sequences, size_t key, uint32_t number)
{
    struct sequence_counts *counts = &sequences->counts;
    uint64_t place = 0;
    if (sequences->hole_count > 0)
        place = hole_place(sequences, hole_name(key, number));
    if (sequences->hole_count == 0 || sequences->holes[place] == 0) {
        counts->duplicates++;
        return false;
    }
    hole_remove(sequences, place);
    counts->missing--;
    counts->reordered++;
    counts->distinct++;
    return true;
}

bool sequences_add(struct sequences *sequences, size_t key, uint32_t sequence)
{
    struct sequence_counts *counts = &sequences->counts;
    uint32_t next = sequences->next[key];
    if (sequence < next)
        return arrived_late(sequences, key, sequence);
    if (sequence > next)
        note_gap(sequences, key, next, sequence);
    sequences->next[key] = sequence + 1;
    counts->newest += sequence + 1 - next;
    counts->distinct++;
    return true;
}

const struct sequence_counts *sequences_counts(const struct sequences *sequences)
{
    return &sequences->counts;
}
