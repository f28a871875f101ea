/*
 * A TLS server by wolfSSL; see tls_server.h. The two structs are names for wolfSSL's own.
 */
#include "bench/tls_server.h"

#include "bench/common.h"

#include <wolfssl/options.h>

#include <errno.h>
#include <limits.h>
#include <wolfssl/ssl.h>

static WOLFSSL_CTX *context_of(struct tls_server *server)
{
    return (WOLFSSL_CTX *)server;
}

static WOLFSSL *ssl_of(struct tls_session *session)
{
    return (WOLFSSL *)session;
}

struct tls_server *tls_server_new(const char *cert_file, const char *key_file)
{
    wolfSSL_Init();
    WOLFSSL_CTX *context = wolfSSL_CTX_new(wolfSSLv23_server_method());
    if (context == NULL || wolfSSL_CTX_SetMinVersion(context, WOLFSSL_TLSV1_2) != WOLFSSL_SUCCESS)
        die("TLS: no context");
    if (wolfSSL_CTX_use_certificate_chain_file(context, cert_file) != WOLFSSL_SUCCESS)
        die("TLS: --cert %s cannot be used", cert_file);
    if (wolfSSL_CTX_use_PrivateKey_file(context, key_file, WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS)
        die("TLS: --key %s cannot be used", key_file);
    return (struct tls_server *)context;
}

void tls_server_free(struct tls_server *server)
{
    wolfSSL_CTX_free(context_of(server));
    wolfSSL_Cleanup();
}

struct tls_session *tls_session_new(struct tls_server *server, int fd)
{
    WOLFSSL *ssl = wolfSSL_new(context_of(server));
    if (ssl == NULL || wolfSSL_set_fd(ssl, fd) != WOLFSSL_SUCCESS)
        die("TLS: no session");
    wolfSSL_set_using_nonblock(ssl, 1);
    return (struct tls_session *)ssl;
}

void tls_session_free(struct tls_session *session)
{
    wolfSSL_free(ssl_of(session));
}

static ssize_t result_of(WOLFSSL *ssl, int result)
{
    if (result > 0)
        return result;
    int error = wolfSSL_get_error(ssl, result);
    errno = error == WOLFSSL_ERROR_WANT_READ || error == WOLFSSL_ERROR_WANT_WRITE ? EAGAIN : EIO;
    return error == WOLFSSL_ERROR_ZERO_RETURN ? 0 : -1;
}

ssize_t tls_session_read(struct tls_session *session, void *into, size_t size)
{
    WOLFSSL *ssl = ssl_of(session);
    return result_of(ssl, wolfSSL_read(ssl, into, size < INT_MAX ? (int)size : INT_MAX));
}

ssize_t tls_session_write(struct tls_session *session, const void *from, size_t size)
{
    WOLFSSL *ssl = ssl_of(session);
    return result_of(ssl, wolfSSL_write(ssl, from, size < INT_MAX ? (int)size : INT_MAX));
}
