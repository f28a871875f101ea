/*
 * What all TLS connections of one endpoint share: versions, ciphers, the trusted authorities, our
 * own certificate; of the side that connects and of the one that accepts. Files are read here once;
 * the texts of what is wrong with them are for whoever wrote the configuration.
 */
#include <wolfssl/options.h>

#include <wolfssl/openssl/evp.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/ecc.h>

#include "transport/io.h"
#include "transport/tls_context.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Ephemeral key exchange and authenticated encryption only. Debian builds wolfSSL without AES
 * instructions: its AES-GCM in C takes 4.8 us for a record of 300 bytes and 233 us for one of 16
 * KiB, where ChaCha20-Poly1305 takes 2.3 us and 92 us (one core of an x86-64 server). Many servers
 * go by their own order, Mosquitto with AES-256 first, whatever a client prefers: so that is not
 * offered at first. AES-128 is, as every server of TLS 1.3 has it [RFC 8446, 9.1], and to one that
 * still shares no cipher all are offered (io_tls.c). */
#define CHACHA20                                                                                   \
    "TLS13-CHACHA20-POLY1305-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define AES_128 "TLS13-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
#define AES_256 "TLS13-AES256-GCM-SHA384:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"

const char tls_all_ciphers[] = CHACHA20 ":" AES_128 ":" AES_256;

#ifdef WOLFSSL_AESNI /* in a library of one's own: AES costs less than ChaCha20 there */
static const char first_ciphers[] = AES_128 ":" AES_256 ":" CHACHA20;
#else
static const char first_ciphers[] = CHACHA20 ":" AES_128;
#endif

/* Where distributions keep the system's authorities in one file. */
static const char *const system_authorities[] = {
    "/etc/ssl/certs/ca-certificates.crt", /* Debian, Alpine */
    "/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora, RHEL */
    "/etc/ssl/ca-bundle.pem",             /* openSUSE */
    "/etc/ssl/cert.pem",
};

/* Before main, where there is one thread only: the library's own first-use check is not safe when
 * two threads make their first context at the same time. */
__attribute__((constructor)) static void initialise_library(void)
{
    (void)wolfSSL_Init();
}

static bool is_set(const char *text)
{
    return text != NULL && text[0] != '\0';
}

/* Tells a missing or unreadable file from one with the wrong content. */
static bool is_readable(const char *file, const char *what, char *error)
{
    struct stat status;
    if (stat(file, &status) == 0 && !S_ISREG(status.st_mode) && S_ISDIR(status.st_mode))
        errno = EISDIR;
    else if (access(file, R_OK) == 0)
        return true;
    snprintf(error, IO_ERROR_TEXT, "%s %s: %s", what, file, strerror(errno));
    return false;
}

/* The library says only that it failed; why is the last of its queued errors, as a positive number,
 * or 0 for a file without content. */
static bool refuse(const char *file, const char *what, const char *content, char *error)
{
    char text[64];
    const char *why = text;
    switch (-(long)wolfSSL_ERR_peek_last_error()) {
    case ASN_AFTER_DATE_E:
        why = "has expired";
        break;
    case ASN_BEFORE_DATE_E:
        why = "is not valid yet";
        break;
    case NO_PASSWORD:
        why = "is encrypted, a key without a password is needed";
        break;
    default:
        snprintf(text, sizeof text, "holds no %s in PEM", content);
        break;
    }
    snprintf(error, IO_ERROR_TEXT, "%s %s: %s", what, file, why);
    return false;
}

static bool load_system_authorities(WOLFSSL_CTX *library, char *error)
{
    for (size_t i = 0; i < sizeof system_authorities / sizeof system_authorities[0]; i++) {
        /* One authority that has expired must not make the rest unusable. */
        if (access(system_authorities[i], R_OK) == 0 &&
            wolfSSL_CTX_load_verify_locations_ex(library, system_authorities[i], NULL,
                                                 WOLFSSL_LOAD_FLAG_IGNORE_ERR) == WOLFSSL_SUCCESS)
            return true;
    }
    snprintf(error, IO_ERROR_TEXT,
             "the system's certificate store is missing or empty: install ca-certificates, or name "
             "the authority's certificate as ca_file");
    return false;
}

static bool load_authorities(WOLFSSL_CTX *library, const char *file, char *error)
{
    if (!is_set(file))
        return load_system_authorities(library, error);
    if (!is_readable(file, "CA file", error))
        return false;
    return wolfSSL_CTX_load_verify_locations(library, file, NULL) == WOLFSSL_SUCCESS ||
           refuse(file, "CA file", "certificate", error);
}

/* Authorities that no file holds. */
static bool load_authorities_of(WOLFSSL_CTX *library, const char *pem, char *error)
{
    if (wolfSSL_CTX_load_verify_buffer(library, (const unsigned char *)pem, (long)strlen(pem),
                                       WOLFSSL_FILETYPE_PEM) == WOLFSSL_SUCCESS)
        return true;
    return refuse("as text", "CA", "certificate", error);
}

static bool signs_for(WOLFSSL_EVP_PKEY *key, WOLFSSL_EVP_PKEY *public_key)
{
    static const char text[] = "nemogate";
    uint8_t signature[160]; /* of P-521 at most */
    size_t length = sizeof signature;
    WOLFSSL_EVP_MD_CTX *digest = wolfSSL_EVP_MD_CTX_new();
    const WOLFSSL_EVP_MD *sha256 = wolfSSL_EVP_sha256();
    bool good =
        digest != NULL &&
        wolfSSL_EVP_DigestSignInit(digest, NULL, sha256, NULL, key) == WOLFSSL_SUCCESS &&
        wolfSSL_EVP_DigestSignUpdate(digest, text, sizeof text) == WOLFSSL_SUCCESS &&
        wolfSSL_EVP_DigestSignFinal(digest, signature, &length) == WOLFSSL_SUCCESS &&
        wolfSSL_EVP_MD_CTX_cleanup(digest) == WOLFSSL_SUCCESS &&
        wolfSSL_EVP_DigestVerifyInit(digest, NULL, sha256, NULL, public_key) == WOLFSSL_SUCCESS &&
        wolfSSL_EVP_DigestVerifyUpdate(digest, text, sizeof text) == WOLFSSL_SUCCESS &&
        wolfSSL_EVP_DigestVerifyFinal(digest, signature, length) == WOLFSSL_SUCCESS;
    wolfSSL_EVP_MD_CTX_free(digest);
    return good;
}

/* wolfSSL_CTX_check_private_key compares RSA keys, but of EC keys only the type (seen with 5.5.4):
 * so a signature is made and verified. true where the key is not EC. */
static bool ec_key_belongs(WOLFSSL_CTX *library)
{
    WOLFSSL_EVP_PKEY *key = wolfSSL_CTX_get0_privatekey(library);
    WOLFSSL_X509 *certificate = wolfSSL_CTX_get0_certificate(library);
    if (key == NULL || certificate == NULL || wolfSSL_EVP_PKEY_base_id(key) != EVP_PKEY_EC)
        return true;
    WOLFSSL_EVP_PKEY *public_key = wolfSSL_X509_get_pubkey(certificate);
    bool good = public_key != NULL && signs_for(key, public_key);
    wolfSSL_EVP_PKEY_free(public_key);
    return good;
}

static bool load_certificate(WOLFSSL_CTX *library, const struct tls_settings *settings, char *error)
{
    const char *certificate = settings->cert_file;
    const char *key = settings->key_file;
    if (!is_set(certificate) && !is_set(key))
        return true;
    if (!is_set(certificate) || !is_set(key)) {
        snprintf(error, IO_ERROR_TEXT, "%s %s needs a %s beside it",
                 is_set(key) ? "key file" : "certificate file", is_set(key) ? key : certificate,
                 is_set(key) ? "certificate file" : "key file");
        return false;
    }
    if (!is_readable(certificate, "certificate file", error) ||
        !is_readable(key, "key file", error))
        return false;
    if (wolfSSL_CTX_use_certificate_chain_file(library, certificate) != WOLFSSL_SUCCESS)
        return refuse(certificate, "certificate file", "certificate", error);
    if (wolfSSL_CTX_use_PrivateKey_file(library, key, WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS)
        return refuse(key, "key file", "private key", error);
    if (wolfSSL_CTX_check_private_key(library) == WOLFSSL_SUCCESS && ec_key_belongs(library))
        return true;
    snprintf(error, IO_ERROR_TEXT, "key file %s does not belong to certificate file %s", key,
             certificate);
    return false;
}

static bool is_address(const char *name)
{
    uint8_t address[16];
    return inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
}

/* What both sides have in common. */
static bool make_library(struct tls_context *context, WOLFSSL_METHOD *method, const char *ciphers,
                         char *error)
{
    snprintf(error, IO_ERROR_TEXT, "TLS: out of memory");
    context->library = wolfSSL_CTX_new(method);
    if (context->library == NULL)
        return false;
    if (wolfSSL_CTX_SetMinVersion(context->library, WOLFSSL_TLSV1_2) != WOLFSSL_SUCCESS ||
        wolfSSL_CTX_set_cipher_list(context->library, ciphers) != WOLFSSL_SUCCESS ||
        wolfSSL_CTX_set_group_messages(context->library) != WOLFSSL_SUCCESS) {
        snprintf(error, IO_ERROR_TEXT, "TLS: this wolfSSL lacks TLS 1.2 or its ciphers");
        return false;
    }
    /* Debian's build would ask a silent socket ten times more during the handshake. */
    (void)wolfSSL_CTX_clear_mode(context->library, SSL_MODE_AUTO_RETRY);
    return true;
}

/* The library alone would be content with another certificate that has the same signature, which it
 * does not verify (seen with 5.5.4): so the whole is compared, see tls_is_peer. */
static bool trust_one(struct tls_context *context, const char *file, char *error)
{
    if (!is_readable(file, "certificate file", error))
        return false;
    if (wolfSSL_CTX_trust_peer_cert(context->library, file, WOLFSSL_FILETYPE_PEM) !=
        WOLFSSL_SUCCESS)
        return refuse(file, "certificate file", "certificate", error);
    context->peer = wolfSSL_X509_load_certificate_file(file, WOLFSSL_FILETYPE_PEM);
    return context->peer != NULL;
}

bool tls_is_peer(const struct tls_context *context, WOLFSSL_X509 *certificate)
{
    int length = 0, expected = 0;
    if (context->peer == NULL)
        return true;
    const uint8_t *text = wolfSSL_X509_get_der(context->peer, &expected);
    const uint8_t *given = certificate != NULL ? wolfSSL_X509_get_der(certificate, &length) : NULL;
    return text != NULL && given != NULL && length == expected &&
           memcmp(text, given, (size_t)length) == 0;
}

/* Whom the client takes for the right server. */
static bool set_peer(struct tls_context *context, const struct tls_settings *settings, char *error)
{
    if (is_set(settings->peer_file))
        return trust_one(context, settings->peer_file, error);
    context->server_name = strdup(settings->server_name);
    context->name_is_address = is_address(settings->server_name);
    if (context->server_name == NULL)
        return false;
    return is_set(settings->ca_pem) ? load_authorities_of(context->library, settings->ca_pem, error)
                                    : load_authorities(context->library, settings->ca_file, error);
}

static bool set_up_client(struct tls_context *context, const struct tls_settings *settings,
                          char *error)
{
    if (!is_set(settings->server_name) && !is_set(settings->peer_file)) {
        snprintf(error, IO_ERROR_TEXT, "TLS: no server name to match the certificate against");
        return false;
    }
    if (!make_library(context, wolfTLS_client_method(), first_ciphers, error))
        return false;
    if (wolfSSL_CTX_UseSessionTicket(context->library) != WOLFSSL_SUCCESS) {
        snprintf(error, IO_ERROR_TEXT, "TLS: this wolfSSL lacks tickets");
        return false;
    }
    wolfSSL_CTX_set_verify(context->library, WOLFSSL_VERIFY_PEER, NULL);
    return set_peer(context, settings, error) &&
           load_certificate(context->library, settings, error);
}

/* Without sessions: what a client once was need not be remembered, nor a key for it be kept; and
 * the library's cache is one for all of the process, also for our own connections. */
static bool set_up_server(struct tls_context *context, const struct tls_settings *settings,
                          char *error)
{
    context->is_server = true;
    if (!is_set(settings->cert_file)) {
        snprintf(error, IO_ERROR_TEXT, "TLS: a server needs a certificate file");
        return false;
    }
    if (!make_library(context, wolfTLS_server_method(), tls_all_ciphers, error))
        return false;
    (void)wolfSSL_CTX_set_session_cache_mode(context->library, WOLFSSL_SESS_CACHE_OFF);
    (void)wolfSSL_CTX_NoTicketTLSv12(context->library);
    (void)wolfSSL_CTX_no_ticket_TLSv13(context->library);
    bool asks = is_set(settings->ca_file);
    wolfSSL_CTX_set_verify(context->library,
                           asks ? WOLFSSL_VERIFY_PEER | WOLFSSL_VERIFY_FAIL_IF_NO_PEER_CERT
                                : WOLFSSL_VERIFY_NONE,
                           NULL);
    return load_certificate(context->library, settings, error) &&
           (!asks || load_authorities(context->library, settings->ca_file, error));
}

static struct tls_context *make_context(const struct tls_settings *settings, bool is_server,
                                        char *error)
{
    struct tls_context *context = calloc(1, sizeof *context);
    if (context == NULL) {
        snprintf(error, IO_ERROR_TEXT, "TLS: out of memory");
        return NULL;
    }
    wolfSSL_ERR_clear_error();
    context->has_certificate = is_set(settings->cert_file);
    bool good = is_server ? set_up_server(context, settings, error)
                          : set_up_client(context, settings, error);
    /* The library queues its errors per thread until they are asked for; nobody else does. */
    wolfSSL_ERR_clear_error();
    if (good)
        return context;
    tls_context_free(context);
    return NULL;
}

struct tls_context *tls_context_new(const struct tls_settings *settings, char *error)
{
    return make_context(settings, false, error);
}

struct tls_context *tls_context_new_server(const struct tls_settings *settings, char *error)
{
    return make_context(settings, true, error);
}

void tls_context_free(struct tls_context *context)
{
    if (context == NULL)
        return;
    wolfSSL_CTX_free(context->library);
    wolfSSL_X509_free(context->peer);
    free(context->server_name);
    free(context);
}

uint64_t tls_certificate_end(const WOLFSSL_X509 *certificate)
{
    struct tm end;
    const WOLFSSL_ASN1_TIME *time =
        certificate != NULL ? wolfSSL_X509_get_notAfter(certificate) : NULL;
    if (time == NULL || wolfSSL_ASN1_TIME_to_tm(time, &end) != WOLFSSL_SUCCESS)
        return 0;
    time_t s = timegm(&end);
    return s > 0 ? (uint64_t)s : 0;
}

uint64_t tls_file_certificate_end(const char *file)
{
    WOLFSSL_X509 *certificate = wolfSSL_X509_load_certificate_file(file, WOLFSSL_FILETYPE_PEM);
    uint64_t end = tls_certificate_end(certificate);
    wolfSSL_X509_free(certificate);
    wolfSSL_ERR_clear_error();
    return end;
}

void tls_thread_end(void)
{
    /* Multiples of curve points, some megabytes of them in each thread. */
    wc_ecc_fp_free();
}
