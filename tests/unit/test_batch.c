/*
 * The memory of encoded entries: what is lent stays untouched and in place, what is held is
 * bounded.
 */
#include "core/batch.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

struct loan {
    uint8_t *memory;
    size_t size;
    struct batch *batch;
    uint8_t fill;
};

static struct loan lend(struct batch_pool *pool, size_t size, uint8_t fill)
{
    struct loan loan = {.size = size, .fill = fill};
    loan.memory = batch_lend(pool, size, &loan.batch);
    cr_assert_not_null(loan.memory);
    memset(loan.memory, fill, size);
    return loan;
}

static void give_back(struct batch_pool *pool, struct loan loan)
{
    for (size_t i = 0; i < loan.size; i++)
        cr_assert_eq(loan.memory[i], loan.fill, "byte %zu of %zu was overwritten", i, loan.size);
    batch_release(pool, loan.batch, loan.size);
}

Test(batch, counts_what_is_lent)
{
    struct batch_pool *pool = batch_pool_new();
    cr_assert_not_null(pool);
    cr_expect_eq(batch_pool_used(pool), 0);
    cr_expect_eq(batch_pool_held(pool), 0);
    struct loan small = lend(pool, 100, 1), other = lend(pool, 200, 2);
    cr_expect_eq(small.batch, other.batch);
    cr_expect_eq(batch_pool_used(pool), 300);
    cr_expect_eq(batch_pool_held(pool), BATCH_BLOCK_SIZE);
    struct loan large = lend(pool, 3 * BATCH_BLOCK_SIZE, 3);
    cr_expect_neq(large.batch, small.batch);
    cr_expect_eq(batch_pool_used(pool), 300 + 3 * BATCH_BLOCK_SIZE);
    cr_expect_eq(batch_pool_held(pool), 4 * BATCH_BLOCK_SIZE);
    give_back(pool, small);
    give_back(pool, large);
    cr_expect_eq(batch_pool_used(pool), 200);
    cr_expect_eq(batch_pool_held(pool), BATCH_BLOCK_SIZE);
    give_back(pool, other);
    cr_expect_eq(batch_pool_used(pool), 0);
    batch_pool_free(pool);
}

/* A slow entry must not let the pool grow by every entry that passes it by. */
Test(batch, an_emptied_block_is_used_again)
{
    struct batch_pool *pool = batch_pool_new();
    cr_assert_not_null(pool);
    for (int i = 0; i < 100000; i++)
        give_back(pool, lend(pool, 500, (uint8_t)i));
    cr_expect_eq(batch_pool_held(pool), BATCH_BLOCK_SIZE);
    struct loan slow = lend(pool, 500, 7);
    for (int i = 0; i < 100000; i++)
        give_back(pool, lend(pool, 500, (uint8_t)i));
    cr_expect_leq(batch_pool_held(pool), 3 * BATCH_BLOCK_SIZE);
    give_back(pool, slow);
    batch_pool_free(pool);
}

/* Settled in the order of lending, with a fixed number in flight, which is the normal traffic. */
Test(batch, steady_traffic_holds_what_is_in_flight_and_little_more)
{
    enum { IN_FLIGHT = 3000, SIZE = 700 };
    static struct loan ring[IN_FLIGHT];
    struct batch_pool *pool = batch_pool_new();
    cr_assert_not_null(pool);
    for (int i = 0; i < 60000; i++) {
        struct loan *place = &ring[i % IN_FLIGHT];
        if (i >= IN_FLIGHT)
            give_back(pool, *place);
        *place = lend(pool, SIZE, (uint8_t)i);
        cr_assert_leq(batch_pool_held(pool), IN_FLIGHT * SIZE + 3 * BATCH_BLOCK_SIZE);
    }
    cr_expect_eq(batch_pool_used(pool), IN_FLIGHT * SIZE);
    for (int i = 0; i < IN_FLIGHT; i++)
        give_back(pool, ring[i]);
    batch_pool_free(pool);
}

Test(batch, a_burst_is_given_back)
{
    enum { BURST = 20000 };
    static struct loan loans[BURST];
    struct batch_pool *pool = batch_pool_new();
    cr_assert_not_null(pool);
    for (int i = 0; i < BURST; i++)
        loans[i] = lend(pool, 1000, (uint8_t)i);
    cr_expect_geq(batch_pool_held(pool), BURST * 1000u);
    for (int i = 0; i < BURST; i++)
        give_back(pool, loans[i]);
    cr_expect_leq(batch_pool_held(pool), 17 * BATCH_BLOCK_SIZE);
    batch_pool_free(pool);
}

Test(batch, random_sizes_and_orders_never_overlap)
{
    enum { PLACES = 400, STEPS = 40000 };
    static struct loan loans[PLACES];
    struct batch_pool *pool = batch_pool_new();
    size_t used = 0;
    cr_assert_not_null(pool);
    srand(1);
    for (int step = 0; step < STEPS; step++) {
        struct loan *loan = &loans[rand() % PLACES];
        if (loan->memory != NULL) {
            give_back(pool, *loan);
            used -= loan->size;
            *loan = (struct loan){0};
        } else {
            size_t largest = rand() % 20 == 0 ? 2 * BATCH_BLOCK_SIZE : 2000;
            *loan = lend(pool, 1 + (size_t)rand() % largest, (uint8_t)rand());
            used += loan->size;
        }
        cr_assert_eq(batch_pool_used(pool), used);
        cr_assert_geq(batch_pool_held(pool), used);
    }
    for (int i = 0; i < PLACES; i++)
        if (loans[i].memory != NULL)
            give_back(pool, loans[i]);
    cr_expect_eq(batch_pool_used(pool), 0);
    batch_pool_free(pool);
}

/* Under AddressSanitizer what is left behind would be reported. */
Test(batch, what_is_still_lent_goes_with_the_pool)
{
    struct batch_pool *pool = batch_pool_new();
    cr_assert_not_null(pool);
    for (int i = 0; i < 1000; i++)
        (void)lend(pool, i % 100 == 0 ? BATCH_BLOCK_SIZE : 1000, (uint8_t)i);
    batch_pool_free(pool);
    batch_pool_free(NULL);
}
