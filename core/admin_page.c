/*
 * The monitor page: the files of core/page, which the build turns into arrays.
 */
#include "core/admin_page.h"

#include "core/admin_routes.h"

bool page_answer(struct http_connection *connection, const char *path)
{
    const char *name = strcmp(path, "/") == 0 ? "index.html" : path + 1;
    for (const struct page_file *file = page_files; file->name != NULL; file++) {
        if (strcmp(file->name, name) != 0)
            continue;
        http_answer(connection, 200, file->type, (struct bytes){file->data, file->size});
        return true;
    }
    return false;
}
