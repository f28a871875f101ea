/*
 * The monitor page: the files of core/page, which the build turns into arrays, as they are and
 * packed: by gzip a third of the bytes goes over the network.
 */
#include "core/admin_page.h"

#include "core/admin_routes.h"

bool page_answer(struct http_connection *connection, const struct http_request *request)
{
    const char *name = strcmp(request->path, "/") == 0 ? "index.html" : request->path + 1;
    for (const struct page_file *file = page_files; file->name != NULL; file++) {
        if (strcmp(file->name, name) != 0)
            continue;
        http_answer_encoded(connection, file->type,
                            request->accepts_gzip ? (struct bytes){file->packed, file->packed_size}
                                                  : (struct bytes){file->data, file->size},
                            request->accepts_gzip);
        return true;
    }
    return false;
}
