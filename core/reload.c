/*
 * A file is compared by what stat(2) says of it, and by its bytes only where that has changed. A
 * change is taken up when two looks, two seconds apart, have found the same: whoever writes several
 * files is given the time for it.
 */
#include "core/reload.h"

#include "core/peers.h"
#include "core/site_config.h"

#include <event2/event.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOK_S 2
#define FAULTS_SHOWN 20u

/* Where a hash begins (FNV-1a). */
#define HASH_START UINT64_C(14695981039346656037)

struct reload {
    struct reload_setting setting;
    struct event *look;
    uint64_t marks; /* of stat, at the last look */
    bool moving;    /* the last look found other marks than the one before it, or was none */
};

/* ---- what the files hold ------------------------------------------------------------------- */

static uint64_t mix(uint64_t hash, const void *data, size_t length)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(1099511628211);
    return hash;
}

typedef uint64_t hash_file(uint64_t hash, const char *path);

static uint64_t hash_marks(uint64_t hash, const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return mix(hash, "none", 4);
    hash = mix(hash, &status.st_dev, sizeof status.st_dev);
    hash = mix(hash, &status.st_ino, sizeof status.st_ino);
    hash = mix(hash, &status.st_size, sizeof status.st_size);
    return mix(hash, &status.st_mtim, sizeof status.st_mtim);
}

/* Only of what can be read again: a pipe gives its configuration once. */
static uint64_t hash_content(uint64_t hash, const char *path)
{
    uint8_t piece[4096];
    struct stat status;
    ssize_t got;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return mix(hash, "none", 4);
    bool regular = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    while (regular && (got = read(fd, piece, sizeof piece)) > 0)
        hash = mix(hash, piece, (size_t)got);
    explicit_bzero(piece, sizeof piece);
    close(fd);
    return mix(hash, "end", 3);
}

static uint64_t hash_tls(uint64_t hash, const struct config_tls *tls, hash_file *of)
{
    const char *const files[] = {tls->ca_file, tls->cert_file, tls->key_file};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (files[i][0] != '\0')
            hash = of(hash, files[i]);
    return hash;
}

static uint64_t hash_all(const struct config *config, const char *file, hash_file *of)
{
    uint64_t hash = of(HASH_START, file);
    if (config->redis.password_file[0] != '\0')
        hash = of(hash, config->redis.password_file);
    hash = hash_tls(hash, &config->redis.tls, of);
    if (config->admin.token_file[0] != '\0')
        hash = of(hash, config->admin.token_file);
    hash = hash_tls(hash, &config->admin.tls, of);
    for (size_t i = 0; i < config->broker_count; i++) {
        if (config->brokers[i].password_file[0] != '\0')
            hash = of(hash, config->brokers[i].password_file);
        hash = hash_tls(hash, &config->brokers[i].tls, of);
    }
    for (size_t i = 0; i < config->route_count; i++)
        if (config->routes[i].sign_key_file[0] != '\0')
            hash = of(hash, config->routes[i].sign_key_file);
    for (size_t i = 0; i < config->secret_file_count; i++)
        hash = of(hash, config->secret_files[i]);
    return hash;
}

/* ---- whether it can be used ---------------------------------------------------------------- */

/* Certificates and keys are judged when they are loaded. */
static bool opens_tls(const struct config_url *url, const struct config_tls *tls, FILE *errors)
{
    struct tls_context *context = NULL;
    char error[IO_ERROR_TEXT];
    if (!peer_open_tls(url, tls, &context, error)) {
        fprintf(errors, "%s\n", error);
        return false;
    }
    tls_context_free(context);
    return true;
}

static bool has_same_counts(const struct config *now, const struct config *next)
{
    bool same = next->slots == now->slots;
    for (size_t i = 0; i < next->broker_count; i++)
        for (size_t k = 0; k < now->broker_count; k++)
            if (strcmp(next->brokers[i].name, now->brokers[k].name) == 0 &&
                next->brokers[i].connections != now->brokers[k].connections)
                same = false;
    return same;
}

static bool may_follow(const struct config *now, const struct config *next, FILE *errors)
{
    if (!has_same_counts(now, next)) {
        fputs("slots and connections are the same on all instances and kept in Redis; stop all "
              "instances and use nemogate slots --set to change them\n",
              errors);
        return false;
    }
    bool good = opens_tls(&next->redis.url, &next->redis.tls, errors);
    for (size_t i = 0; good && i < next->broker_count; i++)
        good = opens_tls(&next->brokers[i].url, &next->brokers[i].tls, errors);
    return good;
}

struct config *reload_load(const struct config *now, const char *file, FILE *errors)
{
    struct config *next = config_load(file, errors);
    if (next == NULL || may_follow(now, next, errors))
        return next;
    config_free(next);
    return NULL;
}

static void refuse(const char *file, const struct log *log, const char *reason)
{
    log_event(log, LOG_ERROR, "the configuration is not reloaded: the present one stays in use",
              LOG_TEXT("file", file), LOG_TEXT("reason", reason));
}

/* NULL: the faults are logged. */
static struct config *load(const struct config *now, const char *file, const struct log *log)
{
    char *text = NULL;
    size_t length = 0;
    FILE *errors = open_memstream(&text, &length);
    if (errors == NULL)
        return NULL;
    struct config *next = reload_load(now, file, errors);
    if (fclose(errors) != 0)
        text[0] = '\0';
    char *rest = text, *line;
    for (unsigned n = 0; next == NULL && n < FAULTS_SHOWN && rest != NULL; n++)
        if ((line = strsep(&rest, "\n"))[0] != '\0')
            refuse(file, log, line);
    free(text);
    return next;
}

/* A site that was carried must not stop for a file that is missing now. */
static bool sites_stay(const struct reload_setting *setting, struct config *next)
{
    const struct config *now = setting->config;
    if (!site_config_apply(next, now->sites, NULL)) {
        refuse(setting->state->file, setting->log, "memory is short");
        return false;
    }
    const struct config_route *worse = site_config_worse(now, next);
    if (worse == NULL)
        return true;
    log_event(setting->log, LOG_ERROR,
              "the configuration is not reloaded: the present one stays in use",
              LOG_TEXT("file", setting->state->file), LOG_TEXT("site", worse->site_settings->site),
              LOG_TEXT("reason", worse->site_fault));
    return false;
}

static void try_it(struct reload *reload, const char *why)
{
    const struct reload_setting *setting = &reload->setting;
    struct config *next = load(setting->config, setting->state->file, setting->log);
    setting->state->failed = next == NULL || !sites_stay(setting, next);
    if (next != NULL)
        config_free(next);
    if (!setting->state->failed)
        setting->on_change(setting->context, why);
}

bool reload_is_still_sound(const struct config *now, struct reload_state *state,
                           const struct log *log)
{
    state->content = hash_all(now, state->file, hash_content);
    struct config *next = load(now, state->file, log);
    state->failed = next == NULL;
    if (next != NULL)
        config_free(next);
    return !state->failed;
}

/* ---- looking ------------------------------------------------------------------------------- */

static void on_look(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    struct reload *reload = context;
    const struct reload_setting *setting = &reload->setting;
    uint64_t marks = hash_all(setting->config, setting->state->file, hash_marks);
    if (marks != reload->marks) {
        reload->marks = marks;
        reload->moving = true;
        return;
    }
    if (!reload->moving)
        return;
    reload->moving = false;
    uint64_t content = hash_all(setting->config, setting->state->file, hash_content);
    if (content == setting->state->content)
        return;
    setting->state->content = content;
    try_it(reload, "a file has changed");
}

void reload_ask(struct reload *reload)
{
    const struct reload_setting *setting = &reload->setting;
    reload->moving = false;
    reload->marks = hash_all(setting->config, setting->state->file, hash_marks);
    setting->state->content = hash_all(setting->config, setting->state->file, hash_content);
    try_it(reload, "SIGHUP");
}

/* ---- making and ending --------------------------------------------------------------------- */

struct reload_state reload_before(const char *file)
{
    return (struct reload_state){.file = file, .read = hash_content(HASH_START, file)};
}

/* The content in use is that of the files as they are now, unless the first of them has changed
 * since it was read: then the first look finds another one. */
static void begin(struct reload *reload)
{
    const struct reload_setting *setting = &reload->setting;
    struct reload_state *state = setting->state;
    reload->marks = hash_all(setting->config, setting->state->file, hash_marks);
    reload->moving = true;
    if (state->begun)
        return;
    state->begun = true;
    state->content = hash_all(setting->config, setting->state->file, hash_content);
    if (hash_content(HASH_START, setting->state->file) != state->read)
        state->content = ~state->content;
}

struct reload *reload_new(const struct reload_setting *setting)
{
    struct reload *reload = calloc(1, sizeof *reload);
    if (reload == NULL)
        return NULL;
    reload->setting = *setting;
    begin(reload);
    reload->look = event_new(setting->net->base, -1, EV_PERSIST, on_look, reload);
    if (reload->look == NULL || event_add(reload->look, &(struct timeval){.tv_sec = LOOK_S}) != 0) {
        reload_free(reload);
        return NULL;
    }
    return reload;
}

void reload_free(struct reload *reload)
{
    if (reload == NULL)
        return;
    if (reload->look != NULL)
        event_free(reload->look);
    free(reload);
}

bool reload_has_failed(const struct reload *reload)
{
    return reload->setting.state->failed;
}
