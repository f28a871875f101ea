/*
 * The verifier's judgement: every planted fault is counted as what it is, whatever the load around
 * it.
 */
#include "bench/sequence.h"

#include <criterion/criterion.h>

#define KEYS 5

static void add_run(struct sequences *sequences, size_t key, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        cr_assert(sequences_add(sequences, key, i));
}

static void expect_counts(const struct sequences *sequences, const struct sequence_counts *expected)
{
    const struct sequence_counts *counts = sequences_counts(sequences);
    cr_expect_eq(counts->distinct, expected->distinct);
    cr_expect_eq(counts->duplicates, expected->duplicates);
    cr_expect_eq(counts->reordered, expected->reordered);
    cr_expect_eq(counts->missing, expected->missing);
    cr_expect_eq(counts->untracked, expected->untracked);
    cr_expect_eq(counts->newest, expected->newest);
}

Test(bench_sequence, intact_flows_of_several_keys)
{
    struct sequences *sequences = sequences_new(KEYS, false);
    for (size_t key = 0; key < KEYS; key++)
        add_run(sequences, key, 0, 1000);
    expect_counts(sequences, &(struct sequence_counts){.distinct = 5000, .newest = 5000});
    sequences_free(sequences);
}

Test(bench_sequence, a_dropped_one_is_missing)
{
    struct sequences *sequences = sequences_new(KEYS, false);
    add_run(sequences, 2, 0, 10);
    add_run(sequences, 2, 11, 20);
    expect_counts(sequences, &(struct sequence_counts){.distinct = 19, .missing = 1, .newest = 20});
    sequences_free(sequences);
}

Test(bench_sequence, the_first_of_a_key_may_be_missing)
{
    struct sequences *sequences = sequences_new(KEYS, false);
    add_run(sequences, 0, 1, 2);
    expect_counts(sequences, &(struct sequence_counts){.distinct = 1, .missing = 1, .newest = 2});
    sequences_free(sequences);
}

Test(bench_sequence, redelivery_is_duplicates_and_no_disorder)
{
    struct sequences *sequences = sequences_new(KEYS, false);
    add_run(sequences, 0, 0, 100);
    for (uint32_t i = 20; i < 100; i++)
        cr_assert_not(sequences_add(sequences, 0, i));
    add_run(sequences, 0, 100, 200);
    expect_counts(sequences,
                  &(struct sequence_counts){.distinct = 200, .duplicates = 80, .newest = 200});
    sequences_free(sequences);
}

Test(bench_sequence, swapped_ones_are_one_disorder_and_no_loss)
{
    struct sequences *sequences = sequences_new(KEYS, false);
    add_run(sequences, 4, 0, 7);
    cr_assert(sequences_add(sequences, 4, 8));
    cr_assert(sequences_add(sequences, 4, 7));
    add_run(sequences, 4, 9, 20);
    expect_counts(sequences,
                  &(struct sequence_counts){.distinct = 20, .reordered = 1, .newest = 20});
    sequences_free(sequences);
}

Test(bench_sequence, a_late_one_counts_once)
{
    struct sequences *sequences = sequences_new(KEYS, false);
    add_run(sequences, 1, 0, 3);
    add_run(sequences, 1, 5, 9);
    cr_assert(sequences_add(sequences, 1, 3));
    cr_assert_not(sequences_add(sequences, 1, 3));
    expect_counts(sequences,
                  &(struct sequence_counts){
                      .distinct = 8, .duplicates = 1, .reordered = 1, .missing = 1, .newest = 9});
    sequences_free(sequences);
}

/* Far more missing numbers at once than any probe sequence is long, filled in another order: the
 * table must neither lose nor invent one. */
Test(bench_sequence, many_missing_numbers_are_all_found_again)
{
    const uint32_t count = 200000;
    struct sequences *sequences = sequences_new(KEYS, false);
    for (size_t key = 0; key < KEYS; key++)
        cr_assert(sequences_add(sequences, key, count));
    cr_expect_eq(sequences_counts(sequences)->missing, KEYS * count);
    for (uint32_t i = 0; i < count; i++)
        for (size_t key = 0; key < KEYS; key++)
            cr_assert(sequences_add(sequences, key, (uint32_t)((uint64_t)i * 77773 % count)));
    expect_counts(sequences, &(struct sequence_counts){.distinct = KEYS * (count + 1),
                                                       .reordered = KEYS * count,
                                                       .newest = KEYS * (count + 1)});
    sequences_free(sequences);
}

Test(bench_sequence, what_the_table_cannot_hold_is_still_missing)
{
    const uint32_t gap = 3000000;
    struct sequences *sequences = sequences_new(KEYS, false);
    cr_assert(sequences_add(sequences, 0, gap));
    cr_expect_eq(sequences_counts(sequences)->missing, gap);
    cr_expect_gt(sequences_counts(sequences)->untracked, 0);
    cr_assert(sequences_add(sequences, 0, 0));
    sequences_free(sequences);
}

Test(bench_sequence, allowed_gaps_cost_no_memory)
{
    struct sequences *sequences = sequences_new(KEYS, true);
    add_run(sequences, 3, 4000000000u, 4000000001u);
    expect_counts(sequences, &(struct sequence_counts){
                                 .distinct = 1, .missing = 4000000000u, .newest = 4000000001u});
    sequences_free(sequences);
}
