/*
 * Topic templates. A brace always belongs to a name: a lone one is taken for a slip of the pen and
 * reported, not sent to a broker. What the expanded text is good for (length, empty topics) is
 * judged later, together with an entry's topic.
 */
#include "codec/topic_template.h"

#include "codec/mqtt_wire.h"

/* A piece of a template: text up to an opening brace, then the name in the braces. */
struct piece {
    struct bytes text;
    bool has_name;
    struct bytes name;
};

/* Takes the next piece off the front of rest. NULL, or what is wrong with the braces. */
static const char *next_piece(struct bytes *rest, struct piece *piece)
{
    const uint8_t *end = rest->data + rest->length;
    const uint8_t *open = memchr(rest->data, '{', rest->length);
    *piece =
        (struct piece){.text = {rest->data, (size_t)((open != NULL ? open : end) - rest->data)},
                       .has_name = open != NULL};
    if (piece->text.length > 0 && memchr(piece->text.data, '}', piece->text.length) != NULL)
        return "a '}' without its '{'";
    if (open == NULL) {
        *rest = (struct bytes){end, 0};
        return NULL;
    }
    const uint8_t *close = memchr(open, '}', (size_t)(end - open));
    if (close == NULL)
        return "a '{' without its '}'";
    piece->name = (struct bytes){open + 1, (size_t)(close - open - 1)};
    *rest = (struct bytes){close + 1, (size_t)(end - close - 1)};
    return NULL;
}

static const char *name_fault(struct bytes name, bool site_allowed, bool client_id_allowed)
{
    if (bytes_equal(name, bytes_of("site")))
        return site_allowed ? NULL : "{site} has no value here";
    if (bytes_equal(name, bytes_of("client_id")))
        return client_id_allowed ? NULL : "{client_id} has no value here";
    return "an unknown name in braces; known are {site} and {client_id}";
}

const char *topic_template_fault(struct bytes template, bool site_allowed, bool client_id_allowed)
{
    if (template.length == 0)
        return NULL;
    if (memchr(template.data, '\0', template.length) != NULL)
        return "a NUL character";
    if (!mqtt_utf8_valid(template))
        return "not valid UTF-8";
    if (memchr(template.data, '+', template.length) != NULL ||
        memchr(template.data, '#', template.length) != NULL)
        return "a wildcard: '+' and '#' cannot be published to [MQTT-3.3.2-2]";
    const char *fault = NULL;
    while (template.length > 0 && fault == NULL) {
        struct piece piece;
        fault = next_piece(&template, &piece);
        if (fault == NULL && piece.has_name)
            fault = name_fault(piece.name, site_allowed, client_id_allowed);
    }
    return fault;
}

void topic_template_expand(struct writer *w, struct bytes template,
                           const struct topic_values *values)
{
    struct piece piece;
    while (template.length > 0 && next_piece(&template, &piece) == NULL) {
        writer_put_bytes(w, piece.text);
        if (piece.has_name)
            writer_put_bytes(w, bytes_equal(piece.name, bytes_of("site")) ? values->site
                                                                          : values->client_id);
    }
}
