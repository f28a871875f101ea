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

struct reload {
    struct reload_setting setting;
    struct event *look;
    uint64_t marks;   /* of stat, at the last look */
    uint64_t content; /* that is in use, or was tried last */
    bool moving;      /* the last look found other marks than the one before it */
    bool failed;
};

/* ---- what the files hold ------------------------------------------------------------------- */

static uint64_t mix(uint64_t hash, const void *data, size_t length)
{
    const uint8_t *bytes = data;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(1099511628211); /* FNV-1a */
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

static uint64_t hash_content(uint64_t hash, const char *path)
{
    uint8_t piece[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return mix(hash, "none", 4);
    ssize_t got;
    while ((got = read(fd, piece, sizeof piece)) > 0)
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

static uint64_t hash_all(const struct reload *reload, hash_file *of)
{
    const struct config *config = reload->setting.config;
    uint64_t hash = of(UINT64_C(14695981039346656037), reload->setting.file);
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

static void refuse(const struct reload *reload, const char *reason)
{
    log_event(reload->setting.log, LOG_ERROR,
              "the configuration is not reloaded: the present one stays in use",
              LOG_TEXT("file", reload->setting.file), LOG_TEXT("reason", reason));
}

/* NULL: the faults are logged. */
static struct config *read_file(const struct reload *reload)
{
    char *text = NULL;
    size_t length = 0;
    FILE *errors = open_memstream(&text, &length);
    if (errors == NULL)
        return NULL;
    struct config *config = config_load(reload->setting.file, errors);
    if (fclose(errors) != 0)
        text[0] = '\0';
    char *rest = text, *line;
    for (unsigned n = 0; config == NULL && n < FAULTS_SHOWN && rest != NULL; n++)
        if ((line = strsep(&rest, "\n"))[0] != '\0')
            refuse(reload, line);
    free(text);
    return config;
}

/* Certificates and keys are judged when they are loaded. */
static bool opens_tls(const struct config_url *url, const struct config_tls *tls, char *error)
{
    struct tls_context *context = NULL;
    if (!peer_open_tls(url, tls, &context, error))
        return false;
    tls_context_free(context);
    return true;
}

static bool may_be_applied(const struct reload *reload, const struct config *next)
{
    const struct config *now = reload->setting.config;
    char error[IO_ERROR_TEXT];
    bool same_counts = next->slots == now->slots;
    for (size_t i = 0; i < next->broker_count; i++)
        for (size_t k = 0; k < now->broker_count; k++)
            if (strcmp(next->brokers[i].name, now->brokers[k].name) == 0 &&
                next->brokers[i].connections != now->brokers[k].connections)
                same_counts = false;
    if (!same_counts) {
        refuse(reload, "slots and connections are the same on all instances and kept in Redis; "
                       "stop all instances and use nemogate slots --set to change them");
        return false;
    }
    bool good = opens_tls(&next->redis.url, &next->redis.tls, error);
    for (size_t i = 0; good && i < next->broker_count; i++)
        good = opens_tls(&next->brokers[i].url, &next->brokers[i].tls, error);
    if (!good)
        refuse(reload, error);
    return good;
}

/* A site that was carried must not stop for a file that is missing now. */
static bool sites_stay(const struct reload *reload, struct config *next)
{
    const struct config *now = reload->setting.config;
    if (!site_config_apply(next, now->sites, NULL)) {
        refuse(reload, "memory is short");
        return false;
    }
    const struct config_route *worse = site_config_worse(now, next);
    if (worse == NULL)
        return true;
    log_event(reload->setting.log, LOG_ERROR,
              "the configuration is not reloaded: the present one stays in use",
              LOG_TEXT("file", reload->setting.file), LOG_TEXT("site", worse->site_settings->site),
              LOG_TEXT("reason", worse->site_fault));
    return false;
}

static void try_it(struct reload *reload, const char *why)
{
    struct config *next = read_file(reload);
    reload->failed = next == NULL || !may_be_applied(reload, next) || !sites_stay(reload, next);
    if (next != NULL)
        config_free(next);
    if (!reload->failed)
        reload->setting.on_change(reload->setting.context, why);
}

/* ---- looking ------------------------------------------------------------------------------- */

static void on_look(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    struct reload *reload = context;
    uint64_t marks = hash_all(reload, hash_marks);
    if (marks != reload->marks) {
        reload->marks = marks;
        reload->moving = true;
        return;
    }
    if (!reload->moving)
        return;
    reload->moving = false;
    uint64_t content = hash_all(reload, hash_content);
    if (content == reload->content)
        return;
    reload->content = content;
    try_it(reload, "a file has changed");
}

void reload_ask(struct reload *reload)
{
    reload->moving = false;
    reload->marks = hash_all(reload, hash_marks);
    reload->content = hash_all(reload, hash_content);
    try_it(reload, "SIGHUP");
}

struct reload *reload_new(const struct reload_setting *setting)
{
    struct reload *reload = calloc(1, sizeof *reload);
    if (reload == NULL)
        return NULL;
    reload->setting = *setting;
    reload->marks = hash_all(reload, hash_marks);
    reload->content = hash_all(reload, hash_content);
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
    return reload->failed;
}
