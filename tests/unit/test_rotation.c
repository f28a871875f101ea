/*
 * Turns: order, going to the end, leaving, and moving between rotations.
 */
#include "core/rotation.h"

#include <criterion/criterion.h>

#define LANES 5

static void expect_order(const struct rotation *rotation, const struct turn *turns,
                         const size_t *order, size_t count)
{
    const struct turn *turn = rotation->first, *previous = NULL;
    cr_assert_eq(rotation->count, count);
    for (size_t i = 0; i < count; i++) {
        cr_assert_eq(turn, &turns[order[i]], "place %zu", i);
        cr_expect_eq(turn->previous, previous);
        cr_expect_eq(turn->in, rotation);
        previous = turn;
        turn = turn->next;
    }
    cr_expect_null(turn);
    cr_expect_eq(rotation->last, previous);
}

Test(rotation, who_has_had_his_turn_goes_to_the_end)
{
    struct turn turns[LANES] = {0};
    struct rotation rotation = {0};
    for (size_t i = 0; i < LANES; i++)
        rotation_put(&rotation, &turns[i]);
    expect_order(&rotation, turns, (size_t[]){0, 1, 2, 3, 4}, 5);
    rotation_put(&rotation, rotation.first);
    rotation_put(&rotation, rotation.first);
    expect_order(&rotation, turns, (size_t[]){2, 3, 4, 0, 1}, 5);
    rotation_put(&rotation, &turns[4]);
    expect_order(&rotation, turns, (size_t[]){2, 3, 0, 1, 4}, 5);
    rotation_put(&rotation, rotation.last);
    expect_order(&rotation, turns, (size_t[]){2, 3, 0, 1, 4}, 5);
}

Test(rotation, leaving_from_every_place)
{
    struct turn turns[LANES] = {0};
    struct rotation rotation = {0};
    for (size_t i = 0; i < LANES; i++)
        rotation_put(&rotation, &turns[i]);
    rotation_leave(&turns[2]);
    rotation_leave(&turns[0]);
    rotation_leave(&turns[4]);
    expect_order(&rotation, turns, (size_t[]){1, 3}, 2);
    cr_expect_null(turns[2].in);
    rotation_leave(&turns[2]);
    expect_order(&rotation, turns, (size_t[]){1, 3}, 2);
    rotation_put(&rotation, &turns[0]);
    rotation_leave(&turns[1]);
    rotation_leave(&turns[3]);
    expect_order(&rotation, turns, (size_t[]){0}, 1);
    rotation_leave(&turns[0]);
    expect_order(&rotation, turns, NULL, 0);
}

Test(rotation, a_lane_is_in_one_at_most)
{
    struct turn turns[LANES] = {0};
    struct rotation hot = {0}, cold = {0};
    for (size_t i = 0; i < LANES; i++)
        rotation_put(&cold, &turns[i]);
    rotation_put(&hot, &turns[3]);
    rotation_put(&hot, &turns[0]);
    expect_order(&cold, turns, (size_t[]){1, 2, 4}, 3);
    expect_order(&hot, turns, (size_t[]){3, 0}, 2);
    rotation_put(&cold, &turns[3]);
    expect_order(&cold, turns, (size_t[]){1, 2, 4, 3}, 4);
    expect_order(&hot, turns, (size_t[]){0}, 1);
}
