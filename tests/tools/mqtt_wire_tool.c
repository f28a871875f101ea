/*
 * The MQTT codec for scripts: reads one command per line, answers with one line. For the tests that
 * compare it with another implementation; it is not installed and judges nothing itself.
 *   connect version=5 client_id=6762 keep_alive=30 ...    -> the packet in hex, or "refused"
 *   publish version=5 qos=1 packet_id=7 topic=612f62 ...  -> the same
 *   read version=5 packet=40020001                        -> the fields of the packet
 *   topic prefix=612f topic=62 | utf8 text=c3a4           -> "valid" or what is wrong
 * Texts and payloads are in hex; what is not given is 0 or absent.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "codec/mqtt_wire.h"

#define MAX_FIELDS 24
#define MAX_PACKET 400000

struct field {
    const char *name;
    char *value;
};

struct command {
    struct field fields[MAX_FIELDS];
    size_t count;
};

static void fail(const char *what)
{
    fprintf(stderr, "mqtt_wire_tool: %s\n", what);
    exit(2);
}

static const char *split(char *line, struct command *command)
{
    char *rest = NULL;
    const char *verb = strtok_r(line, " \n", &rest);
    command->count = 0;
    for (char *part; (part = strtok_r(NULL, " \n", &rest));) {
        char *equals = strchr(part, '=');
        if (!equals || command->count == MAX_FIELDS)
            fail("a field is not name=value, or there are too many");
        *equals = '\0';
        command->fields[command->count++] = (struct field){part, equals + 1};
    }
    return verb ? verb : "";
}

static char *value_of(const struct command *command, const char *name)
{
    for (size_t i = 0; i < command->count; i++) {
        if (strcmp(command->fields[i].name, name) == 0)
            return command->fields[i].value;
    }
    return NULL;
}

static uint32_t number(const struct command *command, const char *name)
{
    const char *value = value_of(command, name);
    return value ? (uint32_t)strtoul(value, NULL, 10) : 0;
}

static uint8_t nibble(char digit)
{
    const char *digits = "0123456789abcdef";
    const char *at = digit ? strchr(digits, digit) : NULL;
    if (!at)
        fail("a value is not hex");
    return (uint8_t)(at - digits);
}

/* Decodes in place, so each field is asked for once; data NULL where the field is absent. */
static struct bytes octets(const struct command *command, const char *name)
{
    char *value = value_of(command, name);
    if (!value)
        return (struct bytes){NULL, 0};
    size_t length = strlen(value) / 2;
    uint8_t *data = (uint8_t *)value;
    for (size_t i = 0; i < length; i++)
        data[i] = (uint8_t)(nibble(value[2 * i]) << 4 | nibble(value[2 * i + 1]));
    return (struct bytes){data, length};
}

static void print_hex(struct bytes view)
{
    for (size_t i = 0; i < view.length; i++)
        printf("%02x", view.data[i]);
}

static void print_text(const char *name, struct bytes text)
{
    printf(" %s=", name);
    print_hex(text);
}

static void print_packet(const struct writer *w)
{
    if (!writer_ok(w)) {
        printf("refused\n");
        return;
    }
    print_hex((struct bytes){w->start, writer_length(w)});
    printf("\n");
}

static void do_connect(const struct command *command, struct writer *w)
{
    struct mqtt_connect connect = {
        .version = (enum mqtt_version)number(command, "version"),
        .clean_start = number(command, "clean_start") != 0,
        .keep_alive_s = (uint16_t)number(command, "keep_alive"),
        .client_id = octets(command, "client_id"),
        .username = octets(command, "username"),
        .password = octets(command, "password"),
        .will = {.topic = octets(command, "will_topic"),
                 .payload = octets(command, "will_payload"),
                 .qos = (uint8_t)number(command, "will_qos"),
                 .retain = number(command, "will_retain") != 0},
        .session_expiry_s = number(command, "session_expiry"),
        .receive_maximum = (uint16_t)number(command, "receive_maximum"),
        .maximum_packet_size = number(command, "maximum_packet_size"),
    };
    mqtt_put_connect(w, &connect);
    print_packet(w);
}

static void do_publish(const struct command *command, struct writer *w)
{
    struct mqtt_publish publish = {
        .version = (enum mqtt_version)number(command, "version"),
        .qos = (uint8_t)number(command, "qos"),
        .retain = number(command, "retain") != 0,
        .topic_prefix = octets(command, "prefix"),
        .topic = octets(command, "topic"),
        .payload = octets(command, "payload"),
        .has_expiry = value_of(command, "expiry") != NULL,
        .expiry_s = number(command, "expiry"),
        .content_type = octets(command, "content_type"),
        .user_property_count = number(command, "users"),
        .user_properties = {{octets(command, "name0"), octets(command, "value0")},
                            {octets(command, "name1"), octets(command, "value1")}},
    };
    size_t size = mqtt_publish_size(&publish);
    size_t packet_id_offset = 0;
    mqtt_put_publish(w, &publish, &packet_id_offset);
    if (writer_ok(w) && writer_length(w) != size)
        fail("mqtt_publish_size and mqtt_put_publish disagree");
    if (packet_id_offset > 0)
        mqtt_set_packet_id(w->start, packet_id_offset, (uint16_t)number(command, "packet_id"));
    print_packet(w);
}

static void print_connack(const struct mqtt_connack *connack)
{
    printf("connack session_present=%d reason=%u", connack->session_present, connack->reason_code);
    if (connack->has_session_expiry)
        printf(" session_expiry=%" PRIu32, connack->session_expiry_s);
    printf(" receive_maximum=%u maximum_qos=%u retain_available=%d", connack->receive_maximum,
           connack->maximum_qos, connack->retain_available);
    printf(" maximum_packet_size=%" PRIu32 " topic_alias_maximum=%u", connack->maximum_packet_size,
           connack->topic_alias_maximum);
    if (connack->has_server_keep_alive)
        printf(" server_keep_alive=%u", connack->server_keep_alive_s);
    print_text("assigned_client_id", connack->assigned_client_id);
    print_text("reason_string", connack->reason_string);
    print_text("server_reference", connack->server_reference);
}

/* Prints the fields, or nothing where the status is not OK. */
static enum status print_body(const struct mqtt_frame *frame, enum mqtt_version version,
                              struct mqtt_fault *fault)
{
    struct mqtt_connack connack;
    struct mqtt_puback puback;
    struct mqtt_disconnect disconnect;
    enum status status = STATUS_OK;
    if (frame->type == MQTT_CONNACK) {
        status = mqtt_read_connack(frame, version, &connack, fault);
        if (status == STATUS_OK)
            print_connack(&connack);
    } else if (frame->type == MQTT_PUBACK) {
        status = mqtt_read_puback(frame, version, &puback, fault);
        if (status == STATUS_OK) {
            printf("puback packet_id=%u reason=%u", puback.packet_id, puback.reason_code);
            print_text("reason_string", puback.reason_string);
        }
    } else if (frame->type == MQTT_DISCONNECT) {
        status = mqtt_read_disconnect(frame, version, &disconnect, fault);
        if (status == STATUS_OK) {
            printf("disconnect reason=%u", disconnect.reason_code);
            print_text("reason_string", disconnect.reason_string);
            print_text("server_reference", disconnect.server_reference);
        }
    } else {
        printf("pingresp");
    }
    return status;
}

static void do_read(const struct command *command)
{
    enum mqtt_version version = (enum mqtt_version)number(command, "version");
    struct mqtt_frame frame;
    struct mqtt_fault fault = {"", ""};
    enum status status = mqtt_next_frame(octets(command, "packet"), MAX_PACKET, &frame, &fault);
    if (status == STATUS_OK)
        status = print_body(&frame, version, &fault);
    if (status == STATUS_AGAIN)
        printf("again");
    else if (status == STATUS_TOO_LARGE)
        printf("too large");
    else if (status != STATUS_OK)
        printf("malformed %s: %s", fault.clause, fault.what);
    printf("\n");
}

static void do_line(char *line, uint8_t *memory)
{
    struct command command;
    const char *verb = split(line, &command);
    struct writer w = writer_over(memory, MAX_PACKET);
    if (strcmp(verb, "connect") == 0) {
        do_connect(&command, &w);
    } else if (strcmp(verb, "publish") == 0) {
        do_publish(&command, &w);
    } else if (strcmp(verb, "pingreq") == 0) {
        mqtt_put_pingreq(&w);
        print_packet(&w);
    } else if (strcmp(verb, "disconnect") == 0) {
        mqtt_put_disconnect(&w, (enum mqtt_version)number(&command, "version"),
                            (uint8_t)number(&command, "reason"));
        print_packet(&w);
    } else if (strcmp(verb, "read") == 0) {
        do_read(&command);
    } else if (strcmp(verb, "topic") == 0) {
        const char *fault = mqtt_topic_fault(octets(&command, "prefix"), octets(&command, "topic"));
        printf("%s\n", fault ? fault : "valid");
    } else if (strcmp(verb, "utf8") == 0) {
        printf("%s\n", mqtt_utf8_valid(octets(&command, "text")) ? "valid" : "not valid");
    } else {
        fail("unknown command");
    }
}

int main(void)
{
    uint8_t *memory = malloc(MAX_PACKET);
    char *line = NULL;
    size_t capacity = 0;
    if (!memory)
        fail("out of memory");
    while (getline(&line, &capacity, stdin) > 0) {
        do_line(line, memory);
        fflush(stdout);
    }
    free(line);
    free(memory);
    return 0;
}
