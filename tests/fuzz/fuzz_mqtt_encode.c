/*
 * The MQTT encoder with fields of the fuzzer's choice: what it says a PUBLISH takes is what it
 * writes, neither a byte more nor less, and a decoder that is written here from the specification,
 * and shares nothing with the gateway's, gives the fields back. CONNECT likewise.
 */
#include "codec/mqtt_wire.h"
#include "tests/fuzz/fuzz_input.h"

/* ---- an independent decoder ---------------------------------------------------------------- */

static uint32_t get_variable(struct bytes *in)
{
    uint32_t value = 0, factor = 1;
    for (int i = 0; i < 4; i++) {
        require(in->length > 0);
        uint8_t byte = take_u8(in);
        value += (byte & 127u) * factor;
        factor *= 128;
        if ((byte & 128u) == 0) {
            require(byte != 0 || i == 0); /* [MQTT-1.5.5-1] */
            return value;
        }
    }
    abort();
}

static struct bytes get_string(struct bytes *in)
{
    require(in->length >= 2);
    size_t length = take_u16(in);
    require(in->length >= length);
    return take_bytes(in, length);
}

static void require_joined(struct bytes whole, struct bytes first, struct bytes second)
{
    require(whole.length == first.length + second.length);
    require(bytes_equal((struct bytes){whole.data, first.length}, first));
    require(bytes_equal((struct bytes){whole.data + first.length, second.length}, second));
}

/* Takes the fixed header off; the rest is the body, to the packet's end. */
static uint8_t open_packet(struct bytes *in)
{
    require(in->length >= 2);
    uint8_t first = take_u8(in);
    require(get_variable(in) == in->length);
    return first;
}

static void decode_properties(struct bytes in, const struct mqtt_publish *given, uint32_t expiry_s)
{
    size_t user = 0;
    bool expiry = false, content_type = false;
    while (in.length > 0) {
        switch (take_u8(&in)) {
        case 0x02:
            require(!expiry && in.length >= 4);
            expiry = true;
            require(take_u32(&in) == expiry_s);
            break;
        case 0x03:
            require(!content_type);
            content_type = true;
            require(bytes_equal(get_string(&in), given->content_type));
            break;
        case 0x26:
            require(user < given->user_property_count);
            require(bytes_equal(get_string(&in), given->user_properties[user].name));
            require(bytes_equal(get_string(&in), given->user_properties[user].value));
            user++;
            break;
        default:
            abort();
        }
    }
    require(expiry == given->has_expiry && user == given->user_property_count);
    require(content_type == (given->content_type.length > 0));
}

static void decode_publish(struct bytes packet, const struct mqtt_publish *given,
                           uint16_t packet_id, uint32_t expiry_s)
{
    struct bytes in = packet;
    uint8_t first = open_packet(&in);
    require(first == (0x30 | given->qos << 1 | (given->retain ? 1 : 0)));
    require_joined(get_string(&in), given->topic_prefix, given->topic);
    if (given->qos > 0)
        require(in.length >= 2 && take_u16(&in) == packet_id);
    if (given->version == MQTT_5_0) {
        size_t length = get_variable(&in);
        require(length <= in.length);
        decode_properties(take_bytes(&in, length), given, expiry_s);
    }
    require(bytes_equal(in, given->payload));
}

/* ---- PUBLISH ------------------------------------------------------------------------------- */

/* Mostly short; now and then at the edges of what a string or a length of one byte holds. */
static size_t take_length(struct bytes *input)
{
    static const size_t edges[] = {127, 128, 16383, 16384, 65534, 65535, 65536, 70000};
    uint8_t byte = take_u8(input);
    return byte < 255 ? byte : edges[take_u8(input) % 8];
}

/* A text that begins and ends with bytes of the input. Owned. */
static struct bytes make_text(struct bytes *input, uint8_t **memory)
{
    size_t length = take_length(input);
    struct bytes seed = take_bytes(input, length < 8 ? length : 8);
    *memory = malloc(length > 0 ? length : 1);
    require(*memory != NULL);
    memset(*memory, 'x', length);
    if (seed.length > 0) {
        memcpy(*memory, seed.data, seed.length);
        memcpy(*memory + length - seed.length, seed.data, seed.length);
    }
    return (struct bytes){*memory, length};
}

static bool fits(const struct mqtt_publish *publish)
{
    if (publish->topic_prefix.length + publish->topic.length > 65535 || publish->qos > 1)
        return false;
    if (publish->version != MQTT_5_0)
        return true;
    for (size_t i = 0; i < publish->user_property_count && i < MQTT_MAX_USER_PROPERTIES; i++)
        if (publish->user_properties[i].name.length > 65535 ||
            publish->user_properties[i].value.length > 65535)
            return false;
    return publish->content_type.length <= 65535 &&
           publish->user_property_count <= MQTT_MAX_USER_PROPERTIES;
}

static void require_not_encodable(const struct mqtt_publish *publish)
{
    uint8_t byte = 0;
    size_t offset;
    struct writer w = writer_over(&byte, 1);
    mqtt_put_publish(&w, publish, &offset);
    require(!writer_ok(&w) && writer_length(&w) == 0 && byte == 0);
}

/* One byte of room too little: nothing is written. */
static void require_needs_all(const struct mqtt_publish *publish, size_t size)
{
    uint8_t *memory = malloc(size - 1);
    require(memory != NULL);
    size_t offset;
    struct writer w = writer_over(memory, size - 1);
    mqtt_put_publish(&w, publish, &offset);
    require(!writer_ok(&w) && writer_length(&w) == 0);
    free(memory);
}

static void check_publish(const struct mqtt_publish *publish, uint16_t packet_id, uint32_t expiry_s)
{
    size_t size = mqtt_publish_size(publish);
    require((size > 0) == fits(publish));
    if (size == 0) {
        require_not_encodable(publish);
        return;
    }
    require_needs_all(publish, size);
    uint8_t *memory = malloc(size);
    require(memory != NULL);
    struct writer w = writer_over(memory, size);
    size_t offset;
    mqtt_put_publish(&w, publish, &offset);
    require(writer_ok(&w) && writer_length(&w) == size && (offset > 0) == (publish->qos > 0));
    struct bytes packet = {memory, size};
    decode_publish(packet, publish, 0, publish->expiry_s);
    if (publish->qos > 0)
        mqtt_set_packet_id(memory, offset, packet_id);
    if (publish->version == MQTT_5_0 && publish->has_expiry)
        mqtt_set_expiry(memory, expiry_s);
    struct mqtt_publish changed = *publish;
    changed.retain = !publish->retain;
    mqtt_set_retain(memory, changed.retain);
    decode_publish(packet, &changed, packet_id, expiry_s);
    free(memory);
}

static void encode_publish(struct bytes *input)
{
    uint8_t flags = take_u8(input);
    uint16_t packet_id = take_u16(input);
    uint32_t expiry_s = take_u32(input);
    uint8_t *memory[4 + 2 * MQTT_MAX_USER_PROPERTIES];
    struct mqtt_publish publish = {
        .version = (flags & 1) != 0 ? MQTT_3_1_1 : MQTT_5_0,
        .qos = flags >> 1 & 3,
        .retain = (flags & 8) != 0,
        .topic_prefix = make_text(input, &memory[0]),
        .topic = make_text(input, &memory[1]),
        .payload = make_text(input, &memory[2]),
        .has_expiry = (flags & 16) != 0,
        .expiry_s = ~expiry_s,
        .content_type = make_text(input, &memory[3]),
        .user_property_count = flags >> 5 & 3,
    };
    for (size_t i = 0; i < MQTT_MAX_USER_PROPERTIES; i++) {
        publish.user_properties[i].name = make_text(input, &memory[4 + 2 * i]);
        publish.user_properties[i].value = make_text(input, &memory[5 + 2 * i]);
    }
    check_publish(&publish, packet_id, expiry_s);
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        free(memory[i]);
}

/* ---- CONNECT ------------------------------------------------------------------------------- */

static void decode_connect_properties(struct bytes in, const struct mqtt_connect *given)
{
    uint32_t session_expiry = 0, maximum_packet_size = 0;
    uint16_t receive_maximum = 0;
    while (in.length > 0) {
        uint8_t id = take_u8(&in);
        require(in.length >= (id == 0x21 ? 2 : 4));
        if (id == 0x11)
            session_expiry = take_u32(&in);
        else if (id == 0x21)
            receive_maximum = take_u16(&in);
        else if (id == 0x27)
            maximum_packet_size = take_u32(&in);
        else
            abort();
    }
    require(session_expiry == given->session_expiry_s);
    require(receive_maximum == given->receive_maximum);
    require(maximum_packet_size == given->maximum_packet_size);
}

static void decode_connect(struct bytes in, const struct mqtt_connect *given)
{
    require(open_packet(&in) == 0x10);
    require(bytes_equal(get_string(&in), bytes_of("MQTT")) && in.length >= 4);
    require(take_u8(&in) == given->version);
    uint8_t flags = take_u8(&in);
    bool has_will = given->will.topic.length > 0;
    require((flags & 1) == 0 && ((flags & 2) != 0) == given->clean_start);
    require(((flags & 4) != 0) == has_will);
    require((flags >> 3 & 3) == (has_will ? given->will.qos : 0));
    require(((flags & 32) != 0) == (has_will && given->will.retain));
    require(take_u16(&in) == given->keep_alive_s);
    if (given->version == MQTT_5_0) {
        size_t length = get_variable(&in);
        require(length <= in.length);
        decode_connect_properties(take_bytes(&in, length), given);
    }
    require(bytes_equal(get_string(&in), given->client_id));
    if (has_will) {
        if (given->version == MQTT_5_0)
            require(in.length > 0 && take_u8(&in) == 0);
        require(bytes_equal(get_string(&in), given->will.topic));
        require(bytes_equal(get_string(&in), given->will.payload));
    }
    if ((flags & 128) != 0)
        require(bytes_equal(get_string(&in), given->username));
    if ((flags & 64) != 0)
        require(bytes_equal(get_string(&in), given->password));
    require(((flags & 128) != 0) == (given->username.data != NULL));
    require(((flags & 64) != 0) == (given->password.data != NULL));
    require(in.length == 0);
}

static bool connect_fits(const struct mqtt_connect *connect)
{
    if (connect->client_id.length > 65535 || connect->username.length > 65535 ||
        connect->password.length > 65535 || connect->will.topic.length > 65535 ||
        connect->will.payload.length > 65535 || connect->will.qos > 2)
        return false;
    return connect->version == MQTT_5_0 || !connect->password.data || connect->username.data;
}

static void encode_connect(struct bytes *input)
{
    uint8_t flags = take_u8(input);
    uint8_t *memory[5];
    const struct bytes none = {NULL, 0};
    struct mqtt_connect connect = {
        .version = (flags & 1) != 0 ? MQTT_3_1_1 : MQTT_5_0,
        .clean_start = (flags & 2) != 0,
        .keep_alive_s = take_u16(input),
        .session_expiry_s = take_u8(input),
        .receive_maximum = take_u8(input),
        .maximum_packet_size = take_u32(input),
        .client_id = make_text(input, &memory[0]),
        .username = make_text(input, &memory[1]),
        .password = make_text(input, &memory[2]),
        .will = {.topic = make_text(input, &memory[3]),
                 .payload = make_text(input, &memory[4]),
                 .qos = flags >> 2 & 3,
                 .retain = (flags & 16) != 0},
    };
    if ((flags & 32) != 0)
        connect.username = none;
    if ((flags & 64) != 0)
        connect.password = none;
    size_t size = 64 + connect.client_id.length + connect.username.length +
                  connect.password.length + connect.will.topic.length + connect.will.payload.length;
    uint8_t *out = malloc(size);
    require(out != NULL);
    struct writer w = writer_over(out, size);
    mqtt_put_connect(&w, &connect);
    require(writer_ok(&w) == connect_fits(&connect));
    if (writer_ok(&w))
        decode_connect((struct bytes){out, writer_length(&w)}, &connect);
    free(out);
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        free(memory[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = {data, size};
    if (take_u8(&input) % 4 == 3)
        encode_connect(&input);
    else
        encode_publish(&input);
    return 0;
}
