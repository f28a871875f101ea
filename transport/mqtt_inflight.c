/*
 * One ring of publishes, oldest first. A publish of QoS 0 takes a packet identifier too, which
 * never reaches the wire: so the identifier of every publish is that of the oldest plus its
 * distance (modulo 65,535, as 0 is no identifier [MQTT-2.2.1-3]), and a PUBACK needs no search.
 *
 *     head .. cursor  acknowledged or QoS 0      cursor .. head + count  the rest
 *
 * cursor is the oldest unacknowledged publish of QoS 1; it only moves forward.
 */
#include "transport/mqtt_inflight.h"

#include <assert.h>
#include <stdlib.h>

#define IDENTIFIERS 65535u

/* Publishes of QoS 0 need no PUBACK: a small window must not be their limit. */
#define LEAST_CAPACITY 1024u

enum publish_state { UNACKNOWLEDGED, ACKNOWLEDGED, QOS0 };

struct publish {
    uint64_t token;
    uint64_t stamp; /* when it was added; QoS 0: where its bytes end in the connection's output */
    enum publish_state state;
    uint8_t reason_code; /* ACKNOWLEDGED */
};

struct mqtt_inflight {
    size_t window;
    size_t window_max;
    size_t mask;     /* slots - 1; slots is a power of two, so that a position wraps by masking */
    size_t capacity; /* at most IDENTIFIERS, or two publishes would share one */
    size_t head;
    size_t count;
    size_t cursor; /* a position; meaningful while unacknowledged > 0 */
    size_t unacknowledged;
    uint32_t head_id; /* 1 to 65535 */
    bool has_settled_qos0;
    struct publish ring[];
};

struct mqtt_inflight *mqtt_inflight_new(uint16_t window)
{
    assert(window > 0);
    size_t slots = LEAST_CAPACITY;
    while (slots < window)
        slots *= 2;
    struct mqtt_inflight *inflight = malloc(sizeof(*inflight) + slots * sizeof(inflight->ring[0]));
    if (!inflight)
        return NULL;
    inflight->window_max = window;
    inflight->mask = slots - 1;
    inflight->capacity = slots < IDENTIFIERS ? slots : IDENTIFIERS;
    mqtt_inflight_reset(inflight, window);
    return inflight;
}

void mqtt_inflight_free(struct mqtt_inflight *inflight)
{
    free(inflight);
}

void mqtt_inflight_reset(struct mqtt_inflight *inflight, uint16_t window)
{
    assert(window > 0 && window <= inflight->window_max);
    inflight->window = window;
    inflight->head = 0;
    inflight->count = 0;
    inflight->cursor = 0;
    inflight->unacknowledged = 0;
    inflight->head_id = 1;
    inflight->has_settled_qos0 = false;
}

size_t mqtt_inflight_unacknowledged(const struct mqtt_inflight *inflight)
{
    return inflight->unacknowledged;
}

size_t mqtt_inflight_unsettled(const struct mqtt_inflight *inflight)
{
    return inflight->count;
}

size_t mqtt_inflight_room(const struct mqtt_inflight *inflight)
{
    size_t window_left = inflight->window - inflight->unacknowledged;
    size_t ring_left = inflight->capacity - inflight->count;
    return window_left < ring_left ? window_left : ring_left;
}

static struct publish *at(struct mqtt_inflight *inflight, size_t position)
{
    return &inflight->ring[position & inflight->mask];
}

static struct publish *append(struct mqtt_inflight *inflight)
{
    assert(mqtt_inflight_room(inflight) > 0);
    return at(inflight, inflight->head + inflight->count++);
}

uint16_t mqtt_inflight_add(struct mqtt_inflight *inflight, uint64_t token, uint64_t now_ms)
{
    size_t distance = inflight->count;
    *append(inflight) = (struct publish){token, now_ms, UNACKNOWLEDGED, 0};
    if (inflight->unacknowledged++ == 0)
        inflight->cursor = inflight->head + distance;
    return (uint16_t)((inflight->head_id - 1 + distance) % IDENTIFIERS + 1);
}

void mqtt_inflight_add_qos0(struct mqtt_inflight *inflight, uint64_t token, uint64_t written_end)
{
    *append(inflight) = (struct publish){token, written_end, QOS0, 0};
}

/* Where the publish of QoS 1 lies that awaits a PUBACK with this identifier. */
static bool position_of(const struct mqtt_inflight *inflight, uint16_t packet_id, size_t *position)
{
    if (packet_id == 0)
        return false;
    size_t distance = (packet_id + IDENTIFIERS - inflight->head_id) % IDENTIFIERS;
    if (distance >= inflight->count)
        return false;
    *position = inflight->head + distance;
    return inflight->ring[*position & inflight->mask].state == UNACKNOWLEDGED;
}

bool mqtt_inflight_acknowledge(struct mqtt_inflight *inflight, uint16_t packet_id,
                               uint8_t reason_code)
{
    size_t position;
    if (!position_of(inflight, packet_id, &position))
        return false;
    at(inflight, position)->state = ACKNOWLEDGED;
    at(inflight, position)->reason_code = reason_code;
    if (--inflight->unacknowledged > 0 && position == inflight->cursor)
        while (at(inflight, inflight->cursor)->state != UNACKNOWLEDGED)
            inflight->cursor++;
    return true;
}

bool mqtt_inflight_settle(struct mqtt_inflight *inflight, uint64_t written, uint64_t *token,
                          uint8_t *reason_code)
{
    if (inflight->count == 0)
        return false;
    const struct publish *oldest = at(inflight, inflight->head);
    if (oldest->state == UNACKNOWLEDGED || (oldest->state == QOS0 && oldest->stamp > written))
        return false;
    if (oldest->state == QOS0 && oldest->stamp > 0)
        inflight->has_settled_qos0 = true;
    *token = oldest->token;
    *reason_code = oldest->reason_code;
    inflight->head++;
    inflight->count--;
    inflight->head_id = inflight->head_id % IDENTIFIERS + 1;
    return true;
}

bool mqtt_inflight_has_settled_qos0(const struct mqtt_inflight *inflight)
{
    return inflight->has_settled_qos0;
}

uint64_t mqtt_inflight_oldest_ms(const struct mqtt_inflight *inflight)
{
    return inflight->unacknowledged == 0 ? 0
                                         : inflight->ring[inflight->cursor & inflight->mask].stamp;
}
