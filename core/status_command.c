/*
 * One HTTP request with times of its own, over TLS perhaps: nothing else runs here, so it waits.
 */
#include "core/status_command.h"

#include "codec/bytes.h"
#include "transport/io.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define TIMEOUT_S 5
#define ANSWER_MAX (32u << 20)
#define WATCH_MS 2000

struct question {
    char host[256];
    char port[8];
    struct tls_context *tls; /* owned; NULL: plain */
    const char *token;       /* NULL: none */
    FILE *errors;
};

struct answer {
    char *text; /* owned */
    size_t length;
    unsigned status;
    const char *body;
};

/* "http://host:port", "https://host:port", "host:port", "[::1]:9464" */
static bool read_address(const char *text, struct question *question)
{
    const char *at = text;
    if (strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0)
        at = strchr(text, '/') + 2;
    size_t length = strcspn(at, "/");
    const char *colon = memrchr(at, ':', length);
    if (colon == NULL || (at[length] == '/' && at[length + 1] != '\0'))
        return false;
    bool v6 = at[0] == '[' && colon > at + 1 && colon[-1] == ']';
    size_t host = (size_t)(colon - at) - (v6 ? 2 : 0);
    size_t port = length - (size_t)(colon + 1 - at);
    if (host == 0 || host >= sizeof question->host || port == 0 || port >= sizeof question->port ||
        strspn(colon + 1, "0123456789") < port)
        return false;
    snprintf(question->host, sizeof question->host, "%.*s", (int)host, at + v6);
    snprintf(question->port, sizeof question->port, "%.*s", (int)port, colon + 1);
    return true;
}

/* An address that listens everywhere is asked on this host. */
static bool find_address(const struct config *config, const struct cli *cli,
                         struct question *question)
{
    const char *address = cli->admin;
    if (address == NULL && config->admin.listen[0] == '\0') {
        fputs("nemogate: admin.listen is empty in the configuration: there is nothing to ask\n",
              question->errors);
        return false;
    }
    if (!read_address(address != NULL ? address : config->admin.listen, question)) {
        fprintf(question->errors,
                "nemogate: --admin needs an address such as "
                "http://127.0.0.1:9464, not '%s'\n",
                address != NULL ? address : config->admin.listen);
        return false;
    }
    if (strcmp(question->host, "0.0.0.0") == 0)
        snprintf(question->host, sizeof question->host, "127.0.0.1");
    else if (strcmp(question->host, "::") == 0)
        snprintf(question->host, sizeof question->host, "::1");
    return true;
}

/* The system's authorities, or those of --admin-ca; or the very certificate of the configuration:
 * whoever reads that file may well ask for 127.0.0.1, and the certificate is not for that name. */
static bool open_tls(const struct config *config, const struct cli *cli, struct question *question)
{
    bool of_config = cli->admin == NULL && config->admin.tls.cert_file[0] != '\0';
    struct tls_settings settings = {.ca_file = cli->admin_ca,
                                    .cert_file = cli->admin_cert,
                                    .key_file = cli->admin_key,
                                    .server_name = question->host};
    char error[IO_ERROR_TEXT];
    if (!of_config && (cli->admin == NULL || strncmp(cli->admin, "https://", 8) != 0))
        return true;
    if (of_config && cli->admin_ca == NULL)
        settings.peer_file = config->admin.tls.cert_file;
    question->tls = tls_context_new(&settings, error);
    if (question->tls == NULL)
        fprintf(question->errors, "nemogate: %s\n", error);
    return question->tls != NULL;
}

/* ---- one request ---------------------------------------------------------------------------- */

static int open_socket(const struct question *question)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    struct timeval timeout = {.tv_sec = TIMEOUT_S};
    int fd = -1, error = getaddrinfo(question->host, question->port, &hints, &found);
    if (error != 0) {
        fprintf(question->errors, "nemogate: %s: %s\n", question->host, gai_strerror(error));
        return -1;
    }
    for (const struct addrinfo *address = found; address != NULL && fd < 0;
         address = address->ai_next) {
        fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
            continue;
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
        if (connect(fd, address->ai_addr, address->ai_addrlen) == 0)
            break;
        error = errno;
        close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    if (fd < 0)
        fprintf(question->errors,
                "nemogate: the admin server at %s port %s cannot be reached: %s\n", question->host,
                question->port, strerror(error));
    else
        (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* Whether a call that gave status may be made again: what it waits for has come. */
static bool may_go_on(struct io *io, int fd, enum status status)
{
    unsigned want = io->ops->want(io);
    struct pollfd waiting = {.fd = fd};
    if (status != STATUS_AGAIN)
        return false;
    waiting.events = (short)((want & IO_WANT_READ ? POLLIN : 0) | //
                             (want & IO_WANT_WRITE ? POLLOUT : 0));
    if (poll(&waiting, 1, TIMEOUT_S * 1000) == 1)
        return true;
    snprintf(io->error, sizeof io->error, "no answer in %d s", TIMEOUT_S);
    return false;
}

static bool open_stream(struct io *io, int fd)
{
    enum status status;
    do
        status = io->ops->open(io, fd);
    while (may_go_on(io, fd, status));
    return status == STATUS_OK;
}

static bool send_all(struct io *io, int fd, struct bytes request)
{
    while (request.length > 0) {
        size_t put = 0;
        enum status status = io->ops->write(io, request, &put);
        if (status != STATUS_OK && !may_go_on(io, fd, status))
            return false;
        request.data += put;
        request.length -= put;
    }
    return true;
}

static bool send_request(struct io *io, int fd, const struct question *question, const char *path)
{
    char request[2048];
    bool v6 = strchr(question->host, ':') != NULL;
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: %s%s%s:%s\r\n%s%s%sConnection: close\r\n\r\n",
                          path, v6 ? "[" : "", question->host, v6 ? "]" : "", question->port,
                          question->token != NULL ? "Authorization: Bearer " : "",
                          question->token != NULL ? question->token : "",
                          question->token != NULL ? "\r\n" : "");
    bool sent = send_all(io, fd, (struct bytes){(const uint8_t *)request, (size_t)length});
    explicit_bzero(request, sizeof request);
    return sent;
}

/* Up to the end of the stream. */
static bool receive(struct io *io, int fd, struct answer *answer)
{
    size_t capacity = 0;
    for (;;) {
        if (capacity - answer->length < 2) {
            capacity = capacity == 0 ? 65536 : capacity * 2;
            char *larger = capacity <= ANSWER_MAX ? realloc(answer->text, capacity) : NULL;
            if (larger == NULL)
                return false;
            answer->text = larger;
        }
        size_t got = 0;
        enum status status = io->ops->read(io, (uint8_t *)answer->text + answer->length,
                                           capacity - answer->length - 1, &got);
        answer->length += got;
        answer->text[answer->length] = '\0';
        if (status == STATUS_CLOSED)
            return true;
        if (status != STATUS_OK && !may_go_on(io, fd, status))
            return false;
    }
}

/* false: *io says why, if it says anything. */
static bool converse(struct io *io, int fd, const struct question *question, const char *path,
                     struct answer *answer)
{
    bool good =
        open_stream(io, fd) && send_request(io, fd, question, path) && receive(io, fd, answer);
    io->ops->close(io);
    return good;
}

static bool ask(const struct question *question, const char *path, struct answer *answer)
{
    struct io *io = question->tls != NULL ? io_tls_new(question->tls) : io_tcp_new();
    int fd = io != NULL ? open_socket(question) : -1;
    bool good = fd >= 0 && converse(io, fd, question, path, answer);
    const char *body = good ? strstr(answer->text, "\r\n\r\n") : NULL;
    if (good && (body == NULL || sscanf(answer->text, "HTTP/1.1 %3u", &answer->status) != 1))
        good = false;
    if (fd >= 0 && !good)
        fprintf(question->errors,
                "nemogate: %s port %s has not answered as an admin server does%s%s\n",
                question->host, question->port, io->error[0] != '\0' ? ": " : "", io->error);
    if (fd >= 0)
        close(fd);
    if (io != NULL)
        io->ops->free(io);
    answer->body = good ? body + 4 : NULL;
    return good;
}

/* *ready: as the answer says. */
static bool show(const struct question *question, bool json, FILE *out, bool *ready)
{
    struct answer answer = {.text = NULL};
    bool good = ask(question, json ? "/api/v1/status" : "/api/v1/status?format=text", &answer);
    if (good && answer.status == 401)
        fputs("nemogate: the admin server wants a token: give --config with its admin.token_file\n",
              question->errors);
    else if (good && answer.status != 200)
        fprintf(question->errors, "nemogate: the admin server answers %u\n", answer.status);
    good = good && answer.status == 200;
    if (good) {
        fputs(answer.body, out);
        fflush(out);
        *ready = strstr(answer.body, json ? "\"ready\":true" : "; not ready") != NULL;
        *ready = json ? *ready : !*ready;
    }
    free(answer.text);
    return good;
}

static int show_all(const struct question *question, const struct cli *cli, FILE *out)
{
    bool ready = false;
    for (;;) {
        if (cli->watch && !cli->json && isatty(fileno(out)) == 1)
            fputs("\033[H\033[2J", out);
        bool good = show(question, cli->json, out, &ready);
        if (!cli->watch)
            return good && ready ? CLI_EXIT_DONE : CLI_EXIT_FAILED;
        if (ferror(out))
            return CLI_EXIT_FAILED;
        poll(NULL, 0, WATCH_MS);
    }
}

int status_command_run(const struct config *config, const struct cli *cli, FILE *out, FILE *errors)
{
    struct question question = {.token = config != NULL ? config->admin.token : NULL,
                                .errors = errors};
    if (config == NULL && cli->admin == NULL) {
        fputs("nemogate: one of --config FILE, --admin URL is missing; see 'nemogate status "
              "--help'\n",
              errors);
        return CLI_EXIT_USAGE;
    }
    if (!find_address(config, cli, &question) || !open_tls(config, cli, &question))
        return CLI_EXIT_USAGE;
    signal(SIGPIPE, SIG_IGN);
    int exit_code = show_all(&question, cli, out);
    tls_context_free(question.tls);
    tls_thread_end();
    return exit_code;
}
