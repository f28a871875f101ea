/*
 * The way of a configuration file from its path to a frozen struct config, its memory, and the
 * report of what is wrong with it. What keys there are and what they mean stands elsewhere.
 */
#include "core/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/config_private.h"

struct config_block {
    struct config_block *next;
    size_t size;
    max_align_t data[];
};

/* What config_load gives out is the first member: config_free finds the memory behind it. */
struct config_owner {
    struct config config;
    struct config_memory memory;
};

void *config_memory_get(struct config_memory *memory, size_t size)
{
    struct config_block *block = calloc(1, sizeof *block + size);
    if (block == NULL) {
        memory->failed = true;
        return NULL;
    }
    block->next = memory->blocks;
    block->size = size;
    memory->blocks = block;
    return block->data;
}

char *config_memory_text(struct config_memory *memory, const char *data, size_t length)
{
    char *copy = config_memory_get(memory, length + 1);
    if (copy != NULL && length > 0)
        memcpy(copy, data, length);
    return copy;
}

void config_memory_free(struct config_memory *memory)
{
    while (memory->blocks != NULL) {
        struct config_block *block = memory->blocks;
        memory->blocks = block->next;
        explicit_bzero(block->data, block->size);
        free(block);
    }
}

struct config_memory *config_memory_of(struct config *config)
{
    return &((struct config_owner *)config)->memory;
}

void config_fault_at(struct config_report *report, unsigned line, unsigned column,
                     const char *format, ...)
{
    if (report->count < CONFIG_FAULTS_MAX) {
        char text[CONFIG_FAULT_TEXT];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        report->faults[report->count] = (struct config_fault){
            .line = line,
            .column = column,
            .order = report->count,
            .text = config_memory_text(report->memory, text, strlen(text)),
        };
    }
    report->count++;
}

static int compare_faults(const void *left, const void *right)
{
    const struct config_fault *a = left;
    const struct config_fault *b = right;
    if (a->line != b->line)
        return a->line < b->line ? -1 : 1;
    if (a->column != b->column)
        return a->column < b->column ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

void config_report_write(struct config_report *report, FILE *errors)
{
    size_t kept = report->count < CONFIG_FAULTS_MAX ? report->count : CONFIG_FAULTS_MAX;
    qsort(report->faults, kept, sizeof report->faults[0], compare_faults);
    for (size_t i = 0; i < kept; i++) {
        const struct config_fault *fault = &report->faults[i];
        const char *text = fault->text != NULL ? fault->text : "memory is short";
        if (fault->line == 0)
            fprintf(errors, "%s: %s\n", report->file, text);
        else
            fprintf(errors, "%s:%u:%u: %s\n", report->file, fault->line, fault->column, text);
    }
    if (report->count > kept)
        fprintf(errors, "%s: %zu more faults are not shown\n", report->file, report->count - kept);
}

static void read_and_check(struct config_reading *reading, const char *text, size_t length)
{
    reading->root = config_tree_read(text, length, reading->scratch, reading->report);
    if (reading->root == NULL)
        return;
    config_read(reading);
    if (!reading->memory->failed && !reading->scratch->failed)
        config_check(reading);
}

struct config *config_parse(const char *name, const char *text, size_t length, bool files,
                            FILE *errors)
{
    struct config_memory scratch = {NULL, false};
    struct config_owner *owner = calloc(1, sizeof *owner);
    struct config_report *report = calloc(1, sizeof *report);
    bool usable = false;
    if (owner != NULL && report != NULL) {
        *report = (struct config_report){.file = name, .memory = &scratch};
        struct config_reading reading = {.config = &owner->config,
                                         .memory = &owner->memory,
                                         .scratch = &scratch,
                                         .report = report,
                                         .files = files};
        read_and_check(&reading, text, length);
        config_report_write(report, errors);
        usable = report->count == 0;
    }
    if (owner == NULL || report == NULL || owner->memory.failed || scratch.failed) {
        fprintf(errors, "%s: memory is short\n", name);
        usable = false;
    }
    config_memory_free(&scratch);
    free(report);
    if (usable)
        return &owner->config;
    config_free(owner != NULL ? &owner->config : NULL);
    return NULL;
}

/* NULL, or why the file cannot be read. */
static const char *read_whole(int fd, char *text, size_t size, size_t *length)
{
    *length = 0;
    while (*length < size) {
        ssize_t got = read(fd, text + *length, size - *length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return strerror(errno);
        if (got == 0)
            break;
        *length += (size_t)got;
    }
    if (*length > CONFIG_FILE_MAX)
        return "it is larger than 1 MiB";
    return *length == 0 ? "it is empty" : NULL;
}

/* NULL, or why the file cannot be read. */
static const char *open_and_read(const char *file, char *text, size_t size, size_t *length)
{
    /* O_NONBLOCK: opening a named pipe must not wait for a writer. */
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return strerror(errno);
    struct stat status;
    const char *problem = NULL;
    if (fstat(fd, &status) != 0)
        problem = strerror(errno);
    else if (S_ISDIR(status.st_mode))
        problem = "it is a directory";
    else if (!S_ISREG(status.st_mode))
        problem = "it is not a regular file";
    else
        problem = read_whole(fd, text, size, length);
    close(fd);
    return problem;
}

struct config *config_load(const char *file, FILE *errors)
{
    const size_t size = CONFIG_FILE_MAX + 1; /* one more than allowed tells that it is too large */
    char *text = malloc(size);
    if (text == NULL) {
        fprintf(errors, "%s: memory is short\n", file);
        return NULL;
    }
    size_t length = 0;
    const char *problem = open_and_read(file, text, size, &length);
    struct config *config = NULL;
    if (problem != NULL)
        fprintf(errors, "%s: the configuration cannot be read: %s\n", file, problem);
    else
        config = config_parse(file, text, length, true, errors);
    explicit_bzero(text, length);
    free(text);
    return config;
}

void config_free(struct config *config)
{
    struct config_owner *owner = (struct config_owner *)config;
    if (owner == NULL)
        return;
    config_memory_free(&owner->memory);
    free(owner);
}

bool config_is_routed(const struct config *config, size_t broker)
{
    for (size_t i = 0; i < config->route_count - config->site_route_count; i++)
        if (config->routes[i].broker == broker)
            return true;
    return broker >= config->broker_count - config->site_broker_count;
}

size_t config_routed_brokers(const struct config *config)
{
    size_t count = 0;
    for (size_t i = 0; i < config->broker_count - config->site_broker_count; i++)
        count += config_is_routed(config, i);
    return count;
}

bool config_has_site_settings(const struct config *config)
{
    for (size_t i = 0; i < config->route_count - config->site_route_count; i++)
        if (config->routes[i].settings == CONFIG_SETTINGS_FROM_SITE)
            return true;
    return false;
}
