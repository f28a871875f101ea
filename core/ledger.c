/*
 * Free records form a list through their own next; a record's generation rises each time it is
 * given back.
 */
#include "core/ledger.h"

#include <stdlib.h>

bool ledger_open(struct ledger *ledger, uint32_t size)
{
    *ledger = (struct ledger){.size = size, .free_first = ENTRY_NONE};
    ledger->entries = calloc(size, sizeof *ledger->entries);
    return ledger->entries != NULL;
}

void ledger_close(struct ledger *ledger)
{
    free(ledger->entries);
    *ledger = (struct ledger){.free_first = ENTRY_NONE};
}

uint32_t ledger_take(struct ledger *ledger)
{
    uint32_t index = ledger->free_first;
    if (index == ENTRY_NONE && ledger->touched == ledger->size)
        return ENTRY_NONE;
    if (index == ENTRY_NONE)
        index = ledger->touched++;
    else
        ledger->free_first = ledger->entries[index].next;
    struct entry *entry = &ledger->entries[index];
    *entry =
        (struct entry){.generation = entry->generation, .next = ENTRY_NONE, .state = ENTRY_WAITING};
    ledger->used++;
    return index;
}

void ledger_give_back(struct ledger *ledger, uint32_t index)
{
    struct entry *entry = &ledger->entries[index];
    entry->state = ENTRY_FREE;
    entry->generation++;
    entry->next = ledger->free_first;
    ledger->free_first = index;
    ledger->used--;
}
