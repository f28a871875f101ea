/*
 * The door between threads: nothing is lost, each thread's messages come in its order, on the
 * loop's thread. ThreadSanitizer looks at the rest.
 */
#include "core/mailbox.h"

#include <criterion/criterion.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POSTERS 4

struct inbox {
    struct event_base *base;
    struct mailbox *mailbox;
    pthread_t thread;
    uint64_t next[POSTERS]; /* the count that is to come from each */
    unsigned received;
    unsigned wanted;
    unsigned repost; /* so many more are posted from within deliver */
    enum mail_kind last_kind;
    char last_text[32];
    bool last_text_null;
};

static void deliver(void *context, const struct mail *mail)
{
    struct inbox *inbox = context;
    char text[32];
    cr_assert(pthread_equal(pthread_self(), inbox->thread));
    cr_assert_lt(mail->slot, POSTERS);
    cr_assert_eq(mail->count, inbox->next[mail->slot], "%u: %lu came, %lu was to come", mail->slot,
                 (unsigned long)mail->count, (unsigned long)inbox->next[mail->slot]);
    inbox->next[mail->slot]++;
    inbox->last_kind = mail->kind;
    inbox->last_text_null = mail->text == NULL;
    snprintf(inbox->last_text, sizeof inbox->last_text, "%s", mail->text != NULL ? mail->text : "");
    if (mail->kind == MAIL_STREAM_FOUND) {
        snprintf(text, sizeof text, "%u-%lu", mail->slot, (unsigned long)mail->count);
        cr_assert_str_eq(mail->text, text);
    }
    if (inbox->repost > 0) {
        inbox->repost--;
        cr_assert(mailbox_post(inbox->mailbox, MAIL_DRAIN, mail->slot, mail->count + 1, NULL));
    }
    if (++inbox->received == inbox->wanted)
        event_base_loopbreak(inbox->base);
}

static void on_too_late(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    event_base_loopbreak(context);
}

static void open_inbox(struct inbox *inbox)
{
    *inbox = (struct inbox){.base = event_base_new(), .thread = pthread_self()};
    cr_assert_not_null(inbox->base);
    inbox->mailbox = mailbox_new(inbox->base, deliver, inbox);
    cr_assert_not_null(inbox->mailbox);
}

static void close_inbox(struct inbox *inbox)
{
    mailbox_free(inbox->mailbox);
    event_base_free(inbox->base);
}

/* Turns the loop until so many messages have come; fails after 60 s. */
static void receive(struct inbox *inbox, unsigned wanted)
{
    struct event *guard = event_new(inbox->base, -1, 0, on_too_late, inbox->base);
    event_add(guard, &(struct timeval){.tv_sec = 60});
    inbox->wanted = wanted;
    event_base_dispatch(inbox->base);
    event_free(guard);
    cr_assert_eq(inbox->received, wanted);
}

Test(mailbox, delivers_what_was_posted)
{
    struct inbox inbox;
    char text[] = "0-1";
    open_inbox(&inbox);
    cr_expect(mailbox_post(inbox.mailbox, MAIL_SLOT_STOPPED, 0, 0, NULL));
    receive(&inbox, 1);
    cr_expect_eq(inbox.last_kind, MAIL_SLOT_STOPPED);
    cr_expect(inbox.last_text_null);
    cr_expect(mailbox_post(inbox.mailbox, MAIL_STREAM_FOUND, 0, 1, text));
    memset(text, 'x', sizeof text - 1); /* the text is copied */
    receive(&inbox, 2);
    cr_expect_str_eq(inbox.last_text, "0-1");
    close_inbox(&inbox);
}

Test(mailbox, wakes_a_loop_that_sleeps_for_each_batch)
{
    struct inbox inbox;
    open_inbox(&inbox);
    for (unsigned i = 0; i < 1000; i++) {
        cr_assert(mailbox_post(inbox.mailbox, MAIL_DRAIN, i % POSTERS, i / POSTERS, NULL));
        receive(&inbox, i + 1);
    }
    close_inbox(&inbox);
}

Test(mailbox, takes_posts_from_its_own_delivery)
{
    struct inbox inbox;
    open_inbox(&inbox);
    inbox.repost = 99;
    cr_expect(mailbox_post(inbox.mailbox, MAIL_DRAIN, 2, 0, NULL));
    receive(&inbox, 100);
    close_inbox(&inbox);
}

Test(mailbox, drops_what_was_not_delivered)
{
    struct inbox inbox;
    open_inbox(&inbox);
    for (unsigned i = 0; i < 10; i++)
        cr_assert(mailbox_post(inbox.mailbox, MAIL_STREAM_FOUND, 0, i, "never read"));
    close_inbox(&inbox);
    cr_expect_eq(inbox.received, 0);
}

struct poster {
    struct mailbox *mailbox;
    unsigned number;
    unsigned count;
    pthread_t thread;
};

static void *post_all(void *context)
{
    const struct poster *poster = context;
    for (unsigned i = 0; i < poster->count; i++) {
        char text[32];
        snprintf(text, sizeof text, "%u-%u", poster->number, i);
        bool with_text = i % 3 == 0;
        if (!mailbox_post(poster->mailbox, with_text ? MAIL_STREAM_FOUND : MAIL_SLOT_RUNNING,
                          poster->number, i, with_text ? text : NULL))
            abort();
    }
    return NULL;
}

Test(mailbox, several_threads_lose_nothing_and_keep_their_order, .timeout = 100)
{
    enum { EACH = 50000 };
    struct inbox inbox;
    struct poster posters[POSTERS];
    open_inbox(&inbox);
    for (unsigned i = 0; i < POSTERS; i++) {
        posters[i] = (struct poster){.mailbox = inbox.mailbox, .number = i, .count = EACH};
        cr_assert_eq(pthread_create(&posters[i].thread, NULL, post_all, &posters[i]), 0);
    }
    receive(&inbox, POSTERS * EACH);
    for (unsigned i = 0; i < POSTERS; i++) {
        pthread_join(posters[i].thread, NULL);
        cr_expect_eq(inbox.next[i], EACH);
    }
    close_inbox(&inbox);
}
