/*
 * The channel over a connected socketpair: reading, writing, ending, and what its
 * callbacks may do. Connecting and resolving: test_channel_connect.c.
 */
#include "script_io.h"

#include "channel_driver.h"
#include "transport/channel_private.h"

#include <fcntl.h>

#define BUDGET 65536u /* what one wake-up may read */

struct pair {
    struct driver driver;
    struct script_io *io;
    int peer;
};

/* A channel that is about to open over a socketpair, with a scripted io. */
static void pair_begin_sized(struct pair *pair, struct channel_sizes sizes)
{
    int sockets[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sockets), 0);
    driver_begin(&pair->driver);
    driver_channel_sized(&pair->driver, sizes);
    pair->peer = sockets[1];
    pair->io = script_io_new();
    channel_open_socket(pair->driver.channel, sockets[0], &pair->io->head, 1000);
}

static void pair_begin(struct pair *pair)
{
    pair_begin_sized(pair, (struct channel_sizes){16384, 4096, 1 << 20});
}

/* The same, and open. */
static void pair_open(struct pair *pair)
{
    pair_begin(pair);
    DRIVE_UNTIL(&pair->driver, pair->driver.opened == 1);
    drive_idle(&pair->driver);
}

static void pair_end(struct pair *pair)
{
    if (pair->peer >= 0)
        close(pair->peer);
    driver_end(&pair->driver);
}

static void peer_hang_up(struct pair *pair)
{
    close(pair->peer);
    pair->peer = -1;
}

static size_t peer_receive(struct pair *pair, char *into, size_t size)
{
    ssize_t got = recv(pair->peer, into, size, 0);
    return got < 0 ? 0 : (size_t)got;
}

/* ---- opening and ending -------------------------------------------------------------------- */

Test(channel, opens_from_the_loop_and_not_from_the_call)
{
    struct pair pair;
    pair_begin(&pair);
    cr_assert_eq(pair.driver.opened, 0);
    cr_assert_not(channel_is_open(pair.driver.channel));
    DRIVE_UNTIL(&pair.driver, pair.driver.opened > 0);
    cr_assert(channel_is_open(pair.driver.channel));
    cr_assert_str_eq(pair.driver.description, "");
    pair_end(&pair);
}

Test(channel, frees_its_io_once)
{
    struct pair pair;
    unsigned frees = 0;
    pair_open(&pair);
    pair.io->frees = &frees;
    pair_end(&pair);
    cr_assert_eq(frees, 1);
}

Test(channel, tells_that_the_peer_closed_after_its_data)
{
    struct pair pair;
    pair_open(&pair);
    peer_send(pair.peer, "last words", 10);
    peer_hang_up(&pair);
    DRIVE_UNTIL(&pair.driver, pair.driver.closed > 0);
    drive_idle(&pair.driver);
    cr_assert(driver_received(&pair.driver, "last words"));
    cr_assert_eq(pair.driver.closed, 1);
    cr_assert_str_eq(pair.driver.reason, "the peer closed the connection");
    cr_assert_not(channel_is_open(pair.driver.channel));
    cr_assert_eq(pair.io->closes, 1);
    pair_end(&pair);
}

Test(channel, tells_why_reading_failed)
{
    struct pair pair;
    pair_open(&pair);
    pair.io->read_fails = true;
    peer_send(pair.peer, "x", 1);
    DRIVE_UNTIL(&pair.driver, pair.driver.closed > 0);
    cr_assert_str_eq(pair.driver.reason, "read: the script says no");
    pair_end(&pair);
}

Test(channel, tells_why_the_stream_could_not_be_made)
{
    struct pair pair;
    pair_begin(&pair);
    pair.io->open_status = STATUS_FAILED;
    DRIVE_UNTIL(&pair.driver, pair.driver.closed > 0);
    cr_assert_str_eq(pair.driver.reason, "TLS handshake with 127.0.0.1:0: the script says no");
    cr_assert_eq(pair.driver.opened, 0);
    pair_end(&pair);
}

Test(channel, bounds_the_handshake)
{
    struct pair pair;
    pair_begin(&pair);
    channel_close(pair.driver.channel);
    int sockets[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sockets), 0);
    pair.io = script_io_new();
    pair.io->open_status = STATUS_AGAIN;
    channel_open_socket(pair.driver.channel, sockets[0], &pair.io->head, 20);
    DRIVE_UNTIL(&pair.driver, pair.driver.closed > 0);
    cr_assert_str_eq(pair.driver.reason,
                     "timed out after 20 ms during the TLS handshake with 127.0.0.1:0");
    close(sockets[1]);
    pair_end(&pair);
}

Test(channel, goes_on_with_the_handshake_when_what_it_wants_has_come)
{
    struct pair pair;
    pair_begin(&pair);
    pair.io->open_status = STATUS_AGAIN;
    drive_idle(&pair.driver);
    cr_assert_eq(pair.io->opens, 1, "nothing has come: no second try");
    pair.io->open_status = STATUS_OK;
    peer_send(pair.peer, "hello", 5);
    DRIVE_UNTIL(&pair.driver, pair.driver.received_length == 5);
    cr_assert_eq(pair.driver.opened, 1);
    pair_end(&pair);
}

Test(channel, closing_by_the_owner_is_silent)
{
    struct pair pair;
    pair_open(&pair);
    peer_hang_up(&pair);
    channel_close(pair.driver.channel);
    channel_close(pair.driver.channel);
    drive_idle(&pair.driver);
    cr_assert_eq(pair.driver.closed, 0);
    pair_end(&pair);
}

Test(channel, closing_takes_back_an_end_that_was_not_told_yet)
{
    struct pair pair;
    pair_open(&pair);
    pair.io->write_fails = true;
    channel_write(pair.driver.channel, bytes_of("x"));
    channel_flush(pair.driver.channel);
    channel_close(pair.driver.channel);
    drive_idle(&pair.driver);
    cr_assert_eq(pair.driver.closed, 0);
    pair_end(&pair);
}

/* ---- what callbacks may do ----------------------------------------------------------------- */

static void close_channel(struct driver *driver)
{
    channel_close(driver->channel);
}

Test(channel, may_be_closed_from_on_open)
{
    struct pair pair;
    pair_begin(&pair);
    pair.driver.when_open = close_channel;
    peer_send(pair.peer, "x", 1);
    drive_idle(&pair.driver);
    cr_assert_eq(pair.driver.opened, 1);
    cr_assert_eq(pair.driver.deliveries, 0);
    cr_assert_eq(pair.driver.closed, 0);
    pair_end(&pair);
}

Test(channel, may_be_closed_from_on_data)
{
    struct pair pair;
    pair_open(&pair);
    pair.driver.when_data = close_channel;
    pair.io->held = 3 * BUDGET;
    peer_send(pair.peer, "x", 1);
    drive_idle(&pair.driver);
    cr_assert_eq(pair.driver.deliveries, 1);
    cr_assert_eq(pair.driver.closed, 0);
    pair_end(&pair);
}

static void open_again(struct driver *driver)
{
    int sockets[2];
    driver->when_data = driver->when_closed = NULL;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sockets), 0);
    channel_close(driver->channel);
    channel_open_socket(driver->channel, sockets[0], io_tcp_new(), 1000);
    peer_send(sockets[1], "second", 6);
    close(sockets[1]);
}

Test(channel, may_be_opened_again_from_on_data)
{
    struct pair pair;
    pair_open(&pair);
    pair.driver.when_data = open_again;
    peer_send(pair.peer, "first", 5);
    DRIVE_UNTIL(&pair.driver, pair.driver.closed == 1);
    cr_assert(driver_received(&pair.driver, "firstsecond"));
    cr_assert_eq(pair.driver.opened, 2);
    pair_end(&pair);
}

Test(channel, may_be_opened_again_from_on_closed)
{
    struct pair pair;
    pair_open(&pair);
    pair.driver.when_closed = open_again;
    peer_hang_up(&pair);
    DRIVE_UNTIL(&pair.driver, pair.driver.closed == 2);
    cr_assert(driver_received(&pair.driver, "second"));
    pair_end(&pair);
}

/* ---- reading ------------------------------------------------------------------------------- */

Test(channel, gives_the_rest_again_with_more_behind_it)
{
    struct pair pair;
    pair_open(&pair);
    pair.driver.consume_at_most = 2;
    peer_send(pair.peer, "abc", 3);
    drive_idle(&pair.driver);
    cr_assert(driver_received(&pair.driver, "ab"));
    cr_assert_eq(pair.driver.deliveries, 1, "no new input: not called again");
    pair.driver.consume_at_most = 0;
    peer_send(pair.peer, "de", 2);
    drive_idle(&pair.driver);
    cr_assert(driver_received(&pair.driver, "abcde"));
    cr_assert_eq(pair.driver.last_input, 3);
    pair_end(&pair);
}

Test(channel, goes_on_with_a_full_buffer_as_long_as_there_is_progress)
{
    struct pair pair;
    pair_begin_sized(&pair, (struct channel_sizes){64, 64, 64});
    DRIVE_UNTIL(&pair.driver, pair.driver.opened == 1);
    pair.driver.consume_at_most = 1;
    char text[200];
    memset(text, 'x', sizeof text);
    peer_send(pair.peer, text, sizeof text);
    DRIVE_UNTIL(&pair.driver, pair.driver.received_length >= 100);
    cr_assert_eq(pair.driver.closed, 0);
    pair_end(&pair);
}

static size_t consume_nothing(void *context, struct bytes input)
{
    struct driver *driver = context;
    driver->last_input = input.length;
    return 0;
}

Test(channel, ends_without_progress_on_a_full_buffer)
{
    struct pair pair;
    static const struct channel_events events = {driver_on_open, consume_nothing, driver_on_closed};
    pair_open(&pair);
    pair.driver.channel->events = &events;
    static char text[16384];
    pair.io->held = sizeof text - 1;
    peer_send(pair.peer, "x", 1);
    DRIVE_UNTIL(&pair.driver, pair.driver.closed == 1);
    cr_assert_eq(pair.driver.last_input, sizeof text);
    cr_assert_str_eq(pair.driver.reason,
                     "a message of the peer does not fit in the input buffer of 16384 bytes");
    pair_end(&pair);
}

Test(channel, reads_a_bounded_part_at_each_turn)
{
    struct pair pair;
    pair_open(&pair);
    pair.io->held = 10 * BUDGET;
    peer_send(pair.peer, "x", 1);
    for (unsigned turn = 1; turn <= 4; turn++) {
        event_base_loop(pair.driver.net.base, EVLOOP_ONCE);
        cr_assert_eq(pair.io->read_in_all, turn * BUDGET, "turn %u", turn);
    }
    pair_end(&pair);
}

/* As TLS does when one read of the socket brought many records: no event tells of the rest. */
Test(channel, does_not_forget_what_only_the_io_holds)
{
    struct pair pair;
    pair_open(&pair);
    pair.io->swells = 5 * BUDGET + 7;
    pair.io->read_at_most = 1000;
    peer_send(pair.peer, "x", 1);
    drive_idle(&pair.driver);
    cr_assert_eq(pair.driver.received_length, 5 * BUDGET + 8);
    pair_end(&pair);
}

/* ---- writing ------------------------------------------------------------------------------- */

Test(channel, sends_nothing_before_the_flush_and_all_with_one_write)
{
    struct pair pair;
    char text[64];
    pair_open(&pair);
    channel_write(pair.driver.channel, bytes_of("one "));
    channel_write(pair.driver.channel, bytes_of("two"));
    cr_assert_eq(pair.io->writes, 0);
    cr_assert_eq(channel_pending(pair.driver.channel), 7);
    cr_assert_eq(channel_appended(pair.driver.channel), 7);
    cr_assert_eq(channel_written(pair.driver.channel), 0);
    channel_flush(pair.driver.channel);
    cr_assert_eq(pair.io->writes, 1);
    cr_assert_eq(channel_pending(pair.driver.channel), 0);
    cr_assert_eq(channel_written(pair.driver.channel), 7);
    cr_assert_eq(peer_receive(&pair, text, sizeof text), 7);
    cr_assert_eq(memcmp(text, "one two", 7), 0);
    pair_end(&pair);
}

Test(channel, sends_what_was_written_before_it_was_open)
{
    struct pair pair;
    char text[64];
    pair_begin(&pair);
    channel_write(pair.driver.channel, bytes_of("early"));
    channel_flush(pair.driver.channel);
    cr_assert_eq(channel_pending(pair.driver.channel), 5);
    DRIVE_UNTIL(&pair.driver, channel_pending(pair.driver.channel) == 0);
    cr_assert_eq(peer_receive(&pair, text, sizeof text), 5);
    pair_end(&pair);
}

Test(channel, goes_on_by_itself_after_short_writes)
{
    struct pair pair;
    char text[64];
    pair_open(&pair);
    pair.io->write_at_most = 3;
    pair.io->write_again = 1;
    channel_write(pair.driver.channel, bytes_of("0123456789"));
    channel_flush(pair.driver.channel);
    cr_assert_eq(channel_pending(pair.driver.channel), 10);
    channel_write(pair.driver.channel, bytes_of("abc"));
    DRIVE_UNTIL(&pair.driver, channel_pending(pair.driver.channel) == 0);
    cr_assert_eq(channel_written(pair.driver.channel), 13);
    cr_assert_eq(peer_receive(&pair, text, sizeof text), 13);
    cr_assert_eq(memcmp(text, "0123456789abc", 13), 0);
    pair_end(&pair);
}

Test(channel, waits_for_reading_where_a_write_wants_it)
{
    struct pair pair;
    pair_open(&pair);
    pair.io->write_again = 1;
    pair.io->want_while_again = IO_WANT_READ;
    channel_write(pair.driver.channel, bytes_of("x"));
    channel_flush(pair.driver.channel);
    drive_idle(&pair.driver);
    cr_assert_eq(channel_pending(pair.driver.channel), 1, "writable alone is not what it wants");
    peer_send(pair.peer, "k", 1);
    DRIVE_UNTIL(&pair.driver, channel_pending(pair.driver.channel) == 0);
    pair_end(&pair);
}

Test(channel, carries_a_lot_both_ways_in_order)
{
    enum { size = 3 << 20 };
    struct pair pair;
    pair_begin_sized(&pair, (struct channel_sizes){16384, 4096, size});
    DRIVE_UNTIL(&pair.driver, pair.driver.opened == 1);
    uint8_t *text = malloc(size);
    uint8_t *back = malloc(size);
    for (size_t i = 0; i < size; i++)
        text[i] = (uint8_t)(i * 2654435761u >> 13);
    channel_write(pair.driver.channel, (struct bytes){text, size});
    channel_flush(pair.driver.channel);
    size_t got = 0;
    size_t sent = 0;
    while (got < size || pair.driver.received_length < size) {
        ssize_t result = recv(pair.peer, back + got, size - got, 0);
        got += result > 0 ? (size_t)result : 0;
        result = send(pair.peer, text + sent, size - sent, MSG_NOSIGNAL);
        sent += result > 0 ? (size_t)result : 0;
        event_base_loop(pair.driver.net.base, EVLOOP_NONBLOCK);
    }
    cr_assert_eq(memcmp(text, back, size), 0);
    cr_assert_eq(memcmp(text, pair.driver.received, size), 0);
    cr_assert_eq(channel_written(pair.driver.channel), size);
    free(text);
    free(back);
    pair_end(&pair);
}

Test(channel, output_grows_when_needed_and_shrinks_when_it_fits_again)
{
    struct pair pair;
    static uint8_t text[10000];
    pair_open(&pair);
    channel_write(pair.driver.channel, (struct bytes){text, sizeof text});
    cr_assert_eq(pair.driver.channel->output.size, 16384);
    channel_flush(pair.driver.channel);
    DRIVE_UNTIL(&pair.driver, channel_pending(pair.driver.channel) == 0);
    cr_assert_eq(pair.driver.channel->output.size, 16384, "the next one may be as large");
    channel_write(pair.driver.channel, (struct bytes){text, 100});
    channel_flush(pair.driver.channel);
    cr_assert_eq(pair.driver.channel->output.size, 4096);
    pair_end(&pair);
}

Test(channel, ends_at_the_flush_when_output_exceeds_its_bound)
{
    struct pair pair;
    static uint8_t text[1 << 20];
    pair_open(&pair);
    channel_write(pair.driver.channel, (struct bytes){text, sizeof text});
    drive_idle(&pair.driver);
    cr_assert(channel_is_open(pair.driver.channel));
    channel_write(pair.driver.channel, bytes_of("x"));
    cr_assert_eq(channel_appended(pair.driver.channel), sizeof text, "dropped, not overwritten");
    cr_assert(channel_is_open(pair.driver.channel));
    channel_flush(pair.driver.channel);
    cr_assert_eq(pair.driver.closed, 0, "not from inside the call");
    DRIVE_UNTIL(&pair.driver, pair.driver.closed > 0);
    cr_assert_str_eq(pair.driver.reason,
                     "more output is waiting than may be buffered (at most 1048576 bytes)");
    pair_end(&pair);
}

Test(channel, reads_the_last_words_before_it_tells_of_a_failed_write)
{
    struct pair pair;
    pair_open(&pair);
    peer_send(pair.peer, "why I go", 8);
    pair.io->write_fails = true;
    channel_write(pair.driver.channel, bytes_of("x"));
    channel_flush(pair.driver.channel);
    channel_flush(pair.driver.channel);
    cr_assert_eq(pair.driver.closed, 0, "not from inside the call");
    DRIVE_UNTIL(&pair.driver, pair.driver.closed > 0);
    cr_assert(driver_received(&pair.driver, "why I go"));
    cr_assert_str_eq(pair.driver.reason, "write: the script says no");
    drive_idle(&pair.driver);
    cr_assert_eq(pair.driver.closed, 1);
    pair_end(&pair);
}

Test(channel, forgets_the_old_connection_when_opened_again)
{
    struct pair pair;
    pair_open(&pair);
    pair.io->write_again = 1000;
    channel_write(pair.driver.channel, bytes_of("old"));
    channel_flush(pair.driver.channel);
    pair.driver.consume_at_most = 1;
    open_again(&pair.driver);
    cr_assert_eq(channel_pending(pair.driver.channel), 0);
    cr_assert_eq(channel_appended(pair.driver.channel), 0);
    pair.driver.consume_at_most = 0;
    DRIVE_UNTIL(&pair.driver, pair.driver.closed == 1);
    cr_assert(driver_received(&pair.driver, "second"));
    pair_end(&pair);
}
