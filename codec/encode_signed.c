/*
 * The signed envelope. SHA-256 is wolfCrypt's; this file is its door. HMAC's two key blocks are
 * hashed once, when the key is loaded, and each message goes on from copies of those two states
 * [RFC 2104, 4].
 */
#include "codec/encode_signed.h"

#include "codec/json_text.h"
#include "codec/mqtt_wire.h"

#include <stdlib.h>
#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/sha256.h>

#define HEAD "{\"payload\": \""
#define MIDDLE "\", \"hmac\": \""
#define TAIL "\", \"algo\": \"sha256\"}"
#define HEX_SIZE (2 * (size_t)WC_SHA256_DIGEST_SIZE)
#define FRAME_SIZE (sizeof HEAD - 1 + sizeof MIDDLE - 1 + HEX_SIZE + sizeof TAIL - 1)

struct signer {
    wc_Sha256 inner; /* after the block key XOR ipad */
    wc_Sha256 outer; /* after the block key XOR opad */
};

/* ---- the key ------------------------------------------------------------------------------ */

/* What Python's str.strip takes away, one character at the front of text: its length, or 0. */
static size_t blank_at(struct bytes text)
{
    static const char *const wide[] = {
        "\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\x80", "\xe2\x80\x81",
        "\xe2\x80\x82", "\xe2\x80\x83", "\xe2\x80\x84", "\xe2\x80\x85", "\xe2\x80\x86",
        "\xe2\x80\x87", "\xe2\x80\x88", "\xe2\x80\x89", "\xe2\x80\x8a", "\xe2\x80\xa8",
        "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80",
    };
    uint8_t c = text.data[0];
    if (c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1c && c <= 0x1f))
        return 1;
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        size_t length = strlen(wide[i]);
        if (length <= text.length && memcmp(text.data, wide[i], length) == 0)
            return length;
    }
    return 0;
}

static bool ends_blank(struct bytes text)
{
    for (size_t length = 1; length <= 3 && length <= text.length; length++) {
        struct bytes last = {text.data + text.length - length, length};
        if (blank_at(last) == length)
            return true;
    }
    return false;
}

const char *signer_key_fault(struct bytes key)
{
    size_t size;
    if (key.length == 0)
        return "the key is empty";
    if (json_text_size(key, &size) != JSON_TEXT_OK)
        return "the key is not UTF-8 text";
    if (blank_at(key) > 0)
        return "the key begins with a blank";
    if (ends_blank(key))
        return "the key ends with a blank or a second line end";
    return NULL;
}

/* The state after one block of the key XOR pad. */
static bool start_state(wc_Sha256 *state, const uint8_t *key_block, uint8_t pad)
{
    uint8_t block[WC_SHA256_BLOCK_SIZE];
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = key_block[i] ^ pad;
    bool good =
        wc_InitSha256(state) == 0 && wc_Sha256Update(state, block, (word32)sizeof block) == 0;
    explicit_bzero(block, sizeof block);
    return good;
}

/* A key over one block is replaced by its hash [RFC 2104, 2]. */
static bool shorten(struct bytes key, uint8_t *key_block)
{
    wc_Sha256 state;
    bool good = wc_InitSha256(&state) == 0 &&
                wc_Sha256Update(&state, key.data, (word32)key.length) == 0 &&
                wc_Sha256Final(&state, key_block) == 0;
    explicit_bzero(&state, sizeof state);
    return good;
}

struct signer *signer_new(struct bytes key)
{
    if (signer_key_fault(key) != NULL || key.length > UINT32_MAX)
        return NULL;
    struct signer *signer = calloc(1, sizeof *signer);
    if (signer == NULL)
        return NULL;
    uint8_t key_block[WC_SHA256_BLOCK_SIZE] = {0};
    bool good = true;
    if (key.length > sizeof key_block)
        good = shorten(key, key_block);
    else
        memcpy(key_block, key.data, key.length);
    good = good && start_state(&signer->inner, key_block, 0x36) &&
           start_state(&signer->outer, key_block, 0x5c);
    explicit_bzero(key_block, sizeof key_block);
    if (!good) {
        signer_free(signer);
        return NULL;
    }
    return signer;
}

void signer_free(struct signer *signer)
{
    if (signer == NULL)
        return;
    wc_Sha256Free(&signer->inner);
    wc_Sha256Free(&signer->outer);
    explicit_bzero(signer, sizeof *signer);
    free(signer);
}

/* ---- the envelope ------------------------------------------------------------------------- */

size_t signed_size(struct bytes payload, struct stream_entry_fault *fault)
{
    if (payload.length > MQTT_MAX_REMAINING_LENGTH) {
        *fault = (struct stream_entry_fault){"payload-too-large",
                                             "the payload exceeds every MQTT packet"};
        return 0;
    }
    size_t size = 0;
    switch (json_text_size(payload, &size)) {
    case JSON_TEXT_OK:
        return FRAME_SIZE + size;
    case JSON_TEXT_SURROGATE:
        *fault = (struct stream_entry_fault){
            "lone-surrogate", "the payload holds a surrogate, which cannot be signed as UTF-8"};
        return 0;
    case JSON_TEXT_NOT_UTF8:
        *fault = (struct stream_entry_fault){
            "not-utf8", "the payload is not UTF-8, which a signed envelope must hold"};
        return 0;
    }
    return 0;
}

/* One hash over what stands in start and data. start is left as it is: wolfCrypt copies from it,
 * but takes it without const. */
static bool hash_from(const wc_Sha256 *start, struct bytes data, uint8_t *digest)
{
    wc_Sha256 state;
    if (wc_Sha256Copy((wc_Sha256 *)(uintptr_t)start, &state) != 0)
        return false;
    bool good =
        (data.length == 0 || wc_Sha256Update(&state, data.data, (word32)data.length) == 0) &&
        wc_Sha256Final(&state, digest) == 0;
    wc_Sha256Free(&state);
    return good;
}

static void put_hex(struct writer *w, const uint8_t *digest)
{
    static const char digits[] = "0123456789abcdef";
    if (!writer_has(w, HEX_SIZE))
        return;
    for (size_t i = 0; i < WC_SHA256_DIGEST_SIZE; i++) {
        *w->at++ = (uint8_t)digits[digest[i] >> 4];
        *w->at++ = (uint8_t)digits[digest[i] & 15];
    }
}

void signed_put(struct writer *w, const struct signer *signer, struct bytes payload)
{
    uint8_t *start = w->at;
    uint8_t digest[WC_SHA256_DIGEST_SIZE];
    if (payload.length > MQTT_MAX_REMAINING_LENGTH || !hash_from(&signer->inner, payload, digest) ||
        !hash_from(&signer->outer, (struct bytes){digest, sizeof digest}, digest)) {
        w->failed = true;
        return;
    }
    writer_put_bytes(w, bytes_of(HEAD));
    json_text_put(w, payload);
    writer_put_bytes(w, bytes_of(MIDDLE));
    put_hex(w, digest);
    writer_put_bytes(w, bytes_of(TAIL));
    if (!writer_ok(w))
        w->at = start;
}
