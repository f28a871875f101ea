/* What the gateway sends, byte for byte, and the sizes it promises for it. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "codec/mqtt_wire.h"

#define RAW(...)                                                                                   \
    ((struct bytes){(const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})})

#define ASSERT_BYTES(w, expected)                                                                  \
    do {                                                                                           \
        struct bytes want = (expected);                                                            \
        cr_assert(writer_ok(w));                                                                   \
        cr_assert_arr_eq((w)->start, want.data, want.length);                                      \
        cr_assert_eq(writer_length(w), want.length);                                               \
    } while (0)

static const char letters[70000] = {[0 ... 69999] = 'x'};

static struct bytes letters_of(size_t length)
{
    cr_assert_leq(length, sizeof letters);
    return (struct bytes){(const uint8_t *)letters, length};
}

/* ---- CONNECT ------------------------------------------------------------------------------ */

Test(mqtt_encode, connect_3_1_1_of_the_least)
{
    uint8_t memory[64];
    struct writer w = writer_over(memory, sizeof memory);
    mqtt_put_connect(&w, &(struct mqtt_connect){.version = MQTT_3_1_1,
                                                .clean_start = true,
                                                .keep_alive_s = 30,
                                                .client_id = bytes_of("ab"),
                                                .session_expiry_s = 5, /* 5.0 only */
                                                .receive_maximum = 5,
                                                .maximum_packet_size = 5});
    ASSERT_BYTES(&w, RAW(0x10, 14, 0, 4, 'M', 'Q', 'T', 'T', 4, 0x02, 0, 30, 0, 2, 'a', 'b'));
}

Test(mqtt_encode, connect_5_0_of_the_least)
{
    uint8_t memory[64];
    struct writer w = writer_over(memory, sizeof memory);
    mqtt_put_connect(&w, &(struct mqtt_connect){.version = MQTT_5_0, .keep_alive_s = 0x1234});
    ASSERT_BYTES(&w, RAW(0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 5, 0x00, 0x12, 0x34, 0, 0, 0));
}

static struct mqtt_connect full_connect(enum mqtt_version version)
{
    return (struct mqtt_connect){
        .version = version,
        .clean_start = true,
        .keep_alive_s = 60,
        .client_id = bytes_of("gw"),
        .username = bytes_of("u"),
        .password = bytes_of("pw"),
        .will = {.topic = bytes_of("s"), .payload = bytes_of("off"), .qos = 1, .retain = true},
        .session_expiry_s = 0x01020304,
        .receive_maximum = 0x0506,
        .maximum_packet_size = 0x0708090a,
    };
}

Test(mqtt_encode, connect_3_1_1_with_everything)
{
    uint8_t memory[64];
    struct writer w = writer_over(memory, sizeof memory);
    struct mqtt_connect connect = full_connect(MQTT_3_1_1);
    mqtt_put_connect(&w, &connect);
    ASSERT_BYTES(&w, RAW(0x10, 29, 0, 4, 'M', 'Q', 'T', 'T', 4, 0xee, 0, 60,        /* header */
                         0, 2, 'g', 'w', 0, 1, 's', 0, 3, 'o', 'f', 'f', 0, 1, 'u', /* payload */
                         0, 2, 'p', 'w'));
}

Test(mqtt_encode, connect_5_0_with_everything)
{
    uint8_t memory[64];
    struct writer w = writer_over(memory, sizeof memory);
    struct mqtt_connect connect = full_connect(MQTT_5_0);
    mqtt_put_connect(&w, &connect);
    ASSERT_BYTES(&w,
                 RAW(0x10, 44, 0, 4, 'M', 'Q', 'T', 'T', 5, 0xee, 0, 60,  /* header */
                     13, 0x11, 1, 2, 3, 4, 0x21, 5, 6, 0x27, 7, 8, 9, 10, /* properties */
                     0, 2, 'g', 'w', 0, 0, 1, 's', 0, 3, 'o', 'f', 'f', 0, 1, 'u', 0, 2, 'p', 'w'));
}

Test(mqtt_encode, connect_flags_one_by_one)
{
    struct bytes topic = bytes_of("s");
    const struct {
        struct mqtt_connect connect;
        uint8_t flags;
    } cases[] = {
        {{.clean_start = true}, 0x02},
        {{.will = {.topic = topic}}, 0x04},
        {{.will = {.topic = topic, .qos = 1}}, 0x0c},
        {{.will = {.topic = topic, .qos = 2}}, 0x14},
        {{.will = {.topic = topic, .retain = true}}, 0x24},
        {{.will = {.qos = 1, .retain = true}}, 0x00}, /* no topic: no will [MQTT-3.1.2-11] */
        {{.password = bytes_of("p")}, 0x40},
        {{.username = bytes_of("u")}, 0x80},
        {{.username = bytes_of("")}, 0x80}, /* given and empty is not the same as none */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t memory[64];
        struct writer w = writer_over(memory, sizeof memory);
        struct mqtt_connect connect = cases[i].connect;
        connect.version = MQTT_5_0;
        mqtt_put_connect(&w, &connect);
        cr_assert(writer_ok(&w));
        cr_assert_eq(memory[9], cases[i].flags, "case %zu: 0x%02x", i, memory[9]);
        cr_assert_eq(writer_length(&w), 2u + memory[1], "case %zu", i);
    }
}

static bool connect_is_refused(const struct mqtt_connect *connect)
{
    static uint8_t memory[400000];
    struct writer w = writer_over(memory, sizeof memory);
    mqtt_put_connect(&w, connect);
    return !writer_ok(&w) && writer_length(&w) == 0;
}

Test(mqtt_encode, connect_that_has_no_encoding_fails_the_writer)
{
    struct mqtt_connect connect = full_connect(MQTT_5_0);
    struct bytes longest = letters_of(65535);
    connect.client_id = connect.username = connect.password = longest;
    connect.will.topic = connect.will.payload = longest;
    cr_assert_not(connect_is_refused(&connect));

    struct bytes *fields[] = {&connect.client_id, &connect.username, &connect.password,
                              &connect.will.topic, &connect.will.payload};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        *fields[i] = letters_of(65536);
        cr_assert(connect_is_refused(&connect), "field %zu", i);
        *fields[i] = longest;
    }
    connect.will.qos = 3;
    cr_assert(connect_is_refused(&connect));
}

Test(mqtt_encode, connect_3_1_1_refuses_a_password_without_user_name)
{
    struct mqtt_connect connect = {.version = MQTT_3_1_1, .password = bytes_of("p")};
    cr_assert(connect_is_refused(&connect)); /* [MQTT-3.1.2-22] */
    connect.version = MQTT_5_0;
    cr_assert_not(connect_is_refused(&connect));
}

Test(mqtt_encode, connect_with_a_remaining_length_of_two_bytes)
{
    uint8_t memory[256];
    for (size_t length = 114; length <= 117; length++) { /* 12 + 115 = 127 */
        struct writer w = writer_over(memory, sizeof memory);
        struct mqtt_connect connect = {.version = MQTT_3_1_1, .client_id = letters_of(length)};
        mqtt_put_connect(&w, &connect);
        size_t remaining = 12 + length;
        cr_assert_eq(writer_length(&w), (remaining < 128 ? 2 : 3) + remaining);
        if (remaining < 128)
            cr_assert_eq(memory[1], remaining);
        else
            cr_assert(memory[1] == (0x80 | (remaining & 0x7f)) && memory[2] == 1);
    }
}

Test(mqtt_encode, connect_never_writes_outside)
{
    struct mqtt_connect connect = full_connect(MQTT_5_0);
    for (size_t size = 0; size < 46; size++) {
        uint8_t *memory = malloc(size + 1);
        struct writer w = writer_over(memory, size);
        mqtt_put_connect(&w, &connect);
        cr_assert_not(writer_ok(&w), "%zu bytes", size);
        free(memory);
    }
}

/* ---- PUBLISH ------------------------------------------------------------------------------ */

/* The least that can read a PUBLISH, written for these tests alone: it shares no code with the
 * encoder, so that both would have to be wrong in the same way. */
struct seen_publish {
    unsigned first;
    size_t size;
    struct bytes topic;
    size_t packet_id_at;
    bool has_expiry;
    uint32_t expiry_s;
    struct bytes content_type;
    size_t users;
    struct mqtt_user_property user[4];
    struct bytes payload;
};

static size_t seen_integer(const uint8_t *data, size_t *at)
{
    size_t value = data[*at] % 128;
    size_t unit = 128;
    while (data[(*at)++] >= 128) {
        value += data[*at] % 128 * unit;
        unit *= 128;
    }
    return value;
}

static struct bytes seen_string(const uint8_t *data, size_t *at)
{
    size_t length = data[*at] * 256u + data[*at + 1];
    struct bytes text = {data + *at + 2, length};
    *at += 2 + length;
    return text;
}

static void see_properties(const uint8_t *data, size_t at, size_t end, struct seen_publish *seen)
{
    while (at < end) {
        switch (data[at++]) {
        case 2:
            cr_assert_not(seen->has_expiry);
            seen->has_expiry = true;
            for (int i = 0; i < 4; i++)
                seen->expiry_s = seen->expiry_s * 256 + data[at++];
            break;
        case 3:
            cr_assert_eq(seen->content_type.length, 0);
            seen->content_type = seen_string(data, &at);
            break;
        case 38:
            cr_assert_lt(seen->users, 4);
            seen->user[seen->users].name = seen_string(data, &at);
            seen->user[seen->users++].value = seen_string(data, &at);
            break;
        default:
            cr_assert_fail("unknown property %d", data[at - 1]);
        }
    }
    cr_assert_eq(at, end);
}

static struct seen_publish see_publish(struct bytes packet, enum mqtt_version version)
{
    struct seen_publish seen = {.first = packet.data[0]};
    size_t at = 1;
    size_t remaining = seen_integer(packet.data, &at);
    seen.size = at + remaining;
    cr_assert_eq(seen.size, packet.length);
    seen.topic = seen_string(packet.data, &at);
    if (seen.first / 2 % 4 > 0) {
        seen.packet_id_at = at;
        at += 2;
    }
    if (version == MQTT_5_0) {
        size_t properties = seen_integer(packet.data, &at);
        see_properties(packet.data, at, at + properties, &seen);
        at += properties;
    }
    cr_assert_leq(at, seen.size);
    seen.payload = (struct bytes){packet.data + at, seen.size - at};
    return seen;
}

/* Encodes into memory of exactly the promised size and compares what an independent reader sees. */
static void check_publish(const struct mqtt_publish *publish)
{
    size_t size = mqtt_publish_size(publish);
    cr_assert_neq(size, 0);
    uint8_t *memory = malloc(size);
    struct writer w = writer_over(memory, size);
    size_t packet_id_offset = 12345;
    mqtt_put_publish(&w, publish, &packet_id_offset);
    cr_assert(writer_ok(&w));
    cr_assert_eq(writer_length(&w), size);

    struct seen_publish seen = see_publish((struct bytes){memory, size}, publish->version);
    cr_assert_eq(seen.first, 0x30u + publish->qos * 2u + (publish->retain ? 1u : 0u));
    cr_assert_eq(seen.packet_id_at, packet_id_offset);
    cr_assert_eq(seen.topic.length, publish->topic_prefix.length + publish->topic.length);
    struct bytes head = {seen.topic.data, publish->topic_prefix.length};
    struct bytes tail = {seen.topic.data + head.length, publish->topic.length};
    cr_assert(bytes_equal(head, publish->topic_prefix) && bytes_equal(tail, publish->topic));
    cr_assert(bytes_equal(seen.payload, publish->payload));
    if (publish->qos > 0)
        cr_assert(memory[packet_id_offset] == 0 && memory[packet_id_offset + 1] == 0);
    bool is_5_0 = publish->version == MQTT_5_0;
    cr_assert_eq(seen.has_expiry, is_5_0 && publish->has_expiry);
    cr_assert_eq(seen.expiry_s, seen.has_expiry ? publish->expiry_s : 0);
    cr_assert_eq(seen.content_type.length, is_5_0 ? publish->content_type.length : 0);
    cr_assert(!is_5_0 || bytes_equal(seen.content_type, publish->content_type));
    cr_assert_eq(seen.users, is_5_0 ? publish->user_property_count : 0);
    for (size_t i = 0; i < seen.users; i++) {
        cr_assert(bytes_equal(seen.user[i].name, publish->user_properties[i].name));
        cr_assert(bytes_equal(seen.user[i].value, publish->user_properties[i].value));
    }
    free(memory);
}

Test(mqtt_encode, publish_3_1_1)
{
    uint8_t memory[32];
    struct writer w = writer_over(memory, sizeof memory);
    size_t offset = 0;
    struct mqtt_publish publish = {.version = MQTT_3_1_1,
                                   .qos = 1,
                                   .topic_prefix = bytes_of("a/"),
                                   .topic = bytes_of("b"),
                                   .payload = bytes_of("hi"),
                                   .has_expiry = true, /* 5.0 only, as all below */
                                   .content_type = bytes_of("t"),
                                   .user_property_count = 1};
    mqtt_put_publish(&w, &publish, &offset);
    ASSERT_BYTES(&w, RAW(0x32, 9, 0, 3, 'a', '/', 'b', 0, 0, 'h', 'i'));
    cr_assert_eq(offset, 7);
    mqtt_set_packet_id(memory, offset, 0xabcd);
    ASSERT_BYTES(&w, RAW(0x32, 9, 0, 3, 'a', '/', 'b', 0xab, 0xcd, 'h', 'i'));
}

Test(mqtt_encode, publish_of_qos_0_has_no_packet_identifier)
{
    uint8_t memory[32];
    struct writer w = writer_over(memory, sizeof memory);
    size_t offset = 99;
    struct mqtt_publish publish = {.version = MQTT_5_0, .retain = true, .topic = bytes_of("t")};
    mqtt_put_publish(&w, &publish, &offset);
    ASSERT_BYTES(&w, RAW(0x31, 4, 0, 1, 't', 0)); /* [MQTT-2.2.1-2] */
    cr_assert_eq(offset, 0);
}

Test(mqtt_encode, publish_5_0_with_everything)
{
    uint8_t memory[64];
    struct writer w = writer_over(memory, sizeof memory);
    size_t offset = 0;
    struct mqtt_publish publish = {
        .version = MQTT_5_0,
        .qos = 1,
        .retain = true,
        .topic_prefix = bytes_of("n/"),
        .topic = bytes_of("t"),
        .payload = bytes_of("x"),
        .has_expiry = true,
        .expiry_s = 0x00010203,
        .content_type = bytes_of("ct"),
        .user_property_count = 2,
        .user_properties = {{bytes_of("id"), bytes_of("7")}, {bytes_of("s"), bytes_of("")}}};
    mqtt_put_publish(&w, &publish, &offset);
    ASSERT_BYTES(&w, RAW(0x33, 33, 0, 3, 'n', '/', 't', 0, 0,        /* topic, identifier */
                         24, 0x02, 0, 1, 2, 3, 0x03, 0, 2, 'c', 't', /* properties */
                         0x26, 0, 2, 'i', 'd', 0, 1, '7', 0x26, 0, 1, 's', 0, 0, 'x'));
    cr_assert_eq(offset, 7);
    check_publish(&publish);
}

Test(mqtt_encode, publish_follows_what_the_writer_holds)
{
    uint8_t memory[32];
    struct writer w = writer_over(memory, sizeof memory);
    mqtt_put_pingreq(&w);
    size_t offset = 0;
    struct mqtt_publish publish = {.version = MQTT_3_1_1, .qos = 1, .topic = bytes_of("t")};
    mqtt_put_publish(&w, &publish, &offset);
    ASSERT_BYTES(&w, RAW(0xc0, 0, 0x32, 5, 0, 1, 't', 0, 0));
    cr_assert_eq(offset, 5); /* from the packet's first byte, not the writer's */
}

Test(mqtt_encode, retain_of_an_encoded_publish)
{
    uint8_t packet[] = {0x32};
    mqtt_set_retain(packet, true);
    cr_assert_eq(packet[0], 0x33);
    mqtt_set_retain(packet, true);
    cr_assert_eq(packet[0], 0x33);
    mqtt_set_retain(packet, false);
    cr_assert_eq(packet[0], 0x32);
}

/* All combinations of options, with property strings that move the Property Length over 127. */
static void check_options(struct mqtt_publish publish)
{
    static const size_t lengths[] = {0, 1, 100, 127, 128};
    for (size_t expiry = 0; expiry < 2; expiry++) {
        for (size_t type = 0; type < 5; type++) {
            for (size_t users = 0; users < 6; users++) {
                publish.has_expiry = expiry > 0;
                publish.expiry_s = 0xfffefdfc;
                publish.content_type = letters_of(lengths[type]);
                publish.user_property_count = users / 2;
                for (size_t i = 0; i < users / 2; i++)
                    publish.user_properties[i] = (struct mqtt_user_property){
                        letters_of(i), letters_of(lengths[(users + i) % 5])};
                check_publish(&publish);
            }
        }
    }
}

Test(mqtt_encode, publish_size_and_bytes_agree_over_a_grid)
{
    static const size_t payloads[] = {0, 1, 116, 127, 128, 300};
    static const enum mqtt_version versions[] = {MQTT_3_1_1, MQTT_5_0};
    for (size_t v = 0; v < 2; v++) {
        for (uint8_t qos = 0; qos < 2; qos++) {
            for (size_t retain = 0; retain < 2; retain++) {
                for (size_t i = 0; i < sizeof payloads / sizeof *payloads; i++) {
                    struct mqtt_publish publish = {.version = versions[v],
                                                   .qos = qos,
                                                   .retain = retain > 0,
                                                   .topic_prefix = bytes_of(i % 2 ? "lab/" : ""),
                                                   .topic = bytes_of("tools/17"),
                                                   .payload = letters_of(payloads[i])};
                    check_options(publish);
                }
            }
        }
    }
}

Test(mqtt_encode, publish_around_every_step_of_the_remaining_length)
{
    static const size_t steps[] = {128, 16384, 2097152};
    uint8_t *payload = calloc(1, steps[2] + 8);
    for (size_t s = 0; s < 3; s++) {
        for (size_t remaining = steps[s] - 2; remaining <= steps[s] + 1; remaining++) {
            struct mqtt_publish publish = {.version = MQTT_3_1_1, .qos = 1, .topic = bytes_of("t")};
            publish.payload = (struct bytes){payload, remaining - 5};
            size_t header = remaining < steps[s] ? s + 2 : s + 3;
            cr_assert_eq(mqtt_publish_size(&publish), header + remaining);
            check_publish(&publish);
        }
    }
    free(payload);
}

Test(mqtt_encode, publish_around_the_steps_of_the_property_length)
{
    /* A content type of n bytes makes n + 3 bytes of properties. */
    static const size_t steps[] = {125, 16381};
    for (size_t s = 0; s < 2; s++) {
        for (size_t length = steps[s] - 2; length <= steps[s] + 1; length++) {
            struct mqtt_publish publish = {.version = MQTT_5_0, .topic = bytes_of("t")};
            publish.content_type = letters_of(length);
            size_t remaining = 3 + (length < steps[s] ? s + 1 : s + 2) + length + 3;
            size_t header = remaining < 128 ? 2u : remaining < 16384 ? 3u : 4u;
            cr_assert_eq(mqtt_publish_size(&publish), header + remaining);
            check_publish(&publish);
        }
    }
}

static void check_refused(const struct mqtt_publish *publish)
{
    uint8_t memory[8];
    struct writer w = writer_over(memory, sizeof memory);
    size_t offset = 77;
    cr_assert_eq(mqtt_publish_size(publish), 0);
    mqtt_put_publish(&w, publish, &offset);
    cr_assert_not(writer_ok(&w));
    cr_assert_eq(writer_length(&w), 0);
    cr_assert_eq(offset, 0);
}

Test(mqtt_encode, publish_at_and_over_the_limits_of_its_strings)
{
    struct bytes longest = letters_of(65535);
    struct mqtt_publish publish = {.version = MQTT_5_0,
                                   .topic_prefix = letters_of(65000),
                                   .topic = letters_of(535),
                                   .content_type = longest,
                                   .user_property_count = 2,
                                   .user_properties = {{longest, longest}, {longest, longest}}};
    check_publish(&publish);
    publish.topic = letters_of(536);
    check_refused(&publish);
    publish.topic_prefix = letters_of(65536);
    publish.topic = letters_of(0);
    check_refused(&publish);
    publish.topic_prefix = letters_of(0);
    publish.topic = letters_of(65536);
    check_refused(&publish);
    publish.topic = longest;
    check_publish(&publish);

    struct bytes *strings[] = {&publish.content_type, &publish.user_properties[0].name,
                               &publish.user_properties[0].value, &publish.user_properties[1].name,
                               &publish.user_properties[1].value};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        *strings[i] = letters_of(65536);
        check_refused(&publish);
        publish.version = MQTT_3_1_1; /* which has no properties */
        check_publish(&publish);
        publish.version = MQTT_5_0;
        *strings[i] = longest;
    }
    publish.user_property_count = MQTT_MAX_USER_PROPERTIES + 1;
    check_refused(&publish);
    publish.user_property_count = 0;
    publish.qos = 2;
    check_refused(&publish);
}

Test(mqtt_encode, publish_at_and_over_the_largest_remaining_length)
{
    /* The size alone: nothing of this length is written here, so the payload need not exist. */
    struct mqtt_publish publish = {.version = MQTT_3_1_1, .qos = 1, .topic = bytes_of("t")};
    publish.payload = (struct bytes){(const uint8_t *)letters, MQTT_MAX_REMAINING_LENGTH - 5};
    cr_assert_eq(mqtt_publish_size(&publish), 5u + MQTT_MAX_REMAINING_LENGTH);
    publish.payload.length++;
    check_refused(&publish);
    publish.payload.length = SIZE_MAX; /* no sum may wrap to something small */
    check_refused(&publish);
    publish.version = MQTT_5_0;
    publish.payload.length = MQTT_MAX_REMAINING_LENGTH - 6;
    cr_assert_eq(mqtt_publish_size(&publish), 5u + MQTT_MAX_REMAINING_LENGTH);
    publish.payload.length++;
    check_refused(&publish);
    publish.payload.length = 0;
    publish.topic_prefix = (struct bytes){(const uint8_t *)letters, SIZE_MAX};
    check_refused(&publish);
}

Test(mqtt_encode, publish_that_does_not_fit_writes_nothing)
{
    struct mqtt_publish publish = {.version = MQTT_5_0,
                                   .qos = 1,
                                   .topic = bytes_of("tools/17"),
                                   .payload = bytes_of("on"),
                                   .user_property_count = 1,
                                   .user_properties = {{bytes_of("id"), bytes_of("1")}}};
    size_t needed = mqtt_publish_size(&publish);
    for (size_t size = 0; size < needed; size++) {
        uint8_t *memory = malloc(size + 1);
        struct writer w = writer_over(memory, size);
        size_t offset = 7;
        mqtt_put_publish(&w, &publish, &offset);
        cr_assert_not(writer_ok(&w));
        cr_assert_eq(writer_length(&w), 0);
        free(memory);
    }
}

Test(mqtt_encode, publish_into_a_failed_writer_writes_nothing)
{
    uint8_t memory[64];
    struct writer w = writer_over(memory, sizeof memory);
    w.failed = true;
    size_t offset = 7;
    struct mqtt_publish publish = {.version = MQTT_5_0, .topic = bytes_of("t")};
    mqtt_put_publish(&w, &publish, &offset);
    cr_assert_eq(writer_length(&w), 0);
}

/* ---- PINGREQ, DISCONNECT ------------------------------------------------------------------ */

Test(mqtt_encode, pingreq)
{
    uint8_t memory[4];
    struct writer w = writer_over(memory, sizeof memory);
    mqtt_put_pingreq(&w);
    ASSERT_BYTES(&w, RAW(0xc0, 0));
}

Test(mqtt_encode, disconnect)
{
    uint8_t memory[4];
    struct writer w = writer_over(memory, sizeof memory);
    mqtt_put_disconnect(&w, MQTT_5_0, 0x00);
    ASSERT_BYTES(&w, RAW(0xe0, 0));
    w = writer_over(memory, sizeof memory);
    mqtt_put_disconnect(&w, MQTT_5_0, MQTT_REASON_PROTOCOL_ERROR);
    ASSERT_BYTES(&w, RAW(0xe0, 1, 0x82));
    w = writer_over(memory, sizeof memory);
    mqtt_put_disconnect(&w, MQTT_3_1_1, MQTT_REASON_PROTOCOL_ERROR);
    ASSERT_BYTES(&w, RAW(0xe0, 0));
    w = writer_over(memory, 1);
    mqtt_put_disconnect(&w, MQTT_5_0, 0);
    cr_assert_not(writer_ok(&w));
}
