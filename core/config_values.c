/*
 * The types of values: how each is read from its text, checked, named in the reference and shown in
 * a message. A key's own bounds come from its row of the table.
 */
#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "codec/stream_entry.h"
#include "codec/topic_template.h"
#include "core/config_private.h"

/* The field of every row has the C type that the reader of its type writes. */
#define C_TYPE_NUMBER unsigned
#define C_TYPE_DURATION uint32_t
#define C_TYPE_SECONDS uint32_t
#define C_TYPE_SIZE size_t
#define C_TYPE_BOOL bool
#define C_TYPE_TEXT char *
#define C_TYPE_INSTANCE char *
#define C_TYPE_NAME char *
#define C_TYPE_PREFIX char *
#define C_TYPE_GROUP char *
#define C_TYPE_SITE char *
#define C_TYPE_PATTERN char *
#define C_TYPE_PATTERNS char **
#define C_TYPE_BROKER size_t
#define C_TYPE_FILE char *
#define C_TYPE_KEY_FILE char *
#define C_TYPE_PASSWORD_FILE char *
#define C_TYPE_SITE_TEMPLATE char *
#define C_TYPE_CLIENT_TEMPLATE char *
#define C_TYPE_REDIS_URL struct config_url
#define C_TYPE_MQTT_URL struct config_url
#define C_TYPE_START enum config_start
#define C_TYPE_PROTOCOL enum config_protocol
#define C_TYPE_ENCODING enum config_encoding
#define C_TYPE_SETTINGS enum config_settings
#define C_TYPE_TRIM enum config_trim
#define C_TYPE_LOG_LEVEL enum config_log_level
#define C_TYPE_LOG_FORMAT enum config_log_format
#define CONFIG_KEY(section, base, field, name, type, ...)                                          \
    static_assert(_Generic(((struct base *)0)->field, C_TYPE_##type                                \
                           : true, default                                                         \
                           : false),                                                               \
                  #field " is not what " #type " reads");
#include "core/config_keys.def"

static_assert(sizeof(size_t) >= 8, "sizes of up to 64 GiB are configured");
static_assert(sizeof(enum config_start) == sizeof(unsigned), "choices are written as unsigned");

typedef bool read_fn(struct config_value *value, const char *text, void *field);

/* What makes one type different from another. */
struct type_info {
    const char *name;           /* in the reference */
    const char *phrase;         /* what would be right, before the range */
    const char *range;          /* NULL: made from the bounds */
    const char *set;            /* of names: the characters, as a class of a pattern */
    const char *const *choices; /* ends with NULL; the index is the value */
    read_fn *read;
};

static bool fail(struct config_value *value, const char *problem)
{
    snprintf(value->problem, sizeof value->problem, "%s", problem);
    return false;
}

static bool store_text(struct config_value *value, const char *text, void *field)
{
    char *copy = config_memory_text(value->memory, text, strlen(text));
    memcpy(field, &copy, sizeof copy);
    return copy != NULL ? true : fail(value, "cannot be kept: memory is short");
}

/* ---- Numbers ------------------------------------------------------------------------------ */

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit DURATION_UNITS[] = {
    {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {NULL, 0}};
static const struct unit SIZE_UNITS[] = {
    {"B", 1}, {"KiB", 1u << 10}, {"MiB", 1u << 20}, {"GiB", 1u << 30}, {NULL, 0}};

/* Reads digits; *rest is what follows them. What is too large for the type becomes UINT64_MAX,
 * which is out of every range. false: there are none, or a zero stands before another digit (which
 * some readers of YAML take for octal). */
static bool read_digits(const char *text, uint64_t *number, const char **rest)
{
    size_t count = strspn(text, "0123456789");
    uint64_t read = 0;
    bool fits = true;
    for (size_t i = 0; i < count; i++)
        fits = fits && !__builtin_mul_overflow(read, UINT64_C(10), &read) &&
               !__builtin_add_overflow(read, (uint64_t)(text[i] - '0'), &read);
    *number = fits ? read : UINT64_MAX;
    *rest = text + count;
    return count > 0 && (text[0] != '0' || count == 1);
}

static bool in_range(struct config_value *value, uint64_t number)
{
    if (number >= value->key->smallest && number <= value->key->largest)
        return true;
    return fail(value, "is out of range");
}

static bool read_number(struct config_value *value, const char *text, void *field)
{
    uint64_t number = 0;
    const char *rest = text;
    if (text[0] == '-' && read_digits(text + 1, &number, &rest) && *rest == '\0')
        return fail(value, "is out of range");
    if (!read_digits(text, &number, &rest) || *rest != '\0')
        return fail(value, "is not a number");
    unsigned stored = (unsigned)number;
    if (!in_range(value, number))
        return false;
    memcpy(field, &stored, sizeof stored);
    return true;
}

/* A number and its unit. */
static bool read_scaled(struct config_value *value, const char *text, const struct unit *units,
                        const char *problem, uint64_t *scaled)
{
    uint64_t number = 0;
    const char *rest = text;
    if (!read_digits(text, &number, &rest))
        return fail(value, problem);
    while (units->name != NULL && strcmp(units->name, rest) != 0)
        units++;
    if (units->name == NULL)
        return fail(value, *rest == '\0' ? "has no unit" : problem);
    if (__builtin_mul_overflow(number, units->factor, scaled))
        *scaled = UINT64_MAX;
    return in_range(value, *scaled);
}

static bool read_duration(struct config_value *value, const char *text, void *field)
{
    uint64_t ms = 0;
    if (!read_scaled(value, text, DURATION_UNITS, "is not a duration", &ms))
        return false;
    if (value->key->type == CONFIG_TYPE_SECONDS && ms % 1000 != 0)
        return fail(value, "is not a whole number of seconds");
    uint32_t stored = (uint32_t)ms;
    memcpy(field, &stored, sizeof stored);
    return true;
}

static bool read_size(struct config_value *value, const char *text, void *field)
{
    uint64_t bytes = 0;
    const char *rest = text;
    if (read_digits(text, &bytes, &rest) && *rest == '\0') {
        if (!in_range(value, bytes))
            return false;
    } else if (!read_scaled(value, text, SIZE_UNITS, "is not a size", &bytes)) {
        return false;
    }
    size_t stored = (size_t)bytes;
    memcpy(field, &stored, sizeof stored);
    return true;
}

static void print_in_units(uint64_t number, const struct unit *units, char *out)
{
    const struct unit *best = units;
    for (const struct unit *unit = units; unit->name != NULL; unit++)
        if (number != 0 && number % unit->factor == 0)
            best = unit;
    snprintf(out, 32, "%llu%s", (unsigned long long)(number / best->factor), best->name);
}

void config_print_duration(uint64_t ms, char *out)
{
    print_in_units(ms, ms == 0 ? DURATION_UNITS + 1 : DURATION_UNITS, out);
}

void config_print_size(uint64_t size, char *out)
{
    print_in_units(size, SIZE_UNITS, out);
}

/* ---- Texts -------------------------------------------------------------------------------- */

static bool length_fits(struct config_value *value, const char *text)
{
    size_t length = strlen(text);
    if (length == 0 && value->key->smallest > 0)
        return fail(value, "is empty");
    return length <= value->key->largest ? true : fail(value, "is too long");
}

static bool has_control(const char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            return true;
    return false;
}

static bool read_text(struct config_value *value, const char *text, void *field)
{
    if (!length_fits(value, text))
        return false;
    if (has_control(text))
        return fail(value, "holds a control character");
    return store_text(value, text, field);
}

static const struct type_info *type_info(enum config_type type);

/* Letters and ranges, such as "a-z0-9_-"; a '-' at the end is itself. */
static bool is_in_set(char c, const char *set)
{
    while (*set != '\0') {
        bool is_range = set[1] == '-' && set[2] != '\0';
        if (c >= set[0] && c <= set[is_range ? 2 : 0])
            return true;
        set += is_range ? 3 : 1;
    }
    return false;
}

static bool read_name(struct config_value *value, const char *text, void *field)
{
    const char *set = type_info(value->key->type)->set;
    if (!length_fits(value, text))
        return false;
    for (const char *at = text; *at != '\0'; at++)
        if (!is_in_set(*at, set))
            return fail(value, "holds a character that is not allowed here");
    return store_text(value, text, field);
}

static bool read_group(struct config_value *value, const char *text, void *field)
{
    /* The group stands in braces in nemogate's own keys: a brace of its own would end the hash tag
     * early. */
    if (strpbrk(text, "{} ") != NULL)
        return fail(value, "holds a brace or a blank");
    return read_text(value, text, field);
}

static bool read_site(struct config_value *value, const char *text, void *field)
{
    if (text[0] != '\0' && !site_id_valid(bytes_of(text)))
        return fail(value, "is not a site id");
    return store_text(value, text, field);
}

/* NULL, or what Redis would take otherwise than it was meant. */
static const char *pattern_problem(const char *text)
{
    bool in_class = false;
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '\\' && at[1] == '\0')
            return "ends with a lone backslash";
        if (*at == '\\' && !config_is_pattern(text))
            return "holds a backslash, which means something in a pattern only";
        if (*at == '\\')
            at++;
        else if (*at == '[')
            in_class = true;
        else if (*at == ']')
            in_class = false;
    }
    return in_class ? "has a '[' without its ']'" : NULL;
}

static bool read_pattern(struct config_value *value, const char *text, void *field)
{
    const char *problem = pattern_problem(text);
    return problem != NULL ? fail(value, problem) : read_text(value, text, field);
}

/* Which broker is meant is seen once all are read: config_check.c. */
static bool read_broker(struct config_value *value, const char *text, void *field)
{
    const size_t first = 0;
    (void)text;
    (void)value;
    memcpy(field, &first, sizeof first);
    return true;
}

static bool read_file(struct config_value *value, const char *text, void *field)
{
    bool secret = value->key->type == CONFIG_TYPE_KEY_FILE;
    if (!read_text(value, text, field))
        return false;
    return text[0] == '\0' || !value->files ||
           config_file_read(text, secret, value->memory, NULL, value->problem);
}

static bool read_template(struct config_value *value, const char *text, void *field)
{
    bool is_site = value->key->type == CONFIG_TYPE_SITE_TEMPLATE;
    const char *problem = topic_template_fault(bytes_of(text), is_site, !is_site);
    if (problem != NULL) {
        snprintf(value->problem, sizeof value->problem, "is no topic: %s", problem);
        return false;
    }
    return read_text(value, text, field);
}

static bool read_url(struct config_value *value, const char *text, void *field)
{
    struct config_url url;
    if (!length_fits(value, text) || !config_url_read(value, text, &url))
        return false;
    memcpy(field, &url, sizeof url);
    return true;
}

/* ---- Choices ------------------------------------------------------------------------------ */

static const char *const BOOLS[] = {"false", "true", NULL};
static const char *const STARTS[] = {"beginning", "new", NULL};
static const char *const PROTOCOLS[] = {"5", "3.1.1", NULL};
static const char *const ENCODINGS[] = {"raw", "signed", "batch", NULL};
static const char *const SETTINGS[] = {"own", "from-site", NULL};
static const char *const TRIMS[] = {"acked", "none", NULL};
static const char *const LOG_LEVELS[] = {"debug", "info", "warning", "error", NULL};
static const char *const LOG_FORMATS[] = {"logfmt", "json", NULL};

static bool find_choice(struct config_value *value, const char *text, unsigned *choice)
{
    const char *const *choices = type_info(value->key->type)->choices;
    unsigned index = 0;
    while (choices[index] != NULL && strcmp(choices[index], text) != 0)
        index++;
    *choice = index;
    return choices[index] != NULL ? true : fail(value, "is not known here");
}

static bool read_choice(struct config_value *value, const char *text, void *field)
{
    unsigned choice = 0;
    if (!find_choice(value, text, &choice))
        return false;
    memcpy(field, &choice, sizeof choice);
    return true;
}

static bool read_bool(struct config_value *value, const char *text, void *field)
{
    unsigned choice = 0;
    if (!find_choice(value, text, &choice))
        return false;
    *(bool *)field = choice == 1;
    return true;
}

static void write_choices(const char *const *choices, FILE *out)
{
    for (size_t i = 0; choices[i] != NULL; i++) {
        if (i > 0)
            fputs(choices[i + 1] == NULL ? " or " : ", ", out);
        fputs(choices[i], out);
    }
}

/* ---- The types ---------------------------------------------------------------------------- */

#define REDIS_URLS "redis://HOST:PORT/DATABASE, rediss://HOST:PORT/DATABASE or unix:///PATH"

static const struct type_info TYPES[] = {
    [CONFIG_TYPE_NUMBER] = {"number", "a number from ", NULL, NULL, NULL, read_number},
    [CONFIG_TYPE_DURATION] = {"duration", "a duration from ", NULL, NULL, NULL, read_duration},
    [CONFIG_TYPE_SECONDS] = {"duration", "a duration in whole seconds from ", NULL, NULL, NULL,
                             read_duration},
    [CONFIG_TYPE_SIZE] = {"size", "a size from ", NULL, NULL, NULL, read_size},
    [CONFIG_TYPE_BOOL] = {"bool", "", "true or false", NULL, BOOLS, read_bool},
    [CONFIG_TYPE_TEXT] = {"text", "a text of ", NULL, NULL, NULL, read_text},
    [CONFIG_TYPE_INSTANCE] = {"name", "a name like ", NULL, "A-Za-z0-9._-", NULL, read_name},
    [CONFIG_TYPE_NAME] = {"name", "a name like ", NULL, "A-Za-z0-9._-", NULL, read_name},
    [CONFIG_TYPE_PREFIX] = {"name", "a name like ", NULL, "A-Za-z0-9_-", NULL, read_name},
    [CONFIG_TYPE_GROUP] = {"name", "a name like ", NULL, "^{} ", NULL, read_group},
    [CONFIG_TYPE_SITE] = {"site id", "a site id like ", "[a-z0-9][a-z0-9-]{0,31}", NULL, NULL,
                          read_site},
    [CONFIG_TYPE_PATTERN] = {"pattern", "a stream's name or pattern of ", NULL, NULL, NULL,
                             read_pattern},
    [CONFIG_TYPE_PATTERNS] = {"list of patterns", "a stream's name or pattern of ", NULL, NULL,
                              NULL, read_pattern},
    [CONFIG_TYPE_BROKER] = {"name", "", "a broker's name", NULL, NULL, read_broker},
    [CONFIG_TYPE_FILE] = {"file", "", "a readable file", NULL, NULL, read_file},
    [CONFIG_TYPE_KEY_FILE] = {"file", "", "a readable file", NULL, NULL, read_file},
    [CONFIG_TYPE_PASSWORD_FILE] = {"file", "", "a readable file", NULL, NULL, read_text},
    [CONFIG_TYPE_SITE_TEMPLATE] = {"topic", "a text that ", "may hold {site}", NULL, NULL,
                                   read_template},
    [CONFIG_TYPE_CLIENT_TEMPLATE] = {"topic", "a text that ", "may hold {client_id}", NULL, NULL,
                                     read_template},
    [CONFIG_TYPE_REDIS_URL] = {"URL", "", REDIS_URLS, NULL, NULL, read_url},
    [CONFIG_TYPE_MQTT_URL] = {"URL", "", "mqtt://HOST:PORT or mqtts://HOST:PORT", NULL, NULL,
                              read_url},
    [CONFIG_TYPE_START] = {"choice", "", NULL, NULL, STARTS, read_choice},
    [CONFIG_TYPE_PROTOCOL] = {"choice", "", NULL, NULL, PROTOCOLS, read_choice},
    [CONFIG_TYPE_ENCODING] = {"choice", "", NULL, NULL, ENCODINGS, read_choice},
    [CONFIG_TYPE_SETTINGS] = {"choice", "", NULL, NULL, SETTINGS, read_choice},
    [CONFIG_TYPE_TRIM] = {"choice", "", NULL, NULL, TRIMS, read_choice},
    [CONFIG_TYPE_LOG_LEVEL] = {"choice", "", NULL, NULL, LOG_LEVELS, read_choice},
    [CONFIG_TYPE_LOG_FORMAT] = {"choice", "", NULL, NULL, LOG_FORMATS, read_choice},
};

static const struct type_info *type_info(enum config_type type)
{
    return &TYPES[type];
}

bool config_value_read(struct config_value *value, const char *text, void *field)
{
    value->problem[0] = '\0';
    return type_info(value->key->type)->read(value, text, field);
}

const char *config_type_name(enum config_type type)
{
    return type_info(type)->name;
}

void config_range_write(const struct config_key *key, FILE *out)
{
    const struct type_info *type = type_info(key->type);
    unsigned long long smallest = key->smallest;
    unsigned long long largest = key->largest;
    char from[32];
    char to[32];
    if (type->range != NULL) {
        fputs(type->range, out);
    } else if (type->choices != NULL) {
        write_choices(type->choices, out);
    } else if (type->set != NULL) {
        fprintf(out, "[%s]{%llu,%llu}", type->set, smallest, largest);
    } else if (type->read == read_duration) {
        config_print_duration(smallest, from);
        config_print_duration(largest, to);
        fprintf(out, "%s to %s", from, to);
    } else if (type->read == read_size) {
        config_print_size(smallest, from);
        config_print_size(largest, to);
        fprintf(out, "%s to %s", from, to);
    } else {
        fprintf(out, "%llu to %llu%s", smallest, largest,
                type->read == read_number ? "" : " bytes");
    }
}

void config_expected_write(const struct config_key *key, FILE *out)
{
    fputs(type_info(key->type)->phrase, out);
    config_range_write(key, out);
}

/* ---- Values in messages ------------------------------------------------------------------- */

/* Whether the value may stand in a message. A file's path is no secret, but who mistakes the key
 * for the password itself writes one there. */
static bool is_showable(const struct config_key *key, const char *text)
{
    if (key != NULL &&
        (key->type == CONFIG_TYPE_PASSWORD_FILE || key->type == CONFIG_TYPE_KEY_FILE))
        return false;
    bool is_url =
        key != NULL && (key->type == CONFIG_TYPE_REDIS_URL || key->type == CONFIG_TYPE_MQTT_URL);
    if (!is_url && strstr(text, "://") == NULL)
        return true;
    const char *brace = strchr(text, '}');
    bool is_variable = strncmp(text, "${", 2) == 0 && brace != NULL && brace[1] == '\0';
    return is_variable || config_url_is_public(text);
}

void config_show(const struct config_key *key, const char *text, char shown[CONFIG_SHOWN_TEXT])
{
    if (!is_showable(key, text)) {
        snprintf(shown, CONFIG_SHOWN_TEXT, "the value (not shown: it may hold a secret)");
        return;
    }
    size_t at = 0;
    shown[at++] = '\'';
    const size_t end = CONFIG_SHOWN_TEXT - 12; /* an escape, "..." and the quote behind it */
    while (*text != '\0' && at < end) {
        unsigned char c = (unsigned char)*text++;
        if (c < ' ' || c == 0x7f)
            at += (size_t)snprintf(shown + at, 5, "\\x%02x", c);
        else
            shown[at++] = (char)c;
    }
    /* A character that does not fit as a whole is left out as a whole. */
    while (*text != '\0' && ((unsigned char)*text & 0xc0) == 0x80 && at > 1) {
        text--;
        at--;
    }
    snprintf(shown + at, CONFIG_SHOWN_TEXT - at, *text != '\0' ? "...'" : "'");
}
