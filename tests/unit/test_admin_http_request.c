/*
 * Reading HTTP requests: what is taken, what is refused, and every way that one can be cut.
 */
#include "core/admin_http_private.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static struct http_reading reading;
static size_t used;

static enum http_outcome read_text(const char *text)
{
    return http_read_request(bytes_of(text), &reading, &used);
}

#define HOST "Host: localhost\r\n"

Test(admin_http_request, a_request)
{
    static const char text[] =
        "POST /a/b?c=d HTTP/1.1\r\nhost: x:1\r\nAUTHORIZATION:  Bearer t \r\n"
        "Content-Type: application/json\r\nX-Nemogate: 1\r\n"
        "Content-Length: 4\r\nOther: y\r\n\r\nbodyNEXT";
    cr_assert_eq(read_text(text), HTTP_COMPLETE);
    cr_expect_str_eq(reading.request.method, "POST");
    cr_expect_str_eq(reading.request.path, "/a/b");
    cr_expect_str_eq(reading.request.query, "c=d");
    cr_expect_str_eq(reading.request.host, "x:1");
    cr_expect_str_eq(reading.request.authorization, "Bearer t");
    cr_expect_str_eq(reading.request.content_type, "application/json");
    cr_expect_str_eq(reading.request.marker, "1");
    cr_expect(bytes_equal(reading.request.body, bytes_of("body")));
    cr_expect_eq(used, strlen(text) - 4);
    cr_expect_not(reading.close);
}

static bool takes_gzip(const char *accept)
{
    char text[256];
    snprintf(text, sizeof text, "GET / HTTP/1.1\r\n" HOST "%s\r\n", accept);
    cr_assert_eq(read_text(text), HTTP_COMPLETE);
    return reading.request.accepts_gzip;
}

Test(admin_http_request, accepts_gzip)
{
    cr_expect(takes_gzip("Accept-Encoding: gzip\r\n"));
    cr_expect(takes_gzip("Accept-Encoding: gzip, deflate, br, zstd\r\n"));
    cr_expect(takes_gzip("accept-encoding: br;q=1.0 ,\tGZip;q=0.8, *;q=0.1\r\n"));
    cr_expect(takes_gzip("Accept-Encoding: identity;q=0,gzip ; q=0.001\r\n"));
    cr_expect_not(takes_gzip(""));
    cr_expect_not(takes_gzip("Accept-Encoding:\r\n"));
    cr_expect_not(takes_gzip("Accept-Encoding: *\r\n"));
    cr_expect_not(takes_gzip("Accept-Encoding: br, gzipped, xgzip, identity\r\n"));
    cr_expect_not(takes_gzip("Accept-Encoding: gzip;q=0\r\n"));
    cr_expect_not(takes_gzip("Accept-Encoding: br, gzip ; Q=0.000, *;q=1\r\n"));
}

Test(admin_http_request, every_beginning_of_it_is_incomplete)
{
    static const char text[] = "POST /a HTTP/1.1\r\n" HOST "Content-Length: 4\r\n\r\nbody";
    for (size_t length = 0; length + 1 < sizeof text; length++) {
        uint8_t *cut = malloc(length + 1);
        memcpy(cut, text, length);
        enum http_outcome outcome = http_read_request((struct bytes){cut, length}, &reading, &used);
        cr_expect(outcome == HTTP_INCOMPLETE || outcome == HTTP_HEAD_ONLY, "%zu", length);
        free(cut);
    }
}

Test(admin_http_request, when_the_connection_is_to_end)
{
    cr_assert_eq(read_text("GET / HTTP/1.0\r\n\r\n"), HTTP_COMPLETE);
    cr_expect(reading.close);
    cr_assert_eq(read_text("GET / HTTP/1.1\r\n" HOST "Connection: Close\r\n\r\n"), HTTP_COMPLETE);
    cr_expect(reading.close);
}

Test(admin_http_request, what_is_refused)
{
    static const struct {
        const char *text;
        enum http_outcome outcome;
    } cases[] = {
        {"\r\n\r\n", HTTP_BAD_REQUEST},
        {"GET / HTTP/1.1\r\n\r\n", HTTP_BAD_REQUEST},
        {"GET /\r\n\r\n", HTTP_BAD_REQUEST},
        {"GET / HTTP/1.1\r\nHost:\r\n" HOST "\r\n", HTTP_BAD_REQUEST},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length:\r\nContent-Length: 1\r\n\r\na",
         HTTP_BAD_REQUEST},
        {"POST / HTTP/1.1\r\n" HOST "Content-Length: \r\n\r\n", HTTP_BAD_REQUEST},
        {"GET  HTTP/1.1\r\n" HOST "\r\n", HTTP_BAD_REQUEST},
        {"GET a HTTP/1.1\r\n" HOST "\r\n", HTTP_BAD_REQUEST},
        {"G(T / HTTP/1.1\r\n" HOST "\r\n", HTTP_BAD_REQUEST},
        {"GET /\x7f HTTP/1.1\r\n" HOST "\r\n", HTTP_BAD_REQUEST},
        {"GET / HTTP/1.1 x\r\n" HOST "\r\n", HTTP_WRONG_VERSION},
        {"GET / HTTP/2.0\r\n" HOST "\r\n", HTTP_WRONG_VERSION},
        {"GET / http/1.1\r\n" HOST "\r\n", HTTP_BAD_REQUEST},
        {"GET / HTTP/1.1\r\n" HOST "no colon\r\n\r\n", HTTP_BAD_REQUEST},
        {"GET / HTTP/1.1\r\n" HOST "A : b\r\n\r\n", HTTP_BAD_REQUEST},
        {"GET / HTTP/1.1\r\n" HOST " folded: b\r\n\r\n", HTTP_BAD_REQUEST},
        {"GET / HTTP/1.1\r\n" HOST "A: b\rc\r\n\r\n", HTTP_BAD_REQUEST},
        {"GET / HTTP/1.1\r\n" HOST HOST "\r\n", HTTP_BAD_REQUEST},
        {"GET / HTTP/1.1\r\n" HOST "Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
         HTTP_BAD_REQUEST},
        {"GET / HTTP/1.1\r\n" HOST "Content-Length: +1\r\n\r\n", HTTP_BAD_REQUEST},
        {"GET / HTTP/1.1\r\n" HOST "Content-Length: 32769\r\n\r\n", HTTP_BODY_TOO_LARGE},
        {"GET / HTTP/1.1\r\n" HOST "Transfer-Encoding: identity\r\n\r\n", HTTP_NOT_IMPLEMENTED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_expect_eq(read_text(cases[i].text), cases[i].outcome, "%s", cases[i].text);
}

Test(admin_http_request, a_head_without_end)
{
    char *text = malloc(HTTP_HEAD_MAX + 1);
    memset(text, 'a', HTTP_HEAD_MAX);
    text[HTTP_HEAD_MAX] = '\0';
    cr_expect_eq(read_text(text), HTTP_HEAD_TOO_LARGE);
    text[HTTP_HEAD_MAX - 1] = '\0';
    cr_expect_eq(read_text(text), HTTP_INCOMPLETE);
    free(text);
}

Test(admin_http_request, queries)
{
    char value[8];
    cr_assert(http_query_value("a=1&bb=%41%2f+x&c=", "bb", value, sizeof value));
    cr_expect_str_eq(value, "A/ x");
    cr_assert(http_query_value("a=1&bb=2&c=", "c", value, sizeof value));
    cr_expect_str_eq(value, "");
    cr_expect_not(http_query_value("a=1", "b", value, sizeof value));
    cr_expect_not(http_query_value("a=%4", "a", value, sizeof value));
    cr_expect_not(http_query_value("a=%", "a", value, sizeof value));
    cr_expect_not(http_query_value("a=%zz", "a", value, sizeof value));
    cr_expect_not(http_query_value("a=%00", "a", value, sizeof value));
    cr_expect_not(http_query_value("a=12345678", "a", value, sizeof value));
    cr_expect_not(http_query_value("", "a", value, sizeof value));
}
