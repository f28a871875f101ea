/*
 * The files of the monitor page as the build has embedded them; see CMakeLists.txt.
 */
#ifndef NEMOGATE_CORE_ADMIN_PAGE_H
#define NEMOGATE_CORE_ADMIN_PAGE_H

#include <stddef.h>
#include <stdint.h>

struct page_file {
    const char *name; /* NULL: the end */
    const char *type;
    const uint8_t *data;
    size_t size;
    const uint8_t *packed; /* the same by gzip */
    size_t packed_size;
};

extern const struct page_file page_files[];

#endif
