/*
 * What concerns several keys of admin: an address that others reach needs a token, and a
 * certificate its key. Certificates are judged here as a whole, by loading them as the admin server
 * will: a peer's show whether they are good when it is connected to, but nobody tells of these.
 */
#include <arpa/inet.h>
#include <string.h>

#include "codec/decimal.h"
#include "core/config_private.h"
#include "transport/io.h"

/* ---- The address -------------------------------------------------------------------------- */

static bool is_loopback(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0;
}

/* "127.0.0.1:9464", "[::1]:9464". */
static bool split_listen(struct config_reading *r)
{
    struct config_admin *admin = &r->config->admin;
    const char *colon = strrchr(admin->listen, ':');
    uint8_t address[16];
    uint64_t port;
    if (colon == NULL || !decimal_read(bytes_of(colon + 1), &port) || port > UINT16_MAX)
        return false;
    bool is_v6 = admin->listen[0] == '[' && colon[-1] == ']';
    const char *host = admin->listen + is_v6;
    admin->host = config_memory_text(r->memory, host, (size_t)(colon - host) - is_v6);
    admin->port = (uint16_t)port;
    if (admin->host == NULL || inet_pton(is_v6 ? AF_INET6 : AF_INET, admin->host, address) != 1)
        return false;
    admin->loopback = is_loopback(admin->host);
    return true;
}

static void check_listen(struct config_reading *r, struct config_node *node)
{
    const struct config_admin *admin = &r->config->admin;
    if (!split_listen(r))
        config_node_fault(
            r, node,
            "admin.listen: is no address with a port; one such as 127.0.0.1:9464, 0.0.0.0:9464 "
            "or [::1]:9464 is expected, or an empty text");
    else if (!admin->loopback && admin->token_file[0] == '\0')
        config_node_fault(
            r, node,
            "admin.listen: whoever reaches this address could read all events; token_file is "
            "expected, too, or an address of this host only, such as 127.0.0.1:9464");
}

/* ---- The token ---------------------------------------------------------------------------- */

/* What stands in an HTTP header. */
static bool is_token(const char *text)
{
    size_t length = strlen(text);
    for (size_t i = 0; i < length; i++)
        if (text[i] <= ' ' || text[i] >= 0x7f)
            return false;
    return length >= 16 && length <= 1024;
}

static void check_token(struct config_reading *r, struct config_node *node)
{
    struct config_admin *admin = &r->config->admin;
    char problem[CONFIG_PROBLEM_TEXT];
    if (!config_file_read(admin->token_file, true, r->memory, &admin->token, problem))
        config_node_fault(
            r, node,
            "admin.token_file: the file (its name is not shown: it might be the token itself) "
            "%s; the path of a readable file that holds the token is expected",
            problem);
    else if (!is_token(admin->token))
        config_node_fault(
            r, node,
            "admin.token_file: the token in the file cannot be used; 16 to 1,024 printable "
            "characters without blanks are expected");
}

/* ---- TLS ---------------------------------------------------------------------------------- */

static void load(struct config_reading *r, struct config_node *node)
{
    const struct config_tls *tls = &r->config->admin.tls;
    const struct tls_settings settings = {
        .ca_file = tls->ca_file, .cert_file = tls->cert_file, .key_file = tls->key_file};
    char error[IO_ERROR_TEXT];
    struct tls_context *context = tls_context_new_server(&settings, error);
    if (context == NULL)
        config_node_fault(r, node, "admin.tls: %s", error);
    tls_context_free(context);
}

static void check_tls(struct config_reading *r, struct config_node *section)
{
    const struct config_tls *tls = &r->config->admin.tls;
    struct config_node *cert = config_node_find(section, "cert_file");
    struct config_node *key = config_node_find(section, "key_file");
    struct config_node *ca = config_node_find(section, "ca_file");
    if (!config_node_is_sound(section) || !config_node_is_sound(cert) ||
        !config_node_is_sound(key) || !config_node_is_sound(ca))
        return;
    bool has_cert = tls->cert_file[0] != '\0', has_key = tls->key_file[0] != '\0';
    if (has_cert && !has_key)
        config_node_fault(
            r, cert, "admin.tls.cert_file: a certificate needs its key; key_file is expected, too");
    else if (has_key && !has_cert)
        config_node_fault(
            r, key, "admin.tls.key_file: a key needs its certificate; cert_file is expected, too");
    else if (tls->ca_file[0] != '\0' && !has_cert)
        config_node_fault(
            r, ca,
            "admin.tls.ca_file: clients show certificates to a server with TLS only; cert_file "
            "and key_file are expected, too");
    else if (has_cert && r->files)
        load(r, cert);
}

void config_check_admin(struct config_reading *r)
{
    const struct config_admin *admin = &r->config->admin;
    struct config_node *section = config_node_find(r->root, "admin");
    struct config_node *listen = config_node_find(section, "listen");
    struct config_node *token = config_node_find(section, "token_file");
    if (!config_node_is_sound(section))
        return;
    check_tls(r, config_node_find(section, "tls"));
    if (!config_node_is_sound(listen) || !config_node_is_sound(token))
        return;
    if (admin->token_file[0] != '\0' && r->files)
        check_token(r, token);
    if (admin->listen[0] != '\0')
        check_listen(r, listen);
}
