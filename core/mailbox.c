/*
 * Append under a mutex, wake the reader only when the queue was empty; the reader detaches all,
 * unlocks, then dispatches.
 */
#include "core/mailbox.h"

#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct mailbox {
    struct event *wake;
    int fd;
    void (*deliver)(void *context, const struct mail *mail);
    void *context;
    struct {
        pthread_mutex_t lock; /* guards the two below */
        struct mail *first;
        struct mail **last;
    } shared;
};

static struct mail *detach_all(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->shared.lock);
    struct mail *first = mailbox->shared.first;
    mailbox->shared.first = NULL;
    mailbox->shared.last = &mailbox->shared.first;
    pthread_mutex_unlock(&mailbox->shared.lock);
    return first;
}

static void free_mail(struct mail *mail)
{
    free(mail->text);
    free(mail->data);
    free(mail);
}

static void on_wake(evutil_socket_t fd, short what, void *context)
{
    (void)what;
    struct mailbox *mailbox = context;
    uint64_t count;
    /* The counter must be cleared before the queue is detached: a message posted in between then
     * wakes the loop once more instead of never. */
    if (read(fd, &count, sizeof count) < 0)
        return;
    struct mail *mail = detach_all(mailbox);
    while (mail != NULL) {
        struct mail *next = mail->next;
        mailbox->deliver(mailbox->context, mail);
        free_mail(mail);
        mail = next;
    }
}

struct mailbox *mailbox_new(struct event_base *base,
                            void (*deliver)(void *context, const struct mail *mail), void *context)
{
    struct mailbox *mailbox = calloc(1, sizeof *mailbox);
    if (mailbox == NULL)
        return NULL;
    mailbox->deliver = deliver;
    mailbox->context = context;
    mailbox->shared.last = &mailbox->shared.first;
    pthread_mutex_init(&mailbox->shared.lock, NULL);
    mailbox->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (mailbox->fd >= 0)
        mailbox->wake = event_new(base, mailbox->fd, EV_READ | EV_PERSIST, on_wake, mailbox);
    if (mailbox->wake == NULL || event_add(mailbox->wake, NULL) != 0) {
        mailbox_free(mailbox);
        return NULL;
    }
    return mailbox;
}

void mailbox_free(struct mailbox *mailbox)
{
    if (mailbox == NULL)
        return;
    if (mailbox->wake != NULL)
        event_free(mailbox->wake);
    if (mailbox->fd >= 0)
        close(mailbox->fd);
    for (struct mail *mail = detach_all(mailbox), *next; mail != NULL; mail = next) {
        next = mail->next;
        free_mail(mail);
    }
    pthread_mutex_destroy(&mailbox->shared.lock);
    free(mailbox);
}

static struct mail *make(enum mail_kind kind, unsigned slot, uint64_t count)
{
    struct mail *mail = calloc(1, sizeof *mail);
    if (mail == NULL)
        return NULL;
    mail->kind = kind;
    mail->slot = slot;
    mail->count = count;
    return mail;
}

static void append(struct mailbox *mailbox, struct mail *mail)
{
    pthread_mutex_lock(&mailbox->shared.lock);
    bool was_empty = mailbox->shared.first == NULL;
    *mailbox->shared.last = mail;
    mailbox->shared.last = &mail->next;
    pthread_mutex_unlock(&mailbox->shared.lock);
    if (was_empty) {
        uint64_t one = 1;
        ssize_t written = write(mailbox->fd, &one, sizeof one);
        (void)written; /* an eventfd refuses only at its maximum, and then it is readable already */
    }
}

bool mailbox_post(struct mailbox *mailbox, enum mail_kind kind, unsigned slot, uint64_t count,
                  const char *text)
{
    struct mail *mail = make(kind, slot, count);
    if (mail == NULL)
        return false;
    if (text != NULL && (mail->text = strdup(text)) == NULL) {
        free(mail);
        return false;
    }
    append(mailbox, mail);
    return true;
}

bool mailbox_post_data(struct mailbox *mailbox, enum mail_kind kind, unsigned slot, uint64_t count,
                       void *data)
{
    struct mail *mail = make(kind, slot, count);
    if (mail == NULL) {
        free(data);
        return false;
    }
    mail->data = data;
    append(mailbox, mail);
    return true;
}
