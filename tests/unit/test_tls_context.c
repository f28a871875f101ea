/*
 * What is said of certificate and key files that cannot be used. The admin reads these lines.
 */
#define CERTS TEST_BUILD "/test_tls_context_certs"

#include "tls_peer.h"

#include "transport/io.h"

#include <sys/stat.h>

ReportHook(PRE_ALL)(struct criterion_test_set *tests)
{
    (void)tests;
    make_certificates();
}

static void refused(const struct tls_settings *settings, const char *expected)
{
    char error[IO_ERROR_TEXT] = "";
    cr_assert_null(tls_context_new(settings, error));
    cr_assert_str_eq(error, expected);
}

static void accepted(const struct tls_settings *settings)
{
    char error[IO_ERROR_TEXT] = "";
    struct tls_context *context = tls_context_new(settings, error);
    cr_assert_not_null(context, "%s", error);
    tls_context_free(context);
}

static struct tls_settings client(const char *cert_file, const char *key_file)
{
    return (struct tls_settings){.ca_file = CERT("ca.crt"),
                                 .cert_file = cert_file,
                                 .key_file = key_file,
                                 .server_name = "localhost"};
}

Test(tls_context, takes_good_files)
{
    struct tls_settings settings = client(CERT("client.crt"), CERT("client.key"));
    accepted(&settings);
    settings = client(NULL, NULL);
    accepted(&settings);
    settings = client("", "");
    accepted(&settings);
}

Test(tls_context, takes_the_system_s_authorities)
{
    struct tls_settings settings = {.server_name = "localhost"};
    accepted(&settings);
}

Test(tls_context, needs_a_server_name)
{
    struct tls_settings settings = {.ca_file = CERT("ca.crt"), .server_name = ""};
    refused(&settings, "TLS: no server name to match the certificate against");
}

Test(tls_context, names_a_ca_file_that_is_missing)
{
    struct tls_settings settings = {.ca_file = "/nowhere/ca.crt", .server_name = "localhost"};
    refused(&settings, "CA file /nowhere/ca.crt: No such file or directory");
}

Test(tls_context, names_a_ca_file_that_is_none)
{
    struct tls_settings settings = {.ca_file = "/etc/passwd", .server_name = "localhost"};
    refused(&settings, "CA file /etc/passwd: holds no certificate in PEM");
    settings.ca_file = "/dev/null";
    refused(&settings, "CA file /dev/null: holds no certificate in PEM");
    settings.ca_file = "/tmp";
    refused(&settings, "CA file /tmp: Is a directory");
    settings.ca_file = CERT("ca.key");
    refused(&settings, "CA file " CERT("ca.key") ": holds no certificate in PEM");
    settings.ca_file = CERT("expired.crt");
    refused(&settings, "CA file " CERT("expired.crt") ": has expired");
}

Test(tls_context, needs_certificate_and_key_together)
{
    struct tls_settings settings = client(CERT("client.crt"), NULL);
    refused(&settings, "certificate file " CERT("client.crt") " needs a key file beside it");
    settings = client("", CERT("client.key"));
    refused(&settings, "key file " CERT("client.key") " needs a certificate file beside it");
}

Test(tls_context, names_a_certificate_or_key_that_is_none)
{
    struct tls_settings settings = client(CERT("client.key"), CERT("client.key"));
    refused(&settings, "certificate file " CERT("client.key") ": holds no certificate in PEM");
    settings = client(CERT("client.crt"), CERT("client.crt"));
    refused(&settings, "key file " CERT("client.crt") ": holds no private key in PEM");
    settings = client(CERT("client.crt"), "/nowhere/client.key");
    refused(&settings, "key file /nowhere/client.key: No such file or directory");
}

Test(tls_context, names_an_unreadable_key)
{
    if (geteuid() == 0)
        cr_skip_test("root may read everything");
    cr_assert_eq(chmod(CERT("client.key"), 0), 0);
    struct tls_settings settings = client(CERT("client.crt"), CERT("client.key"));
    char error[IO_ERROR_TEXT] = "";
    struct tls_context *context = tls_context_new(&settings, error);
    cr_assert_eq(chmod(CERT("client.key"), 0600), 0);
    cr_assert_null(context);
    cr_assert_str_eq(error, "key file " CERT("client.key") ": Permission denied");
}

Test(tls_context, names_a_key_of_another_certificate)
{
    struct tls_settings settings = client(CERT("client.crt"), CERT("stranger.key"));
    refused(&settings,
            "key file " CERT("stranger.key") " does not belong to certificate file " CERT(
                "client.crt"));
}

static void run(const char *command)
{
    cr_assert_eq(system(command), 0, "%s", command);
}

Test(tls_context, compares_rsa_keys_too)
{
    run("cd " CERTS " && for name in rsa rsa2; do openssl req -x509 -newkey rsa:2048 -nodes "
        "-keyout $name.key -out $name.crt -subj /CN=$name 2>/dev/null; done");
    struct tls_settings settings = client(CERT("rsa.crt"), CERT("rsa.key"));
    accepted(&settings);
    settings = client(CERT("rsa.crt"), CERT("rsa2.key"));
    refused(&settings,
            "key file " CERT("rsa2.key") " does not belong to certificate file " CERT("rsa.crt"));
    settings = client(CERT("rsa.crt"), CERT("client.key"));
    refused(&settings,
            "key file " CERT("client.key") " does not belong to certificate file " CERT("rsa.crt"));
}

Test(tls_context, says_that_a_key_is_encrypted)
{
    run("openssl pkey -in " CERT("client.key") " -aes256 -passout pass:secret -out " CERT(
        "encrypted.key"));
    struct tls_settings settings = client(CERT("client.crt"), CERT("encrypted.key"));
    refused(&settings,
            "key file " CERT("encrypted.key") ": is encrypted, a key without a password is needed");
}
