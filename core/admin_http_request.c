/*
 * Reading an HTTP request, strictly: what RFC 9112 lets a server refuse is refused, above all what
 * two readers could take for two different requests.
 */
#include "core/admin_http_private.h"

#include "codec/decimal.h"

#include <strings.h>

static bool is_token(const char *text)
{
    static const char marks[] = "!#$%&'*+-.^_`|~";
    if (*text == '\0')
        return false;
    for (; *text != '\0'; text++) {
        bool letter = (*text | 0x20) >= 'a' && (*text | 0x20) <= 'z';
        if (!letter && !(*text >= '0' && *text <= '9') && strchr(marks, *text) == NULL)
            return false;
    }
    return true;
}

static char *trim(char *text)
{
    while (*text == ' ' || *text == '\t')
        text++;
    size_t length = strlen(text);
    while (length > 0 && (text[length - 1] == ' ' || text[length - 1] == '\t'))
        text[--length] = '\0';
    return text;
}

/* "GET /path?query HTTP/1.1" [RFC 9112, 3] */
static enum http_outcome read_request_line(struct http_reading *reading, char *line)
{
    char *target = strchr(line, ' ');
    char *version = target != NULL ? strchr(target + 1, ' ') : NULL;
    if (version == NULL)
        return HTTP_BAD_REQUEST;
    *target++ = '\0';
    *version++ = '\0';
    if (!is_token(line) || target[0] != '/')
        return HTTP_BAD_REQUEST;
    for (const char *at = target; *at != '\0'; at++)
        if (*at <= ' ' || *at >= 0x7f)
            return HTTP_BAD_REQUEST;
    if (strncmp(version, "HTTP/", 5) != 0)
        return HTTP_BAD_REQUEST;
    if (strcmp(version, "HTTP/1.0") != 0 && strcmp(version, "HTTP/1.1") != 0)
        return HTTP_WRONG_VERSION;
    reading->close = version[7] == '0';
    reading->request.method = line;
    reading->request.path = target;
    char *question = strchr(target, '?');
    if (question != NULL) {
        *question = '\0';
        reading->request.query = question + 1;
    }
    return HTTP_COMPLETE;
}

static enum http_outcome read_length(struct http_reading *reading, const char *value)
{
    uint64_t length;
    if (!decimal_read(bytes_of(value), &length))
        return HTTP_BAD_REQUEST;
    if (length > HTTP_BODY_MAX)
        return HTTP_BODY_TOO_LARGE;
    reading->body_length = (size_t)length;
    return HTTP_COMPLETE;
}

/* What a header is that has not been given, other than one that is empty. */
static const char not_given[] = "";

/* A header that matters is given once. */
static enum http_outcome keep(const char **place, const char *value)
{
    if (*place != not_given)
        return HTTP_BAD_REQUEST;
    *place = value;
    return HTTP_COMPLETE;
}

/* ";q=0" and the like behind a coding: it is refused [RFC 9110, 12.4.2]. */
static bool is_refused(const char *weight)
{
    weight += strspn(weight, " \t;");
    if ((*weight | 0x20) != 'q' || weight[1] != '=')
        return false;
    size_t length = strcspn(weight + 2, " \t,");
    return length > 0 && strspn(weight + 2, "0.") >= length;
}

static bool accepts(const char *codings, const char *coding)
{
    while (*codings != '\0') {
        codings += strspn(codings, " \t,");
        size_t length = strcspn(codings, " \t;,");
        if (length == strlen(coding) && strncasecmp(codings, coding, length) == 0)
            return !is_refused(codings + length);
        codings += strcspn(codings, ",");
    }
    return false;
}

static enum http_outcome read_header(struct http_reading *reading, char *line, const char **length)
{
    struct http_request *request = &reading->request;
    char *colon = strchr(line, ':');
    if (colon == NULL)
        return HTTP_BAD_REQUEST;
    *colon = '\0';
    char *value = trim(colon + 1);
    if (!is_token(line)) /* a folded line begins with a blank [RFC 9112, 5.2] */
        return HTTP_BAD_REQUEST;
    for (const char *at = value; *at != '\0'; at++)
        if ((unsigned char)*at < ' ' && *at != '\t')
            return HTTP_BAD_REQUEST;
    if (strcasecmp(line, "Host") == 0)
        return keep(&request->host, value);
    if (strcasecmp(line, "Authorization") == 0)
        return keep(&request->authorization, value);
    if (strcasecmp(line, "Content-Type") == 0)
        return keep(&request->content_type, value);
    if (strcasecmp(line, "X-Nemogate") == 0)
        return keep(&request->marker, value);
    if (strcasecmp(line, "Content-Length") == 0)
        return keep(length, value);
    if (strcasecmp(line, "Transfer-Encoding") == 0)
        return HTTP_NOT_IMPLEMENTED;
    if (strcasecmp(line, "Accept-Encoding") == 0)
        request->accepts_gzip = accepts(value, "gzip");
    if (strcasecmp(line, "Connection") == 0 && strcasecmp(value, "close") == 0)
        reading->close = true;
    if (strcasecmp(line, "Expect") == 0 && strcasecmp(value, "100-continue") == 0)
        reading->expects_continue = true;
    return HTTP_COMPLETE;
}

/* The head's lines, each of which ends with CRLF. */
static enum http_outcome read_head(struct http_reading *reading)
{
    const char *length = not_given;
    char *line = reading->head;
    bool http_1_0 = false;
    enum http_outcome outcome = HTTP_COMPLETE;
    for (bool first = true; *line != '\0' && outcome == HTTP_COMPLETE; first = false) {
        char *end = strstr(line, "\r\n");
        *end = '\0';
        if (strpbrk(line, "\r\n") != NULL)
            return HTTP_BAD_REQUEST;
        outcome = first ? read_request_line(reading, line) : read_header(reading, line, &length);
        if (first)
            http_1_0 = reading->close;
        line = end + 2;
    }
    if (outcome == HTTP_COMPLETE && !http_1_0 && reading->request.host[0] == '\0')
        return HTTP_BAD_REQUEST; /* [RFC 9112, 3.2] */
    if (outcome == HTTP_COMPLETE && length != not_given)
        return read_length(reading, length);
    return outcome;
}

enum http_outcome http_read_request(struct bytes input, struct http_reading *reading, size_t *used)
{
    size_t looked_at = input.length < HTTP_HEAD_MAX ? input.length : HTTP_HEAD_MAX;
    const uint8_t *end = memmem(input.data, looked_at, "\r\n\r\n", 4);
    if (end == NULL)
        return input.length >= HTTP_HEAD_MAX ? HTTP_HEAD_TOO_LARGE : HTTP_INCOMPLETE;
    size_t length = (size_t)(end - input.data) + 2;
    if (length == 2 || memchr(input.data, '\0', length) != NULL)
        return HTTP_BAD_REQUEST;
    memcpy(reading->head, input.data, length);
    reading->head[length] = '\0';
    reading->request = (struct http_request){.method = not_given,
                                             .path = not_given,
                                             .query = not_given,
                                             .host = not_given,
                                             .authorization = not_given,
                                             .content_type = not_given,
                                             .marker = not_given};
    reading->body_length = 0;
    reading->close = reading->expects_continue = false;
    enum http_outcome outcome = read_head(reading);
    if (outcome != HTTP_COMPLETE)
        return outcome;
    *used = length + 2 + reading->body_length;
    if (input.length < *used)
        return HTTP_HEAD_ONLY;
    reading->request.body = (struct bytes){input.data + length + 2, reading->body_length};
    return HTTP_COMPLETE;
}

/* ---- queries ------------------------------------------------------------------------------- */

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool decode(const char *from, size_t length, char *value, size_t size)
{
    size_t at = 0;
    for (size_t i = 0; i < length; i++) {
        int c = (unsigned char)from[i];
        if (c == '%') {
            int high = i + 2 < length ? hex(from[i + 1]) : -1;
            int low = high >= 0 ? hex(from[i + 2]) : -1;
            c = low >= 0 ? high << 4 | low : -1;
            i += 2;
        } else if (c == '+') {
            c = ' ';
        }
        if (c <= 0 || at + 1 >= size)
            return false;
        value[at++] = (char)c;
    }
    value[at] = '\0';
    return true;
}

bool http_query_value(const char *query, const char *name, char *value, size_t size)
{
    size_t name_length = strlen(name);
    while (*query != '\0') {
        size_t length = strcspn(query, "&");
        if (length > name_length && strncmp(query, name, name_length) == 0 &&
            query[name_length] == '=')
            return decode(query + name_length + 1, length - name_length - 1, value, size);
        query += length + (query[length] == '&');
    }
    return false;
}
