/*
 * Requests to the admin server from hostile bytes. Input: one byte that says where the request is
 * cut, then the request. What is read of it twice, once with its beginning before it, must be the
 * same; a view must lie in what was read; and nothing that could be taken for two different
 * requests may pass.
 */
#include "core/admin_http_private.h"
#include "tests/fuzz/fuzz_input.h"

#include <strings.h>

static bool lies_in(const struct http_reading *reading, const char *text)
{
    return text[0] == '\0' || (text > reading->head && text < reading->head + sizeof reading->head);
}

/* How many lines of the head have this name. */
static unsigned count_lines(struct bytes head, const char *name)
{
    size_t length = strlen(name);
    unsigned count = 0;
    for (size_t i = 0; i + length + 2 <= head.length; i++)
        count += head.data[i] == '\n' &&
                 strncasecmp((const char *)head.data + i + 1, name, length) == 0 &&
                 head.data[i + 1 + length] == ':';
    return count;
}

/* What readers are known to differ about [RFC 9112, 11.2]: whole lines, and one length. */
static void check_head(struct bytes head)
{
    for (size_t i = 0; i < head.length; i++) {
        uint8_t c = head.data[i];
        require(c != '\0' && (c != '\n' || (i > 0 && head.data[i - 1] == '\r')));
        require(c != '\r' || (i + 1 < head.length && head.data[i + 1] == '\n'));
        require(i == 0 || head.data[i - 1] != '\n' || (c != ' ' && c != '\t'));
    }
    require(count_lines(head, "Content-Length") <= 1 && count_lines(head, "Host") <= 1);
    require(count_lines(head, "Transfer-Encoding") == 0);
}

static void check_request(const struct http_reading *reading, struct bytes input, size_t used)
{
    const struct http_request *request = &reading->request;
    require(request->method == reading->head && request->method[0] != '\0');
    require(request->path[0] == '/' && strpbrk(request->path, " ?\r\n\t") == NULL);
    require(strpbrk(request->query, " \r\n\t") == NULL);
    require(lies_in(reading, request->path) && lies_in(reading, request->query));
    require(lies_in(reading, request->host) && lies_in(reading, request->authorization));
    require(lies_in(reading, request->content_type) && lies_in(reading, request->marker));
    require(strpbrk(request->host, "\r\n") == NULL);
    require(strpbrk(request->authorization, "\r\n") == NULL);
    require(used <= input.length && request->body.length <= HTTP_BODY_MAX);
    require(request->body.data + request->body.length == input.data + used);
    check_head((struct bytes){input.data, used - request->body.length});
}

static void check_query(const char *query)
{
    static const char *const names[] = {"site", "limit", "a", ""};
    char value[16];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (http_query_value(query, names[i], value, sizeof value))
            require(strlen(value) < sizeof value && strlen(value) <= strlen(query));
}

/* More bytes change nothing of what is known, and what is whole does not depend on what follows. */
static void check_beginning(struct bytes input, size_t length, enum http_outcome outcome,
                            size_t used, struct http_reading *reading)
{
    size_t used_then = 0;
    enum http_outcome then =
        http_read_request((struct bytes){input.data, length}, reading, &used_then);
    if (then != HTTP_INCOMPLETE && then != HTTP_HEAD_ONLY)
        require(then == outcome && used_then == (then == HTTP_COMPLETE ? used : 0));
    if (then == HTTP_HEAD_ONLY)
        require(outcome == HTTP_HEAD_ONLY || outcome == HTTP_COMPLETE);
    if (then == HTTP_COMPLETE)
        check_request(reading, (struct bytes){input.data, length}, used_then);
    if (outcome == HTTP_COMPLETE)
        require(length >= used ? then == HTTP_COMPLETE
                               : then == HTTP_INCOMPLETE || then == HTTP_HEAD_ONLY);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct http_reading *reading = malloc(sizeof *reading);
    struct bytes input = {data + 1, size - 1};
    size_t used = 0;
    if (reading == NULL)
        return 0;
    enum http_outcome outcome = http_read_request(input, reading, &used);
    if (outcome == HTTP_COMPLETE) {
        check_request(reading, input, used);
        check_query(reading->request.query);
    } else if (outcome != HTTP_HEAD_ONLY) {
        used = 0;
    }
    check_beginning(input, input.length * data[0] / 256, outcome, used, reading);
    free(reading);
    return 0;
}
