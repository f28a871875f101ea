/*
 * The gateway's JSON for scripts: reads one command per line, answers with one line. For the tests
 * that compare it with Python's json and hmac; it is not installed and judges nothing itself.
 *   sign KEY PAYLOAD  -> the signed envelope, or "refused REASON"
 *   read TEXT         -> topic=HEX payload=HEX qos=N retain=N ts=MS, or "refused REASON"
 *   key KEY           -> "good", or what is wrong
 * Every argument and every text is in hex with an 'x' before it, so that none is empty.
 */
#include "codec/encode_signed.h"
#include "codec/legacy_envelope.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void fail(const char *what)
{
    fprintf(stderr, "json_tool: %s\n", what);
    exit(2);
}

static uint8_t *memory_of(size_t size)
{
    uint8_t *memory = malloc(size > 0 ? size : 1);
    if (memory == NULL)
        fail("out of memory");
    return memory;
}

static uint8_t nibble(char digit)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = digit != '\0' ? strchr(digits, digit) : NULL;
    if (at == NULL)
        fail("an argument is not hex");
    return (uint8_t)(at - digits);
}

/* Decodes in place. */
static struct bytes octets(char *argument)
{
    if (argument == NULL || *argument != 'x')
        fail("an argument is missing");
    char *hex = argument + 1;
    size_t length = strlen(hex) / 2;
    uint8_t *data = (uint8_t *)argument;
    for (size_t i = 0; i < length; i++)
        data[i] = (uint8_t)(nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
    return (struct bytes){data, length};
}

static void print_hex(const char *before, struct bytes view)
{
    printf("%sx", before);
    for (size_t i = 0; i < view.length; i++)
        printf("%02x", view.data[i]);
}

static void do_sign(struct bytes key, struct bytes payload)
{
    struct stream_entry_fault fault = {NULL, NULL};
    struct signer *signer = signer_new(key);
    if (signer == NULL)
        fail("the key is none");
    size_t size = signed_size(payload, &fault);
    if (size == 0) {
        printf("refused %s", fault.reason);
    } else {
        uint8_t *memory = memory_of(size);
        struct writer w = writer_over(memory, size);
        signed_put(&w, signer, payload);
        if (!writer_ok(&w) || writer_length(&w) != size)
            fail("signed_size and signed_put disagree");
        print_hex("", (struct bytes){memory, size});
        free(memory);
    }
    signer_free(signer);
}

static void do_read(struct bytes text)
{
    struct legacy_envelope envelope;
    struct stream_entry_fault fault = {NULL, NULL};
    uint8_t *scratch = memory_of(text.length);
    if (legacy_envelope_read(text, scratch, &envelope, &fault) == STATUS_OK) {
        print_hex("topic=", envelope.topic);
        print_hex(" payload=", envelope.payload);
        printf(" qos=%u retain=%d", envelope.qos, envelope.retain);
        if (envelope.has_ts)
            printf(" ts=%" PRIu64, envelope.ts_ms);
    } else {
        printf("refused %s", fault.reason);
    }
    free(scratch);
}

static void do_line(char *line)
{
    char *rest = NULL;
    const char *verb = strtok_r(line, " \n", &rest);
    if (verb == NULL)
        fail("an empty line");
    struct bytes first = octets(strtok_r(NULL, " \n", &rest));
    if (strcmp(verb, "sign") == 0) {
        do_sign(first, octets(strtok_r(NULL, " \n", &rest)));
    } else if (strcmp(verb, "read") == 0) {
        do_read(first);
    } else if (strcmp(verb, "key") == 0) {
        const char *fault = signer_key_fault(first);
        printf("%s", fault == NULL ? "good" : fault);
    } else {
        fail("unknown command");
    }
    printf("\n");
}

int main(void)
{
    char *line = NULL;
    size_t capacity = 0;
    while (getline(&line, &capacity, stdin) > 0) {
        do_line(line);
        fflush(stdout);
    }
    free(line);
    return 0;
}
