/*
 * The set is an array in the order of the sites' names. It is left as text: for each site its name,
 * its version and its values, each ended by a NUL.
 */
#include "core/site_settings.h"

#include "codec/decimal.h"
#include "codec/stream_entry.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define VARIABLE "NEMOGATE_SITES"
#define VERSION_MAX (UINT64_C(1) << 53)
#define LEFT_MAX ((off_t)SITE_SET_MAX * (off_t)(SITE_FIELDS * (SITE_TEXT_MAX + 1) + 64))

const char *const site_field_names[SITE_FIELDS] = {
    [SITE_BROKER_URL] = "broker_url",
    [SITE_USERNAME] = "broker_username",
    [SITE_PASSWORD_REF] = "broker_password_ref",
    [SITE_CA] = "broker_ca",
    [SITE_SIGN_KEY_REF] = "sign_key_ref",
};

bool site_version_read(struct bytes text, uint64_t *version)
{
    return text.length > 0 && text.data[0] != '0' && decimal_read(text, version) &&
           *version <= VERSION_MAX;
}

bool site_order_read(struct bytes payload, uint64_t *version)
{
    static const char head[] = "{\"version\":";
    const size_t length = sizeof head - 1;
    if (payload.length < length + 2 || memcmp(payload.data, head, length) != 0 ||
        payload.data[payload.length - 1] != '}')
        return false;
    return site_version_read((struct bytes){payload.data + length, payload.length - length - 1},
                             version);
}

/* ---- the settings of a site ---------------------------------------------------------------- */

void site_settings_free(struct site_settings *settings)
{
    if (settings == NULL)
        return;
    for (int i = 0; i < SITE_FIELDS; i++)
        free(settings->text[i]);
    free(settings);
}

static char *copy_text(struct bytes text)
{
    if (text.length > SITE_TEXT_MAX ||
        (text.length > 0 && memchr(text.data, '\0', text.length) != NULL))
        return NULL;
    char *copy = malloc(text.length + 1);
    if (copy == NULL)
        return NULL;
    if (text.length > 0)
        memcpy(copy, text.data, text.length);
    copy[text.length] = '\0';
    return copy;
}

struct site_settings *site_settings_new(struct bytes site, uint64_t version,
                                        const struct bytes text[SITE_FIELDS])
{
    struct site_settings *settings = site_id_valid(site) ? calloc(1, sizeof *settings) : NULL;
    if (settings == NULL)
        return NULL;
    memcpy(settings->site, site.data, site.length);
    settings->version = version;
    bool good = true;
    for (int i = 0; i < SITE_FIELDS; i++) {
        settings->text[i] = copy_text(text[i]);
        good = good && settings->text[i] != NULL;
    }
    if (good)
        return settings;
    site_settings_free(settings);
    return NULL;
}

static bool same_settings(const struct site_settings *a, const struct site_settings *b)
{
    bool same = strcmp(a->site, b->site) == 0 && a->version == b->version;
    for (int i = 0; same && i < SITE_FIELDS; i++)
        same = strcmp(a->text[i], b->text[i]) == 0;
    return same;
}

/* ---- the set ------------------------------------------------------------------------------- */

static int compare(struct bytes site, const struct site_settings *settings)
{
    char name[SITE_NAME_TEXT];
    snprintf(name, sizeof name, "%.*s", (int)site.length, (const char *)site.data);
    return strcmp(name, settings->site);
}

const struct site_settings *site_set_find(const struct site_set *set, struct bytes site,
                                          size_t *index)
{
    size_t low = 0, high = set != NULL ? set->count : 0;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = compare(site, set->items[middle]);
        if (order == 0) {
            *index = middle;
            return set->items[middle];
        }
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    *index = low;
    return NULL;
}

enum site_put site_set_put(struct site_set *set, struct site_settings *settings)
{
    size_t at;
    const struct site_settings *present = site_set_find(set, bytes_of(settings->site), &at);
    if (present != NULL && present->version >= settings->version) {
        site_settings_free(settings);
        return SITE_PUT_OLD;
    }
    if (present != NULL) {
        site_settings_free(set->items[at]);
        set->items[at] = settings;
        return SITE_PUT_DONE;
    }
    struct site_settings **more = NULL;
    if (set->count < SITE_SET_MAX)
        more = realloc(set->items, (set->count + 1) * sizeof(struct site_settings *));
    if (more == NULL) {
        site_settings_free(settings);
        return SITE_PUT_FULL;
    }
    set->items = more;
    memmove(&more[at + 1], &more[at], (set->count - at) * sizeof(struct site_settings *));
    more[at] = settings;
    set->count++;
    return SITE_PUT_DONE;
}

bool site_set_copy(struct site_set *to, const struct site_set *from)
{
    for (size_t i = 0; from != NULL && i < from->count; i++) {
        const struct site_settings *item = from->items[i];
        struct bytes text[SITE_FIELDS];
        for (int n = 0; n < SITE_FIELDS; n++)
            text[n] = bytes_of(item->text[n]);
        struct site_settings *copy = site_settings_new(bytes_of(item->site), item->version, text);
        if (copy == NULL || site_set_put(to, copy) != SITE_PUT_DONE)
            return false;
    }
    return true;
}

bool site_set_equal(const struct site_set *a, const struct site_set *b)
{
    size_t count = a != NULL ? a->count : 0;
    bool same = count == (b != NULL ? b->count : 0);
    for (size_t i = 0; same && i < count; i++)
        same = same_settings(a->items[i], b->items[i]);
    return same;
}

void site_set_free(struct site_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        site_settings_free(set->items[i]);
    free(set->items);
    *set = (struct site_set){NULL, 0};
}

/* ---- from one program to the next ---------------------------------------------------------- */

/* The file that the environment names; -1: none. */
static int named_file(void)
{
    const char *name = getenv(VARIABLE);
    uint64_t number = 0;
    bool good = name != NULL && decimal_read(bytes_of(name), &number) && number > STDERR_FILENO &&
                number < INT32_MAX;
    return good ? (int)number : -1;
}

/* The same, which the environment then names no more. */
static int take_file(void)
{
    int fd = named_file();
    unsetenv(VARIABLE);
    return fd;
}

static bool write_all(FILE *file, const struct site_set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct site_settings *item = set->items[i];
        fprintf(file, "%s%c%" PRIu64 "%c", item->site, 0, item->version, 0);
        for (int n = 0; n < SITE_FIELDS; n++)
            fwrite(item->text[n], 1, strlen(item->text[n]) + 1, file);
    }
    return fflush(file) == 0 && ferror(file) == 0;
}

bool site_set_leave(const struct site_set *set)
{
    char number[16];
    int former = take_file();
    if (former >= 0)
        close(former);
    if (set->count == 0)
        return true;
    int fd = memfd_create("nemogate-sites", MFD_CLOEXEC);
    int kept = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1) : -1;
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    bool good = file != NULL && kept >= 0 && write_all(file, set);
    if (file != NULL)
        fclose(file);
    else if (fd >= 0)
        close(fd);
    snprintf(number, sizeof number, "%d", kept);
    if (good && setenv(VARIABLE, number, 1) == 0)
        return true;
    if (kept >= 0)
        close(kept);
    return false;
}

void site_set_keep_open(void)
{
    int fd = named_file();
    if (fd >= 0)
        (void)fcntl(fd, F_SETFD, 0);
}

static struct bytes next_text(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *start = *at, *nul = memchr(start, '\0', (size_t)(end - start));
    *at = nul != NULL ? nul + 1 : end;
    return (struct bytes){start, (size_t)((nul != NULL ? nul : end) - start)};
}

static void read_all(struct site_set *set, const uint8_t *at, const uint8_t *end)
{
    while (at < end) {
        struct bytes site = next_text(&at, end), text[SITE_FIELDS];
        struct bytes digits = next_text(&at, end);
        uint64_t version = 0;
        for (int i = 0; i < SITE_FIELDS; i++)
            text[i] = next_text(&at, end);
        struct site_settings *settings = NULL;
        if (site_version_read(digits, &version))
            settings = site_settings_new(site, version, text);
        if (settings != NULL)
            (void)site_set_put(set, settings);
    }
}

void site_set_inherit(struct site_set *set)
{
    struct stat status;
    int fd = take_file();
    if (fd < 0)
        return;
    if (fstat(fd, &status) == 0 && status.st_size > 0 && status.st_size <= LEFT_MAX) {
        size_t size = (size_t)status.st_size;
        const uint8_t *memory = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (memory != MAP_FAILED) {
            read_all(set, memory, memory + size);
            munmap((void *)(uintptr_t)memory, size);
        }
    }
    close(fd);
}
