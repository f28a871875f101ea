/*
 * What the files of the configuration share, and nobody else includes but its tests and its fuzz
 * target. The way of a file: config_yaml makes a tree of nodes with positions, config_read fills
 * struct config from it by the key table, config_check looks at what concerns several keys at once.
 */
#ifndef NEMOGATE_CORE_CONFIG_PRIVATE_H
#define NEMOGATE_CORE_CONFIG_PRIVATE_H

#include "codec/status.h"
#include "core/config.h"

#define CONFIG_FILE_MAX (1024u * 1024u)
#define CONFIG_FAULTS_MAX 100u
#define CONFIG_FAULT_TEXT 1024u
#define CONFIG_PATH_TEXT 64u
#define CONFIG_PROBLEM_TEXT 256u
#define CONFIG_SHOWN_TEXT 128u
#define CONFIG_STREAMS_MAX 256u

/* Units of the key table: milliseconds and bytes. */
#define CONFIG_MS(n) UINT64_C(n)
#define CONFIG_SECONDS(n) (UINT64_C(n) * 1000)
#define CONFIG_MINUTES(n) (UINT64_C(n) * 60000)
#define CONFIG_HOURS(n) (UINT64_C(n) * 3600000)
#define CONFIG_KIB(n) (UINT64_C(n) << 10)
#define CONFIG_MIB(n) (UINT64_C(n) << 20)
#define CONFIG_GIB(n) (UINT64_C(n) << 30)

/* ---- Memory: given out piece by piece, freed as a whole ----------------------------------- */

struct config_memory {
    struct config_block *blocks;
    bool failed; /* memory was short once; sticky */
};

/* Zeroed; NULL: memory is short. */
void *config_memory_get(struct config_memory *memory, size_t size);
/* A NUL-terminated copy; NULL: memory is short. */
char *config_memory_text(struct config_memory *memory, const char *data, size_t length);
/* Overwrites what was given out, for it may hold passwords. */
void config_memory_free(struct config_memory *memory);

/* That of a configuration which nobody has borrowed yet. */
struct config_memory *config_memory_of(struct config *config);

/* ---- Faults: gathered, then written in the order of the file ------------------------------ */

struct config_fault {
    unsigned line; /* 1-based; 0: of the file as a whole */
    unsigned column;
    size_t order; /* of being found */
    const char *text;
};

struct config_report {
    const char *file;
    struct config_memory *memory;
    struct config_fault faults[CONFIG_FAULTS_MAX];
    size_t count; /* found; only the first CONFIG_FAULTS_MAX are kept */
};

void config_fault_at(struct config_report *report, unsigned line, unsigned column,
                     const char *format, ...) __attribute__((format(printf, 4, 5)));
void config_report_write(struct config_report *report, FILE *errors);

/* ---- The tree ----------------------------------------------------------------------------- */

enum config_node_kind {
    CONFIG_NODE_TEXT,
    CONFIG_NODE_LIST,
    CONFIG_NODE_SECTION,
    CONFIG_NODE_ALIAS
};

struct config_node {
    enum config_node_kind kind;
    bool plain;  /* a text without quotes */
    bool faulty; /* a fault was reported here: what follows from it need not be */
    unsigned line;
    unsigned column;
    const char *key; /* in a section; else NULL */
    unsigned key_line;
    unsigned key_column;
    const char *text; /* CONFIG_NODE_TEXT */
    struct config_node *first;
    struct config_node *next;
};

/* Reads the text of a file. NULL: faults were reported and there is no tree worth looking at. */
struct config_node *config_tree_read(const char *text, size_t length, struct config_memory *memory,
                                     struct config_report *report);
/* The node of a key; NULL where the section is NULL or has none. */
struct config_node *config_node_find(const struct config_node *section, const char *key);
/* The index-th child; NULL where there is none. */
struct config_node *config_node_item(const struct config_node *list, size_t index);
/* `key:` with nothing behind it. */
bool config_node_is_nothing(const struct config_node *node);

/* The text with ${VAR} and $$ replaced; NULL: *problem (CONFIG_PROBLEM_TEXT) says what is wrong. */
const char *config_expand(const char *text, struct config_memory *memory, char *problem);

/* ---- The key table ------------------------------------------------------------------------ */

enum config_section {
#define CONFIG_SECTION(id, ...) CONFIG_SECTION_##id,
#define CONFIG_LIST(id, ...) CONFIG_SECTION_##id,
#include "core/config_keys.def"
    CONFIG_SECTION_COUNT
};

/* The C type of a field is fixed by its type here; see config_values.c. */
enum config_type {
    CONFIG_TYPE_NUMBER,
    CONFIG_TYPE_DURATION,
    CONFIG_TYPE_SECONDS,
    CONFIG_TYPE_SIZE,
    CONFIG_TYPE_BOOL,
    CONFIG_TYPE_TEXT,
    CONFIG_TYPE_INSTANCE,
    CONFIG_TYPE_NAME,
    CONFIG_TYPE_PREFIX,
    CONFIG_TYPE_GROUP,
    CONFIG_TYPE_SITE,
    CONFIG_TYPE_PATTERN,
    CONFIG_TYPE_PATTERNS,
    CONFIG_TYPE_BROKER,
    CONFIG_TYPE_FILE,
    CONFIG_TYPE_KEY_FILE,
    CONFIG_TYPE_PASSWORD_FILE,
    CONFIG_TYPE_SITE_TEMPLATE,
    CONFIG_TYPE_CLIENT_TEMPLATE,
    CONFIG_TYPE_REDIS_URL,
    CONFIG_TYPE_MQTT_URL,
    CONFIG_TYPE_START,
    CONFIG_TYPE_PROTOCOL,
    CONFIG_TYPE_ENCODING,
    CONFIG_TYPE_SETTINGS,
    CONFIG_TYPE_TRIM,
    CONFIG_TYPE_LOG_LEVEL,
    CONFIG_TYPE_LOG_FORMAT
};

struct config_key {
    enum config_section section;
    const char *name;
    enum config_type type;
    size_t offset; /* in struct config, or in the item of the list that the section lies in */
    const char *fallback;
    uint64_t smallest;
    uint64_t largest;
    bool required;
    const char *help;
};

struct config_section_info {
    enum config_section id;
    enum config_section parent;
    const char *name;
    bool is_list;
    const char *help;
    /* Of a list: */
    size_t item_size;
    size_t array_offset;
    size_t count_offset;
    size_t smallest;
    size_t largest;
    bool required;
};

/* All rows of the table, in its order. */
const struct config_key *config_keys(size_t *count);
const struct config_section_info *config_section_info(enum config_section section);
/* The path of a key or a section of the table: "brokers[].tls.ca_file". */
void config_table_path(enum config_section section, const char *name, char path[CONFIG_PATH_TEXT]);

/* ---- Values ------------------------------------------------------------------------------- */

struct config_value {
    const struct config_key *key;
    struct config_memory *memory;
    bool files;                        /* whether files may be looked at */
    char problem[CONFIG_PROBLEM_TEXT]; /* "is out of range" */
};

/* Reads an expanded text into the key's field of base. false: value->problem is set. Of a list of
 * texts this reads one of them, into a char *. */
MUST_CHECK bool config_value_read(struct config_value *value, const char *text, void *field);
/* "number", "duration": the type in the reference. */
const char *config_type_name(enum config_type type);
/* "1 to 65535": the range in the reference. */
void config_range_write(const struct config_key *key, FILE *out);
/* "a number from 1 to 65535": what would be right. */
void config_expected_write(const struct config_key *key, FILE *out);
/* A value for a message: in quotes, shortened, escaped; "the value" where it might be a secret. */
void config_show(const struct config_key *key, const char *text, char shown[CONFIG_SHOWN_TEXT]);
/* "1500ms", "2s"; "64KiB". Writes at most 32 bytes. */
void config_print_duration(uint64_t ms, char *out);
void config_print_size(uint64_t size, char *out);

MUST_CHECK bool config_url_read(struct config_value *value, const char *text,
                                struct config_url *url);
/* Whether an URL, or what was meant to be one, holds nothing that could be a secret. */
bool config_url_is_public(const char *text);

/* Judges a file that the configuration names: a regular file, readable, not empty; secret: nobody
 * else may write to it. content (may be NULL) gets its text with the final line end cut. */
MUST_CHECK bool config_file_read(const char *path, bool secret, struct config_memory *memory,
                                 char **content, char *problem);

/* ---- The steps ---------------------------------------------------------------------------- */

struct config_reading {
    struct config *config;
    struct config_memory *memory;  /* of the configuration */
    struct config_memory *scratch; /* of the tree and the report */
    struct config_report *report;
    struct config_node *root;
    bool files;
};

/* Fills the configuration from the tree; keys that are not given get their defaults. */
void config_read(struct config_reading *reading);
/* Judges what concerns several keys, reads the password files, resolves what is derived. */
void config_check(struct config_reading *reading);
/* The part of config_check that is about legacy_lists; their streams are added to redis.streams. */
void config_check_legacy(struct config_reading *reading);
/* The part of config_check that is about admin. */
void config_check_admin(struct config_reading *reading);

/* Reports at the node, which becomes faulty; NULL, a key that is not given: at the beginning of the
 * file. */
void config_node_fault(struct config_reading *reading, struct config_node *node, const char *format,
                       ...) __attribute__((format(printf, 3, 4)));
/* Whether the key is not given, or given without a fault. */
bool config_node_is_sound(const struct config_node *node);

/* config_load over memory. name stands in the messages. files false: no file is looked at, and
 * passwords stay NULL. */
struct config *config_parse(const char *name, const char *text, size_t length, bool files,
                            FILE *errors);

#endif
