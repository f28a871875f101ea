/*
 * Files that the configuration names: passwords, keys and certificates. They are looked at when the
 * configuration is loaded, so that a wrong path is an error at start and not at the first
 * connection. What is in a certificate is judged by the TLS library later.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/config_private.h"

#define PASSWORD_MAX 65535u /* what MQTT can carry [MQTT 5.0, 3.1.3.6] */

static bool fail(char *problem, const char *text)
{
    snprintf(problem, CONFIG_PROBLEM_TEXT, "%s", text);
    return false;
}

static bool read_content(int fd, struct config_memory *memory, char **content, char *problem)
{
    char text[PASSWORD_MAX + 3]; /* with a line end, and one more to see that it is too long */
    size_t length = 0;
    ssize_t got = 1;
    while (got > 0 && length < sizeof text) {
        got = read(fd, text + length, sizeof text - length);
        if (got < 0 && errno == EINTR)
            got = 1;
        else if (got > 0)
            length += (size_t)got;
    }
    if (length > 0 && text[length - 1] == '\n')
        length -= length > 1 && text[length - 2] == '\r' ? 2 : 1;
    bool good = false;
    if (got < 0)
        good = fail(problem, strerror(errno));
    else if (length == 0)
        good = fail(problem, "cannot be used: it holds nothing but a line end");
    else if (length > PASSWORD_MAX)
        good = fail(problem, "cannot be used: it holds more than 65535 bytes");
    else if (memchr(text, '\0', length) != NULL)
        good = fail(problem, "cannot be used: it holds a NUL byte");
    else
        good = (*content = config_memory_text(memory, text, length)) != NULL;
    explicit_bzero(text, sizeof text);
    return good;
}

static bool judge(int fd, bool secret, char *problem)
{
    struct stat status;
    if (fstat(fd, &status) != 0) {
        snprintf(problem, CONFIG_PROBLEM_TEXT, "cannot be read: %s", strerror(errno));
        return false;
    }
    if (S_ISDIR(status.st_mode))
        return fail(problem, "is a directory");
    if (!S_ISREG(status.st_mode))
        return fail(problem, "is not a regular file");
    if (status.st_size == 0)
        return fail(problem, "is empty");
    if (secret && (status.st_mode & S_IWOTH) != 0)
        return fail(problem, "may be written by everyone, so its content cannot be trusted "
                             "(chmod o-w mends that)");
    return true;
}

bool config_file_read(const char *path, bool secret, struct config_memory *memory, char **content,
                      char *problem)
{
    /* O_NONBLOCK: opening a named pipe must not wait for a writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        snprintf(problem, CONFIG_PROBLEM_TEXT, "cannot be read: %s", strerror(errno));
        return false;
    }
    bool good = judge(fd, secret, problem);
    if (good && content != NULL)
        good = read_content(fd, memory, content, problem);
    close(fd);
    return good;
}
