/*
 * An event loop, a clock and a channel that exist in memory only, in the place of libevent and
 * transport/channel.c: a link or connection under test is driven step by step, without sockets or
 * waiting, and does the same each time. One test at a time; transport/channel.h and the functions
 * of libevent that transport/ uses keep what they promise, in the order of the real ones.
 */
#ifndef NEMOGATE_TESTS_FUZZ_MEMORY_NET_H
#define NEMOGATE_TESTS_FUZZ_MEMORY_NET_H

#include "transport/channel.h"

/* A fresh loop at a time of its own; everything of an earlier one must have been freed. */
struct net memory_net_open(void);
void memory_net_close(struct net *net);

/* Lets time pass and runs what is due, in order of time. 0: only what is due now. */
void memory_net_run(uint64_t ms);

/* What the next channel_open comes to; true at the beginning. */
void memory_net_accept(bool accept);
/* At most so many bytes of output leave with each flush; 0: all of them, as at the beginning. */
void memory_net_throttle(size_t bytes);

/* The peer of the channel that was opened last; false: it is not open. */
bool memory_peer_is_open(void);
/* Sends to the channel, which gets it at once, as from the event loop. */
void memory_peer_send(struct bytes data);
void memory_peer_close(void);
/* Everything that the channel has written since the last call; valid until the next call. */
struct bytes memory_peer_take(void);
/* How often a channel has been opened with success. */
unsigned memory_peer_generation(void);

#endif
