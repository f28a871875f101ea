/*
 * The ledger's records, tokens and queues.
 */
#include "core/ledger.h"

#include <criterion/criterion.h>
#include <stdlib.h>

Test(ledger, gives_each_record_once_and_then_none)
{
    struct ledger ledger;
    bool taken[5] = {false};
    cr_assert(ledger_open(&ledger, 5));
    for (uint32_t i = 0; i < 5; i++) {
        uint32_t index = ledger_take(&ledger);
        cr_assert_lt(index, 5);
        cr_expect_not(taken[index]);
        taken[index] = true;
        cr_expect_eq(ledger.used, i + 1);
    }
    cr_expect_eq(ledger_take(&ledger), ENTRY_NONE);
    cr_expect_eq(ledger.used, 5);
    ledger_give_back(&ledger, 3);
    cr_expect_eq(ledger.used, 4);
    cr_expect_eq(ledger_take(&ledger), 3);
    cr_expect_eq(ledger_take(&ledger), ENTRY_NONE);
    ledger_close(&ledger);
}

Test(ledger, a_ledger_of_one)
{
    struct ledger ledger;
    cr_assert(ledger_open(&ledger, 1));
    for (int i = 0; i < 3; i++) {
        cr_expect_eq(ledger_take(&ledger), 0);
        cr_expect_eq(ledger_take(&ledger), ENTRY_NONE);
        ledger_give_back(&ledger, 0);
    }
    ledger_close(&ledger);
}

Test(ledger, a_taken_record_is_empty)
{
    struct ledger ledger;
    uint8_t packet;
    cr_assert(ledger_open(&ledger, 1));
    struct entry *entry = ledger_entry(&ledger, ledger_take(&ledger));
    entry->id = (struct stream_id){7, 8};
    entry->packet = &packet;
    entry->size = 9;
    entry->packet_id_offset = 10;
    entry->expires_ms = 11;
    entry->fault_reason = "reason";
    entry->fault_detail = "detail";
    entry->outbox = 12;
    entry->state = ENTRY_SETTLED;
    ledger_give_back(&ledger, 0);
    cr_expect_eq(entry->state, ENTRY_FREE);
    cr_assert_eq(ledger_take(&ledger), 0);
    cr_expect_eq(entry->id.ms, 0);
    cr_expect_eq(entry->id.seq, 0);
    cr_expect_null(entry->packet);
    cr_expect_eq(entry->size, 0);
    cr_expect_eq(entry->packet_id_offset, 0);
    cr_expect_eq(entry->expires_ms, 0);
    cr_expect_null(entry->fault_reason);
    cr_expect_null(entry->fault_detail);
    cr_expect_eq(entry->outbox, 0);
    cr_expect_eq(entry->next, ENTRY_NONE);
    cr_expect_eq(entry->state, ENTRY_WAITING);
    ledger_close(&ledger);
}

/* A late PUBACK carries the token of a publish whose entry is gone, or whose record is another's.
 */
Test(ledger, a_token_finds_its_own_entry_only)
{
    struct ledger ledger;
    cr_assert(ledger_open(&ledger, 4));
    uint32_t index = ledger_take(&ledger);
    uint64_t first = ledger_token(&ledger, index);
    cr_expect_eq(ledger_find(&ledger, first), index);
    ledger_give_back(&ledger, index);
    cr_expect_eq(ledger_find(&ledger, first), ENTRY_NONE);
    cr_assert_eq(ledger_take(&ledger), index);
    uint64_t second = ledger_token(&ledger, index);
    cr_expect_neq(second, first);
    cr_expect_eq(ledger_find(&ledger, first), ENTRY_NONE);
    cr_expect_eq(ledger_find(&ledger, second), index);
    ledger_close(&ledger);
}

Test(ledger, a_token_of_no_record_finds_nothing)
{
    struct ledger ledger;
    cr_assert(ledger_open(&ledger, 4));
    cr_expect_eq(ledger_find(&ledger, 0), ENTRY_NONE); /* free */
    cr_expect_eq(ledger_find(&ledger, 4), ENTRY_NONE); /* beyond the table */
    cr_expect_eq(ledger_find(&ledger, ENTRY_NONE), ENTRY_NONE);
    cr_expect_eq(ledger_find(&ledger, UINT64_MAX), ENTRY_NONE);
    ledger_close(&ledger);
}

Test(ledger, a_queue_keeps_the_order)
{
    struct ledger ledger;
    struct entry_queue queue = entry_queue_empty();
    uint32_t taken[6];
    cr_assert(ledger_open(&ledger, 6));
    for (int i = 0; i < 6; i++)
        taken[i] = ledger_take(&ledger);
    for (int i = 0; i < 3; i++)
        entry_queue_append(&queue, &ledger, taken[5 - i]);
    cr_expect_eq(queue.count, 3);
    cr_expect_eq(entry_queue_take(&queue, &ledger), taken[5]);
    entry_queue_append(&queue, &ledger, taken[0]);
    cr_expect_eq(entry_queue_take(&queue, &ledger), taken[4]);
    cr_expect_eq(entry_queue_take(&queue, &ledger), taken[3]);
    cr_expect_eq(entry_queue_take(&queue, &ledger), taken[0]);
    cr_expect_eq(queue.count, 0);
    cr_expect_eq(queue.first, ENTRY_NONE);
    cr_expect_eq(queue.last, ENTRY_NONE);
    entry_queue_append(&queue, &ledger, taken[1]);
    cr_expect_eq(entry_queue_take(&queue, &ledger), taken[1]);
    ledger_close(&ledger);
}

/* Random takes and returns against a plain model. */
Test(ledger, behaves_like_its_model)
{
    enum { SIZE = 37, STEPS = 200000 };
    struct ledger ledger;
    uint64_t tokens[SIZE], stale[SIZE] = {0};
    uint32_t held[SIZE], count = 0;
    bool has_stale[SIZE] = {false};
    cr_assert(ledger_open(&ledger, SIZE));
    srand(1);
    for (int step = 0; step < STEPS; step++) {
        if (rand() % 2 == 0 && count < SIZE) {
            held[count] = ledger_take(&ledger);
            cr_assert_neq(held[count], ENTRY_NONE);
            tokens[count] = ledger_token(&ledger, held[count]);
            count++;
        } else if (count > 0) {
            uint32_t at = (uint32_t)rand() % count;
            ledger_give_back(&ledger, held[at]);
            stale[held[at]] = tokens[at];
            has_stale[held[at]] = true;
            held[at] = held[--count];
            tokens[at] = tokens[count];
        }
        cr_assert_eq(ledger.used, count);
        uint32_t any = (uint32_t)rand() % SIZE;
        cr_assert(!has_stale[any] || ledger_find(&ledger, stale[any]) == ENTRY_NONE);
        cr_assert(any >= count || ledger_find(&ledger, tokens[any]) == held[any]);
    }
    ledger_close(&ledger);
}
