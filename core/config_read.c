/*
 * From the tree to struct config by the key table: sections, lists, values, defaults, and the names
 * that no row knows. Every fault is reported and reading goes on, so that one run shows them all.
 */
#include <stdlib.h>
#include <string.h>

#include "codec/bytes.h"
#include "core/config_private.h"

#define NAME_MAX_COMPARED 40u

#define OPTIONAL false
#define REQUIRED true

static const struct config_key KEYS[] = {
#define CONFIG_KEY(section, base, field, name, type, fallback, smallest, largest, required, help)  \
    {CONFIG_SECTION_##section,                                                                     \
     #name,                                                                                        \
     CONFIG_TYPE_##type,                                                                           \
     offsetof(struct base, field),                                                                 \
     fallback,                                                                                     \
     smallest,                                                                                     \
     largest,                                                                                      \
     required,                                                                                     \
     help},
#include "core/config_keys.def"
};

#define KEY_COUNT (sizeof KEYS / sizeof KEYS[0])

static const struct config_section_info SECTIONS[] = {
#define CONFIG_SECTION(id, parent, name, help)                                                     \
    {CONFIG_SECTION_##id, CONFIG_SECTION_##parent, name, false, help, 0, 0, 0, 0, 0, false},
#define CONFIG_LIST(id, parent, name, item, array, count, smallest, largest, required, help)       \
    {CONFIG_SECTION_##id,                                                                          \
     CONFIG_SECTION_##parent,                                                                      \
     name,                                                                                         \
     true,                                                                                         \
     help,                                                                                         \
     sizeof(struct item),                                                                          \
     offsetof(struct config, array),                                                               \
     offsetof(struct config, count),                                                               \
     smallest,                                                                                     \
     largest,                                                                                      \
     required},
#include "core/config_keys.def"
};

const struct config_key *config_keys(size_t *count)
{
    *count = KEY_COUNT;
    return KEYS;
}

const struct config_section_info *config_section_info(enum config_section section)
{
    return &SECTIONS[section];
}

/* A place in the file and in the configuration at once. */
struct place {
    enum config_section section;
    struct config_node *node; /* NULL: the file does not have the section; defaults, then */
    void *base;               /* what the offsets of the section's keys count from */
    char path[CONFIG_PATH_TEXT];
};

static void put_text(struct writer *w, const char *text)
{
    writer_put_bytes(w, bytes_of(text));
}

/* A path that is too long for the table is cut; none is. */
static struct writer path_writer(char path[CONFIG_PATH_TEXT])
{
    memset(path, 0, CONFIG_PATH_TEXT);
    return writer_over((uint8_t *)path, CONFIG_PATH_TEXT - 1);
}

/* "redis" and "url" to "redis.url". */
static void join_path(const char *path, const char *name, char joined[CONFIG_PATH_TEXT])
{
    struct writer w = path_writer(joined);
    put_text(&w, path);
    put_text(&w, path[0] != '\0' ? "." : "");
    put_text(&w, name);
}

/* "brokers" and 0 to "brokers[0]". */
static void item_path(const char *path, size_t index, char joined[CONFIG_PATH_TEXT])
{
    char number[32];
    snprintf(number, sizeof number, "[%zu]", index);
    struct writer w = path_writer(joined);
    put_text(&w, path);
    put_text(&w, number);
}

static void put_section(struct writer *w, enum config_section section)
{
    if (section == CONFIG_SECTION_ROOT)
        return;
    put_section(w, SECTIONS[section].parent);
    put_text(w, SECTIONS[section].name);
    put_text(w, SECTIONS[section].is_list ? "[]." : ".");
}

void config_table_path(enum config_section section, const char *name, char path[CONFIG_PATH_TEXT])
{
    struct writer w = path_writer(path);
    put_section(&w, section);
    put_text(&w, name);
}

static void *field_of(const struct place *place, size_t offset)
{
    return (char *)place->base + offset;
}

static void fault_node(struct config_reading *r, struct config_node *node, const char *path,
                       const char *text)
{
    node->faulty = true;
    config_fault_at(r->report, node->line, node->column, "%s: %s", path, text);
}

/* ---- Names that are not known ------------------------------------------------------------- */

/* How many letters must be put in, left out or exchanged to make one name of the other. */
static size_t distance(const char *a, const char *b)
{
    size_t row[NAME_MAX_COMPARED + 1];
    size_t length = strlen(b);
    for (size_t i = 0; i <= length; i++)
        row[i] = i;
    for (size_t i = 0; a[i] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < length; j++) {
            size_t change = diagonal + (a[i] != b[j] ? 1 : 0);
            diagonal = row[j + 1];
            size_t shift = (row[j] < row[j + 1] ? row[j] : row[j + 1]) + 1;
            row[j + 1] = change < shift ? change : shift;
        }
    }
    return row[length];
}

/* How unlike a known name is: 0 for the same, SIZE_MAX for one that was hardly meant. */
static size_t unlikeness(const char *name, const char *known)
{
    size_t length = strlen(name);
    size_t known_length = strlen(known);
    size_t shorter = length < known_length ? length : known_length;
    if (length > NAME_MAX_COMPARED || known_length > NAME_MAX_COMPARED)
        return SIZE_MAX;
    size_t apart = distance(name, known);
    if (apart <= 1 + shorter / 4)
        return apart;
    bool begins_alike = shorter >= 4 && strncmp(name, known, shorter) == 0;
    return begins_alike ? apart : SIZE_MAX;
}

struct nearest {
    const char *name;
    enum config_section section;
    size_t unlikeness;
};

static void consider(struct nearest *nearest, const char *name, const char *known,
                     enum config_section section, enum config_section here)
{
    /* A name of this section with a slip in it is meant more often than the same one elsewhere. */
    size_t apart = unlikeness(name, known);
    if (apart == SIZE_MAX || known[0] == '\0')
        return;
    apart = apart * 2 + (section != here ? 3 : 0);
    if (apart < nearest->unlikeness)
        *nearest = (struct nearest){known, section, apart};
}

/* A key that does not look like one is not repeated: it may be a value, even a secret, that has
 * come to the wrong place. */
static void unknown_path(const struct place *place, const char *key, char path[CONFIG_PATH_TEXT])
{
    size_t length = strlen(key);
    bool looks_like_key = length > 0 && length <= NAME_MAX_COMPARED &&
                          strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                      "0123456789_-") == length;
    join_path(place->path, looks_like_key ? key : "(not shown)", path);
}

static void report_unknown(struct config_reading *r, const struct place *place,
                           const struct config_node *node)
{
    if (r->report->count >= CONFIG_FAULTS_MAX) {
        r->report->count++;
        return;
    }
    struct nearest nearest = {NULL, place->section, SIZE_MAX};
    for (size_t i = 0; i < KEY_COUNT; i++)
        consider(&nearest, node->key, KEYS[i].name, KEYS[i].section, place->section);
    for (size_t i = 0; i < CONFIG_SECTION_COUNT; i++)
        consider(&nearest, node->key, SECTIONS[i].name, SECTIONS[i].parent, place->section);
    char path[CONFIG_PATH_TEXT];
    char meant[CONFIG_PATH_TEXT];
    unknown_path(place, node->key, path);
    if (nearest.name == NULL) {
        config_fault_at(r->report, node->key_line, node->key_column,
                        "%s: this key is not known; nemogate config-doc lists all", path);
        return;
    }
    config_table_path(nearest.section, nearest.name, meant);
    config_fault_at(r->report, node->key_line, node->key_column,
                    "%s: this key is not known; did you mean '%s'?", path,
                    nearest.section == place->section ? nearest.name : meant);
}

/* ---- Values ------------------------------------------------------------------------------- */

static void fault_value(struct config_reading *r, struct config_node *node, const char *path,
                        const struct config_value *value)
{
    char *expected = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&expected, &size);
    if (out == NULL) {
        r->scratch->failed = true;
        return;
    }
    config_expected_write(value->key, out);
    char shown[CONFIG_SHOWN_TEXT];
    config_show(value->key, node->text, shown);
    node->faulty = true;
    if (fclose(out) == 0)
        config_fault_at(r->report, node->line, node->column, "%s: %s %s; %s is expected", path,
                        shown, value->problem, expected);
    free(expected);
}

static bool is_null_word(const struct config_node *node)
{
    return node->plain && (strcmp(node->text, "~") == 0 || strcmp(node->text, "null") == 0 ||
                           strcmp(node->text, "Null") == 0 || strcmp(node->text, "NULL") == 0);
}

static bool read_default(struct config_value *value, void *field)
{
    const char *text = config_expand(value->key->fallback, value->memory, value->problem);
    return text != NULL && config_value_read(value, text, field);
}

/* Reads one text into the field, which has its default already. */
static void read_text_node(struct config_reading *r, const struct config_key *key,
                           struct config_node *node, const char *path, void *field)
{
    struct config_value value = {.key = key, .memory = r->memory, .files = r->files};
    if (node->kind != CONFIG_NODE_TEXT) {
        if (node->kind != CONFIG_NODE_ALIAS)
            fault_node(r, node, path,
                       node->kind == CONFIG_NODE_LIST
                           ? "a list stands here; a single value is expected"
                           : "a section stands here; a single value is expected");
        node->faulty = true;
        return;
    }
    if (is_null_word(node)) {
        fault_node(r, node, path,
                   "this is YAML's null; a value is expected (leave the key out for its default, "
                   "or put the word in quotes)");
        return;
    }
    const char *text = config_expand(node->text, r->memory, value.problem);
    if (text == NULL || !config_value_read(&value, text, field))
        fault_value(r, node, path, &value);
}

/* The key's value, or its default. A field with a fault gets the default, too, so that the checks
 * of several keys find something there. */
static void read_field(struct config_reading *r, const struct config_key *key,
                       struct config_node *node, const char *path, void *field)
{
    struct config_value value = {.key = key, .memory = r->memory, .files = r->files};
    bool has_default = read_default(&value, field);
    if (node != NULL)
        read_text_node(r, key, node, path, field);
    else if (!has_default)
        config_fault_at(r->report, 0, 0, "%s: the default '%s' %s; set the key", path,
                        key->fallback, value.problem);
}

/* The streams of Redis: the one list of texts. */
static void read_patterns(struct config_reading *r, const struct config_key *key,
                          struct config_node *node, const char *path, char ***patterns,
                          size_t *count)
{
    size_t given = 0;
    if (node != NULL && node->kind != CONFIG_NODE_LIST && node->kind != CONFIG_NODE_ALIAS) {
        fault_node(r, node, path, "a list is expected, such as [\"nemo:*:events\"]");
        return;
    }
    for (struct config_node *item = node != NULL ? node->first : NULL; item != NULL;
         item = item->next)
        given++;
    if (node != NULL && (given == 0 || given > CONFIG_STREAMS_MAX)) {
        fault_node(r, node, path,
                   given == 0 ? "the list is empty; 1 to 256 names or patterns are expected"
                              : "the list is too long; 1 to 256 names or patterns are expected");
        return;
    }
    *count = node != NULL ? given : 1;
    *patterns = config_memory_get(r->memory, *count * sizeof **patterns);
    if (*patterns == NULL)
        return;
    for (size_t i = 0; i < *count; i++) {
        char one[CONFIG_PATH_TEXT];
        item_path(path, i, one);
        read_field(r, key, config_node_item(node, i), one, *patterns + i);
    }
}

static void read_key(struct config_reading *r, const struct place *place,
                     const struct config_key *key)
{
    struct config_node *node = config_node_find(place->node, key->name);
    char path[CONFIG_PATH_TEXT];
    join_path(place->path, key->name, path);
    if (key->type == CONFIG_TYPE_PATTERNS) {
        read_patterns(r, key, node != NULL && config_node_is_nothing(node) ? NULL : node, path,
                      &r->config->redis.streams, &r->config->redis.stream_count);
        return;
    }
    read_field(r, key, node, path, field_of(place, key->offset));
    if (node == NULL && key->required && place->node != NULL) {
        config_fault_at(r->report, place->node->line, place->node->column,
                        "%s: the key is missing; it has no default (for instance: %s)", path,
                        key->fallback);
        place->node->faulty = true;
    }
}

/* ---- Sections ----------------------------------------------------------------------------- */

static bool is_known(enum config_section section, const char *name)
{
    for (size_t i = 0; i < KEY_COUNT; i++)
        if (KEYS[i].section == section && strcmp(KEYS[i].name, name) == 0)
            return true;
    for (size_t i = CONFIG_SECTION_ROOT + 1; i < CONFIG_SECTION_COUNT; i++)
        if (SECTIONS[i].parent == section && strcmp(SECTIONS[i].name, name) == 0)
            return true;
    return false;
}

/* NULL where nothing stands behind the key: a section whose keys are all commented out. */
static struct config_node *section_node(struct config_reading *r, struct config_node *node,
                                        const char *path)
{
    if (node == NULL || config_node_is_nothing(node))
        return NULL;
    if (node->kind == CONFIG_NODE_SECTION)
        return node;
    if (node->kind != CONFIG_NODE_ALIAS)
        fault_node(r, node, path,
                   node->kind == CONFIG_NODE_LIST
                       ? "a list stands here; keys with values are expected below it"
                       : "a single value stands here; keys with values are expected below it");
    return NULL;
}

/* The keys of a section, and of those in it that are not lists. Depth is that of the table. */
static void read_section(struct config_reading *r, const struct place *place)
{
    for (struct config_node *node = place->node != NULL ? place->node->first : NULL; node != NULL;
         node = node->next)
        if (!is_known(place->section, node->key))
            report_unknown(r, place, node);
    for (size_t i = 0; i < KEY_COUNT; i++)
        if (KEYS[i].section == place->section)
            read_key(r, place, &KEYS[i]);
    for (size_t i = CONFIG_SECTION_ROOT + 1; i < CONFIG_SECTION_COUNT; i++) {
        if (SECTIONS[i].parent != place->section || SECTIONS[i].is_list)
            continue;
        struct place inner = {.section = SECTIONS[i].id, .base = place->base};
        join_path(place->path, SECTIONS[i].name, inner.path);
        inner.node = section_node(r, config_node_find(place->node, SECTIONS[i].name), inner.path);
        read_section(r, &inner);
    }
}

static void read_item(struct config_reading *r, const struct config_section_info *list,
                      struct config_node *node, size_t index, void *base)
{
    struct place place = {.section = list->id, .base = base};
    item_path(list->name, index, place.path);
    if (node != NULL && node->kind != CONFIG_NODE_SECTION) {
        if (node->kind != CONFIG_NODE_ALIAS)
            fault_node(r, node, place.path,
                       "a list item with keys is expected, such as '- name: x'");
        node->faulty = true;
    } else {
        place.node = node;
    }
    read_section(r, &place);
}

/* The node of a list that has something in it, and how much; NULL: the list is not given, or what
 * is wrong with it has been reported. */
static struct config_node *list_node(struct config_reading *r,
                                     const struct config_section_info *list, size_t *given)
{
    struct config_node *node = config_node_find(r->root, list->name);
    *given = 0;
    if (node == NULL || config_node_is_nothing(node)) {
        if (list->required)
            config_fault_at(r->report, node != NULL ? node->key_line : r->root->line,
                            node != NULL ? node->key_column : r->root->column,
                            "%s: the list is missing; %zu to %zu items are expected", list->name,
                            list->smallest, list->largest);
        return NULL;
    }
    if (node->kind != CONFIG_NODE_LIST) {
        if (node->kind != CONFIG_NODE_ALIAS)
            fault_node(r, node, list->name, "a list is expected; its items begin with '- '");
        node->faulty = true;
        return NULL;
    }
    while (config_node_item(node, *given) != NULL && *given <= list->largest)
        ++*given;
    if (*given < list->smallest || *given > list->largest) {
        struct config_node *surplus = config_node_item(node, list->largest);
        struct config_node *at = surplus != NULL ? surplus : node;
        config_fault_at(r->report, at->line, at->column,
                        "%s: the list has %s; %zu to %zu items are expected", list->name,
                        surplus != NULL ? "too many items" : "no items", list->smallest,
                        list->largest);
        node->faulty = true;
        *given = surplus != NULL ? list->largest : 0;
    }
    return node;
}

/* A list that is not given gets one item of defaults, unless it may be empty. */
static void read_list(struct config_reading *r, const struct config_section_info *list)
{
    size_t given = 0;
    struct config_node *node = list_node(r, list, &given);
    if (given == 0 && list->smallest == 0)
        return;
    size_t count = given > 0 ? given : 1;
    char *items = config_memory_get(r->memory, count * list->item_size);
    if (items == NULL)
        return;
    memcpy((char *)r->config + list->array_offset, &items, sizeof items);
    memcpy((char *)r->config + list->count_offset, &count, sizeof count);
    for (size_t i = 0; i < count; i++)
        read_item(r, list, given > 0 ? config_node_item(node, i) : NULL, i,
                  items + i * list->item_size);
}

void config_read(struct config_reading *r)
{
    struct place root = {.section = CONFIG_SECTION_ROOT, .node = r->root, .base = r->config};
    read_section(r, &root);
    for (size_t i = CONFIG_SECTION_ROOT + 1; i < CONFIG_SECTION_COUNT; i++)
        if (SECTIONS[i].is_list)
            read_list(r, &SECTIONS[i]);
}
