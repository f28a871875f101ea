/*
 * The in-flight window of one MQTT connection: a ring in the order of publishing. Packet
 * identifiers follow the order, so that a PUBACK finds its publish by subtraction: every operation
 * is O(1). Publishes settle in the order in which they were sent, whatever order their PUBACKs come
 * in
 * ([MQTT-4.6.0-2] asks the broker for that order; a broker that breaks it must not break ours).
 * No I/O, no time, no thread.
 */
#ifndef NEMOGATE_TRANSPORT_MQTT_INFLIGHT_H
#define NEMOGATE_TRANSPORT_MQTT_INFLIGHT_H

#include "codec/bytes.h"
#include "codec/status.h"

struct mqtt_inflight;

/* window: 1 to 65535 publishes of QoS 1 unacknowledged at a time. Owned; NULL: memory is short. */
struct mqtt_inflight *mqtt_inflight_new(uint16_t window);
void mqtt_inflight_free(struct mqtt_inflight *inflight);

/* Forgets everything and starts with packet identifier 1 and this window (at most the one given to
 * mqtt_inflight_new). */
void mqtt_inflight_reset(struct mqtt_inflight *inflight, uint16_t window);

/* Publishes of QoS 1 without their PUBACK. */
size_t mqtt_inflight_unacknowledged(const struct mqtt_inflight *inflight);
/* Publishes that have not settled yet, QoS 0 included. */
size_t mqtt_inflight_unsettled(const struct mqtt_inflight *inflight);
/* How many more publishes may be added now. */
size_t mqtt_inflight_room(const struct mqtt_inflight *inflight);

/* Adds a publish of QoS 1 at the end and returns its packet identifier (1 to 65535). There must be
 * room. now_ms is kept for mqtt_inflight_oldest_ms. */
uint16_t mqtt_inflight_add(struct mqtt_inflight *inflight, uint64_t token, uint64_t now_ms);
/* Adds one of QoS 0: it settles when written_end bytes of the connection have left the process and
 * everything before it has settled. written_end 0: it has no bytes and only takes its place in the
 * order. There must be room. */
void mqtt_inflight_add_qos0(struct mqtt_inflight *inflight, uint64_t token, uint64_t written_end);

/* Marks a publish as answered with a PUBACK's reason code. false: no publish in flight has this
 * identifier, or it is answered already. */
MUST_CHECK bool mqtt_inflight_acknowledge(struct mqtt_inflight *inflight, uint16_t packet_id,
                                          uint8_t reason_code);

/* Takes the oldest publish when it is answered, or of QoS 0 and written; written is what has left
 * the connection so far. reason_code is that of its PUBACK, and 0 for QoS 0. */
bool mqtt_inflight_settle(struct mqtt_inflight *inflight, uint64_t written, uint64_t *token,
                          uint8_t *reason_code);

/* Since the last reset a publish of QoS 0 that has bytes has settled. */
bool mqtt_inflight_has_settled_qos0(const struct mqtt_inflight *inflight);

/* When the oldest unacknowledged publish of QoS 1 was added; 0 when there is none. */
uint64_t mqtt_inflight_oldest_ms(const struct mqtt_inflight *inflight);

#endif
