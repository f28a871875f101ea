/*
 * From the text of a file to a tree of nodes with positions, by libyaml's events. Of YAML it takes
 * what a configuration needs: one document of sections, lists and texts. Anchors, aliases and tags
 * are refused, for what they make of a value cannot be seen where it stands. No key is known here.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <yaml.h>

#include "core/config_private.h"
#include "core/utf8.h"

#define DEPTH_MAX 8u
#define CHILDREN_MAX 512u /* of one node: finding a key twice is quadratic */
#define HOST_NAME_TEXT 256u

/* A section or list whose end has not come yet. */
struct open_node {
    struct config_node *node;
    struct config_node *last;
    size_t children;
    const char *key; /* of a section: read, its value not yet */
    unsigned key_line;
    unsigned key_column;
};

struct builder {
    struct config_memory *memory;
    struct config_report *report;
    struct open_node open[DEPTH_MAX];
    size_t depth;
    struct config_node *root;
    size_t documents;
};

/* Marks count from 0. */
static unsigned line_of(yaml_mark_t mark)
{
    return (unsigned)mark.line + 1;
}

static unsigned column_of(yaml_mark_t mark)
{
    return (unsigned)mark.column + 1;
}

static void fault(struct builder *b, yaml_mark_t mark, const char *text)
{
    config_fault_at(b->report, line_of(mark), column_of(mark), "%s", text);
}

/* Goes through the text up to limit. NULL: all of it is text, and *line and *column are those of
 * limit; else what stands at *line and *column that is no text. */
static const char *walk_text(const char *text, size_t limit, unsigned *line, unsigned *column)
{
    *line = 1;
    *column = 1;
    for (size_t i = 0; i < limit;) {
        size_t length = utf8_first((struct bytes){(const uint8_t *)text + i, limit - i});
        if (text[i] == '\0')
            return "a NUL byte stands here";
        if (length == 0)
            return "the text is not UTF-8 here";
        *column = text[i] == '\n' ? 1 : *column + 1;
        *line += text[i] == '\n' ? 1 : 0;
        i += length;
    }
    return NULL;
}

static struct open_node *top_of(struct builder *b)
{
    return b->depth > 0 ? &b->open[b->depth - 1] : NULL;
}

/* Hangs the node into the section or list that is open. false: the reading ends here. */
static bool attach(struct builder *b, struct config_node *node)
{
    struct open_node *top = top_of(b);
    if (top == NULL) {
        b->root = node;
        return true;
    }
    if (++top->children > CHILDREN_MAX) {
        config_fault_at(b->report, node->line, node->column,
                        "more than %u values stand here; the rest of the file is not read",
                        CHILDREN_MAX);
        return false;
    }
    node->key = top->key;
    node->key_line = top->key != NULL ? top->key_line : node->line;
    node->key_column = top->key != NULL ? top->key_column : node->column;
    top->key = NULL;
    const struct config_node *twin =
        node->key != NULL ? config_node_find(top->node, node->key) : NULL;
    if (twin != NULL) {
        char shown[CONFIG_SHOWN_TEXT];
        config_show(NULL, node->key, shown);
        config_fault_at(b->report, node->key_line, node->key_column,
                        "the key %s stands here for the second time, after line %u", shown,
                        twin->key_line);
        return true;
    }
    if (top->last != NULL)
        top->last->next = node;
    else
        top->node->first = node;
    top->last = node;
    return true;
}

static struct config_node *new_node(struct builder *b, enum config_node_kind kind, yaml_mark_t mark)
{
    struct config_node *node = config_memory_get(b->memory, sizeof *node);
    if (node == NULL)
        return NULL;
    node->kind = kind;
    node->line = line_of(mark);
    node->column = column_of(mark);
    return node;
}

/* A section waits for a key where it has none. */
static bool key_is_due(struct builder *b)
{
    const struct open_node *top = top_of(b);
    return top != NULL && top->node->kind == CONFIG_NODE_SECTION && top->key == NULL;
}

static void refuse_decoration(struct builder *b, const yaml_event_t *event,
                              const yaml_char_t *anchor, const yaml_char_t *tag)
{
    if (anchor != NULL)
        fault(b, event->start_mark, "YAML anchors (&name) are not supported; write the value out");
    if (tag != NULL)
        fault(b, event->start_mark, "YAML tags (!name) are not supported; leave the tag out");
}

static bool take_scalar(struct builder *b, const yaml_event_t *event)
{
    const char *value = (const char *)event->data.scalar.value;
    size_t length = event->data.scalar.length;
    refuse_decoration(b, event, event->data.scalar.anchor, event->data.scalar.tag);
    if (memchr(value, '\0', length) != NULL)
        fault(b, event->start_mark, "the text holds a NUL character; a text without is expected");
    char *text = config_memory_text(b->memory, value, length);
    if (text == NULL)
        return false;
    if (key_is_due(b)) {
        struct open_node *top = top_of(b);
        top->key = text;
        top->key_line = line_of(event->start_mark);
        top->key_column = column_of(event->start_mark);
        return true;
    }
    struct config_node *node = new_node(b, CONFIG_NODE_TEXT, event->start_mark);
    if (node == NULL)
        return false;
    node->text = text;
    node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    return attach(b, node);
}

static bool open_node(struct builder *b, const yaml_event_t *event, enum config_node_kind kind)
{
    if (key_is_due(b)) {
        fault(b, event->start_mark,
              "a list or section stands where a key is expected; the rest of the file is not read");
        return false;
    }
    if (b->depth == DEPTH_MAX) {
        fault(b, event->start_mark,
              "this is nested more deeply than any key is; the rest of the file is not read");
        return false;
    }
    struct config_node *node = new_node(b, kind, event->start_mark);
    if (node == NULL || !attach(b, node))
        return false;
    b->open[b->depth++] = (struct open_node){.node = node};
    return true;
}

static bool take_alias(struct builder *b, const yaml_event_t *event)
{
    fault(b, event->start_mark,
          "YAML aliases (*name) are not supported; write the value out, or "
          "put it in quotes if it begins with a star");
    if (key_is_due(b))
        return false;
    struct config_node *node = new_node(b, CONFIG_NODE_ALIAS, event->start_mark);
    return node != NULL && attach(b, node);
}

/* false: the reading ends here. */
static bool take_event(struct builder *b, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (b->documents++ == 0)
            return true;
        fault(b, event->start_mark, "a second YAML document begins here; one file holds one");
        return false;
    case YAML_SCALAR_EVENT:
        return take_scalar(b, event);
    case YAML_SEQUENCE_START_EVENT:
        refuse_decoration(b, event, event->data.sequence_start.anchor,
                          event->data.sequence_start.tag);
        return open_node(b, event, CONFIG_NODE_LIST);
    case YAML_MAPPING_START_EVENT:
        refuse_decoration(b, event, event->data.mapping_start.anchor,
                          event->data.mapping_start.tag);
        return open_node(b, event, CONFIG_NODE_SECTION);
    case YAML_ALIAS_EVENT:
        return take_alias(b, event);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        b->depth--;
        return true;
    case YAML_STREAM_END_EVENT:
        return false;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        break;
    }
    return true;
}

static void report_syntax(struct builder *b, const yaml_parser_t *parser, const char *text,
                          size_t length)
{
    unsigned line = line_of(parser->problem_mark);
    unsigned column = column_of(parser->problem_mark);
    const char *problem = parser->problem != NULL ? parser->problem : "it cannot be read";
    const char *hint = "";
    if (parser->error == YAML_MEMORY_ERROR) {
        b->memory->failed = true;
        return;
    }
    if (parser->error == YAML_READER_ERROR) {
        /* The reader knows bytes, not lines. */
        size_t offset = parser->problem_offset < length ? parser->problem_offset : length;
        (void)walk_text(text, offset, &line, &column);
    }
    if (strcmp(problem, "found character that cannot start any token") == 0)
        hint = " (a tab in the indentation, or one of @ ` % without quotes)";
    config_fault_at(b->report, line, column, "this is not valid YAML: %s%s%s%s",
                    parser->context != NULL ? parser->context : "",
                    parser->context != NULL ? ", " : "", problem, hint);
}

/* false: a fault of the syntax has ended the reading. */
static bool build(struct builder *b, yaml_parser_t *parser, const char *text, size_t length)
{
    bool more = true;
    while (more) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event)) {
            report_syntax(b, parser, text, length);
            return false;
        }
        more = take_event(b, &event);
        bool ended = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
        if (!more && !ended)
            return false;
    }
    return true;
}

struct config_node *config_tree_read(const char *text, size_t length, struct config_memory *memory,
                                     struct config_report *report)
{
    unsigned line = 0;
    unsigned column = 0;
    const char *problem = walk_text(text, length, &line, &column);
    if (problem != NULL) {
        config_fault_at(report, line, column, "%s; a text file in UTF-8 is expected", problem);
        return NULL;
    }
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        memory->failed = true;
        return NULL;
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, length);
    struct builder builder = {.memory = memory, .report = report};
    bool complete = build(&builder, &parser, text, length);
    yaml_parser_delete(&parser);
    if (!complete)
        return NULL;
    struct config_node *root = builder.root;
    if (root == NULL || config_node_is_nothing(root)) {
        config_fault_at(report, 0, 0,
                        "the configuration holds no keys; at least a broker is "
                        "expected (nemogate config-sample shows one)");
        return NULL;
    }
    if (root->kind != CONFIG_NODE_SECTION) {
        config_fault_at(report, root->line, root->column,
                        "the file does not begin with a key; keys such as 'brokers:' are expected");
        return NULL;
    }
    return root;
}

struct config_node *config_node_find(const struct config_node *section, const char *key)
{
    if (section == NULL || section->kind != CONFIG_NODE_SECTION)
        return NULL;
    struct config_node *node = section->first;
    while (node != NULL && strcmp(node->key, key) != 0)
        node = node->next;
    return node;
}

struct config_node *config_node_item(const struct config_node *list, size_t index)
{
    struct config_node *node = list != NULL ? list->first : NULL;
    while (node != NULL && index-- > 0)
        node = node->next;
    return node;
}

bool config_node_is_nothing(const struct config_node *node)
{
    return node->kind == CONFIG_NODE_TEXT && node->plain && node->text[0] == '\0';
}

static size_t name_length(const char *text)
{
    size_t length = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
    return text[0] >= '0' && text[0] <= '9' ? 0 : length;
}

/* The value of a variable; host (HOST_NAME_TEXT) is where the host's name goes. Shells set HOSTNAME
 * without passing it on, and systemd does not set it. */
static const char *variable(const char *name, char *host)
{
    const char *value = getenv(name);
    if (value != NULL || strcmp(name, "HOSTNAME") != 0)
        return value;
    host[HOST_NAME_TEXT - 1] = '\0';
    return gethostname(host, HOST_NAME_TEXT - 1) == 0 ? host : NULL;
}

/* Replaces what stands at text, which begins with '$'. Returns how much of text that was; 0:
 * problem is set. */
static size_t expand_one(const char *text, FILE *out, char *problem)
{
    if (text[1] == '$') {
        fputc('$', out);
        return 2;
    }
    if (text[1] != '{') {
        fputc('$', out);
        return 1;
    }
    size_t length = name_length(text + 2);
    if (length == 0 || length > 128 || text[2 + length] != '}') {
        snprintf(problem, CONFIG_PROBLEM_TEXT,
                 "has a '${' that is not followed by the name of a variable and '}' (a dollar "
                 "itself is written $$)");
        return 0;
    }
    char name[129];
    char host[HOST_NAME_TEXT];
    memcpy(name, text + 2, length);
    name[length] = '\0';
    const char *value = variable(name, host);
    if (value == NULL) {
        snprintf(problem, CONFIG_PROBLEM_TEXT,
                 "needs the environment variable %s, which is not set", name);
        return 0;
    }
    fputs(value, out);
    return length + 3;
}

const char *config_expand(const char *text, struct config_memory *memory, char *problem)
{
    if (strchr(text, '$') == NULL)
        return text;
    char *expanded = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&expanded, &size);
    if (out == NULL) {
        memory->failed = true;
        snprintf(problem, CONFIG_PROBLEM_TEXT, "cannot be read: %s", strerror(errno));
        return NULL;
    }
    size_t used = 1;
    for (const char *at = text; *at != '\0' && used > 0; at += used) {
        used = 1;
        if (*at == '$')
            used = expand_one(at, out, problem);
        else
            fputc(*at, out);
    }
    char *result = NULL;
    if (fclose(out) != 0)
        memory->failed = true;
    else if (used > 0)
        result = config_memory_text(memory, expanded, size);
    if (expanded != NULL)
        explicit_bzero(expanded, size);
    free(expanded);
    return result;
}
