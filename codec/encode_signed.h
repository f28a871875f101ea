/*
 * The encoding `signed`: the JSON envelope with an HMAC-SHA256 [RFC 2104] that the NEMO plugins
 * publish and their displays' server verifies, byte for byte as Python's
 * json.dumps({"payload": ..., "hmac": ..., "algo": "sha256"}) writes it. The signature is over the
 * payload's own bytes. There is no way to an unsigned message: what cannot be signed is refused.
 */
#ifndef NEMOGATE_CODEC_ENCODE_SIGNED_H
#define NEMOGATE_CODEC_ENCODE_SIGNED_H

#include "codec/bytes.h"
#include "codec/status.h"
#include "codec/stream_entry.h"

/* A key, ready to sign. Used by one thread at a time; each thread makes its own. */
struct signer;

/* NULL when the key, without the final line end of its file, is one that both verifiers take; else
 * a static text of what is wrong with it: empty, blanks at its begin or end (one verifier strips
 * them, the other does not), not UTF-8 (the key is text there). The text never holds the key. */
const char *signer_key_fault(struct bytes key);

/* The key is borrowed for the call; what is kept of it is wiped by signer_free. NULL: the key has a
 * fault, or there is no memory. Owned by the caller. */
MUST_CHECK struct signer *signer_new(struct bytes key);
void signer_free(struct signer *signer); /* may be NULL */

/* The exact size of the payload's envelope. 0: the payload can never be signed, and *fault says
 * why: "lone-surrogate", "not-utf8", or "payload-too-large" where it exceeds every MQTT packet. */
MUST_CHECK size_t signed_size(struct bytes payload, struct stream_entry_fault *fault);

/* Writes the envelope. No allocation. Fails the writer, and leaves nothing in it that could be
 * taken for a message, when there is less room than signed_size or the payload cannot be signed. */
void signed_put(struct writer *w, const struct signer *signer, struct bytes payload);

#endif
