/*
 * The one status of the lower floors. A function that can fail for a reason the caller must tell
 * apart returns it; the text for people comes from the caller, who knows stream, broker and file.
 */
#ifndef NEMOGATE_CODEC_STATUS_H
#define NEMOGATE_CODEC_STATUS_H

enum status {
    STATUS_OK = 0,
    STATUS_AGAIN,     /* not now: more input, more room or more time is needed */
    STATUS_MALFORMED, /* the input breaks its specification */
    STATUS_TOO_LARGE, /* a limit of the configuration, the peer or the buffer is exceeded */
    STATUS_CLOSED,    /* the peer has ended the stream in an orderly way */
    STATUS_FAILED,    /* the operation failed; the object's error text says why */
};

/* A result that must not be ignored. */
#define MUST_CHECK __attribute__((warn_unused_result))

#endif
