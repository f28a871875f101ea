/*
 * slot_of_stream: instances of different versions must agree on it, so its values are pinned.
 */
#include "core/slot.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

Test(slot_hash, never_changes)
{
    static const unsigned counts[] = {1, 4, 16, 100, 1024};
    static const struct {
        const char *name;
        unsigned slots[5];
    } pinned[] = {
        {"nemo:{a}:events", {0, 1, 13, 17, 429}},
        {"nemo:{lab-1}:events", {0, 0, 4, 40, 740}},
        {"nemo:{nanofab}:events", {0, 3, 3, 3, 163}},
        {"nemo:{0}:events", {0, 3, 11, 47, 699}},
        {"plain", {0, 1, 9, 33, 841}},
        {"", {0, 1, 1, 45, 961}},
    };
    for (size_t i = 0; i < sizeof pinned / sizeof *pinned; i++)
        for (size_t j = 0; j < 5; j++)
            cr_expect_eq(slot_of_stream(pinned[i].name, counts[j]), pinned[i].slots[j],
                         "\"%s\" of %u slots: %u", pinned[i].name, counts[j],
                         slot_of_stream(pinned[i].name, counts[j]));
}

Test(slot_hash, takes_bytes_above_127_as_unsigned)
{
    cr_expect_eq(slot_of_stream("Zo\xc3\xab", 1024), 977);
}

/* Sites are often numbered. No slot gets a quarter more or less than its share. */
Test(slot_hash, spreads_streams_evenly)
{
    static const unsigned counts[] = {2, 3, 4, 7, 16, 60};
    enum { STREAMS = 60000 };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        unsigned *streams = calloc(counts[i], sizeof *streams);
        cr_assert_not_null(streams);
        for (unsigned n = 0; n < STREAMS; n++) {
            char name[40];
            snprintf(name, sizeof name, "nemo:{site-%u}:events", n);
            unsigned slot = slot_of_stream(name, counts[i]);
            cr_assert_lt(slot, counts[i]);
            streams[slot]++;
        }
        unsigned share = STREAMS / counts[i];
        for (unsigned slot = 0; slot < counts[i]; slot++)
            cr_expect(streams[slot] > share * 3 / 4 && streams[slot] < share * 5 / 4,
                      "slot %u of %u has %u streams", slot, counts[i], streams[slot]);
        free(streams);
    }
}
