/* Settings of sites in the configuration: which broker and route a stream gets, and what is
 * refused.
 */
#include "core/config_private.h"
#include "core/site_config.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char head[] = "brokers:\n"
                           "  - {name: main, url: 'mqtts://main:8883', username: operator}\n"
                           "  - {name: other, url: 'mqtt://other', protocol: 3.1.1}\n"
                           "routes:\n";

static struct config *parse(const char *routes)
{
    char text[2048];
    int length = snprintf(text, sizeof text, "%s%s", head, routes);
    struct config *config = config_parse("test", text, (size_t)length, false, stderr);
    cr_assert_not_null(config);
    config->brokers[0].password = config_memory_text(config_memory_of(config), "secret", 6);
    return config;
}

#define FROM_SITE                                                                                  \
    "  - {streams: 'nemo:*:events', broker: main, settings: from-site}\n"                          \
    "  - {streams: 'nemo:*:old', broker: other, settings: from-site}\n"                            \
    "  - {streams: '*', broker: main, site: lab}\n"

struct given {
    const char *url, *user, *password, *ca, *key;
};

static struct site_settings *make(const char *site, struct given given)
{
    const char *const values[] = {
        [SITE_BROKER_URL] = given.url,        [SITE_USERNAME] = given.user,
        [SITE_PASSWORD_REF] = given.password, [SITE_CA] = given.ca,
        [SITE_SIGN_KEY_REF] = given.key,
    };
    struct bytes text[SITE_FIELDS];
    for (int i = 0; i < SITE_FIELDS; i++)
        text[i] = bytes_of(values[i] != NULL ? values[i] : "");
    return site_settings_new(bytes_of(site), 1, text);
}

static const struct config_broker *broker_of(const struct config *config, const char *stream)
{
    return &config->brokers[config_route_of(config, stream)->broker];
}

Test(site_config, each_site_has_its_own)
{
    struct config *config = parse(FROM_SITE);
    struct site_set set = {NULL, 0};
    site_set_put(&set, make("a", (struct given){.url = "mqtts://lab-a"}));
    site_set_put(&set, make("b", (struct given){.user = "b"}));
    cr_assert(site_config_apply(config, &set, NULL));
    const struct config_broker *a = broker_of(config, "nemo:{a}:events");
    cr_expect_str_eq(a->name, "main/a");
    cr_expect_str_eq(a->url.host, "lab-a");
    cr_expect_str_eq(a->tls.server_name, "lab-a");
    cr_expect_str_eq(a->client_id_prefix, "nemogate-a");
    cr_expect_str_eq(broker_of(config, "nemo:{a}:old")->name, "other/a");
    cr_expect_str_eq(broker_of(config, "nemo:{b}:events")->username, "b");
    cr_expect_str_eq(broker_of(config, "nemo:{c}:events")->name, "main");
    cr_expect_str_eq(broker_of(config, "nemo:{a}:else")->name, "main");
    cr_expect_eq(config_file_route_of(config, "nemo:{a}:events"), &config->routes[0]);
    cr_expect_eq(config_routed_brokers(config), 2);
    cr_expect(config_is_routed(config, config->broker_count - 1));
    /* One place, three ways to it: no two of them have the same client identifiers there. */
    cr_expect_str_neq(broker_of(config, "nemo:{a}:old")->client_id_prefix, a->client_id_prefix);
    config_free(config);
    site_set_free(&set);
}

Test(site_config, the_login_of_the_file_goes_nowhere_else)
{
    static const struct given elsewhere[] = {{.url = "mqtts://main:8884"},
                                             {.url = "mqtt://main:8883"},
                                             {.url = "mqtts://main.example:8883"}};
    for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++) {
        struct config *config = parse(FROM_SITE);
        struct site_set set = {NULL, 0};
        site_set_put(&set, make("a", elsewhere[i]));
        cr_assert(site_config_apply(config, &set, NULL));
        cr_expect_null(broker_of(config, "nemo:{a}:events")->password);
        cr_expect_str_eq(broker_of(config, "nemo:{a}:events")->username, "");
        config_free(config);
        site_set_free(&set);
    }
}

Test(site_config, nothing_of_ones_own_is_the_files_broker)
{
    struct config *config = parse(FROM_SITE);
    struct site_set set = {NULL, 0};
    site_set_put(&set, make("a", (struct given){.url = "mqtts://main:8883"}));
    cr_assert(site_config_apply(config, &set, NULL));
    cr_expect_eq(broker_of(config, "nemo:{a}:events"), &config->brokers[0]);
    cr_expect_eq(config_route_of(config, "nemo:{a}:events")->site_settings->version, 1);
    config_free(config);
    site_set_free(&set);
}

Test(site_config, own_routes_are_not_touched)
{
    struct config *config = parse("  - {streams: '*', broker: main}\n");
    struct site_set set = {NULL, 0};
    site_set_put(&set, make("a", (struct given){.url = "mqtt://lab"}));
    cr_assert(site_config_apply(config, &set, NULL));
    cr_expect_eq(config->broker_count, 2);
    cr_expect_eq(config->site_route_count, 0);
    cr_expect_not(config_has_site_settings(config));
    config_free(config);
    site_set_free(&set);
}

Test(site_config, what_cannot_be_used_is_not_carried)
{
    struct config *config = parse(FROM_SITE);
    struct site_set set = {NULL, 0};
    site_set_put(&set, make("a", (struct given){.url = "http://lab"}));
    cr_assert(site_config_apply(config, &set, NULL));
    cr_expect_not_null(config_route_of(config, "nemo:{a}:events")->site_fault);
    cr_expect_null(config_route_of(config, "nemo:{b}:events")->site_fault);
    config_free(config);
    site_set_free(&set);
}

Test(site_config, references_stay_in_their_folder)
{
    static const char *const wrong[] = {".",    "..",   ".x",       "a/b", "/etc/passwd", "a b",
                                        "a\\b", "../x", "\xc3\xa4", "a\n", "{site}"};
    struct config *config = parse("  - {streams: '*', broker: main, settings: from-site, "
                                  "settings_secrets: '/tmp/{site}'}\n");
    char error[SITE_ERROR_TEXT], longest[70];
    memset(longest, 'x', sizeof longest);
    longest[65] = '\0';
    for (size_t i = 0; i <= sizeof wrong / sizeof *wrong; i++) {
        const char *name = i < sizeof wrong / sizeof *wrong ? wrong[i] : longest;
        struct site_settings *settings = make("a", (struct given){.password = name});
        cr_expect_not(site_config_judge(config, &config->routes[0], settings, error));
        cr_expect_not_null(strstr(error, "is not the name of a secret file"), "%s: %s", name,
                           error);
        site_settings_free(settings);
    }
    config_free(config);
}

Test(site_config, secrets_are_read_from_the_folder_of_the_site)
{
    char folder[] = "/tmp/nemogate-site-XXXXXX", path[64], routes[200], error[SITE_ERROR_TEXT];
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a", folder);
    cr_assert_eq(mkdir(path, 0700), 0);
    snprintf(path, sizeof path, "%s/a/word-1.0_x", folder);
    FILE *file = fopen(path, "w");
    fputs("the word\n", file);
    fclose(file);
    snprintf(
        routes, sizeof routes,
        "  - {streams: '*', broker: main, settings: from-site, settings_secrets: '%s/{site}'}\n",
        folder);
    struct config *config = parse(routes);
    struct site_set set = {NULL, 0};
    site_set_put(&set, make("a", (struct given){.user = "u", .password = "word-1.0_x"}));
    struct site_settings *other = make("b", (struct given){.user = "u", .password = "word-1.0_x"});
    cr_expect_not(site_config_judge(config, &config->routes[0], other, error));
    cr_expect_null(strstr(error, "word-1.0_x"), "%s", error);
    cr_assert(site_config_apply(config, &set, NULL));
    cr_expect_str_eq(broker_of(config, "nemo:{a}:events")->password, "the word");
    cr_assert_eq(config->secret_file_count, 1);
    cr_expect_str_eq(config->secret_files[0], path);
    config_free(config);
    site_settings_free(other);
    site_set_free(&set);
    unlink(path);
    snprintf(path, sizeof path, "%s/a", folder);
    rmdir(path);
    rmdir(folder);
}
