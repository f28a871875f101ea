/*
 * The life of a slot among two instances, as a model for Spin: lease, fences, history, what is in
 * flight, XACK, and owners that were paused and come back. It is checked by run.sh, which also
 * checks that it bites: each fence taken away must break a guarantee. README.md says how to read it
 * and what is left out.
 *
 * Every step of a process is atomic, and between two steps any time may pass. A paused process is
 * one whose next step is late; nothing else is needed to make a zombie.
 */

/* ---- size and mutations, set by run.sh ------------------------------------------------------ */

#ifndef ENTRIES
#define ENTRIES 3 /* of the stream, numbered from 0; at most 4. Even ones have key 0, odd ones 1 */
#endif
#ifndef AT_START
#define AT_START 1 /* entries in the stream before anybody begins; the others come at any time */
#endif
#ifndef FAULTS
#define FAULTS 3 /* kills, losses and expiries, together */
#endif
#ifndef CONNECTIONS
#define CONNECTIONS 1 /* of a slot to the broker, 1 or 2; with 2 each key has its own */
#endif
#ifndef PROPERTY
#define PROPERTY 0 /* the one that is checked; 0: all */
#endif

#define NOBODY 2    /* as the holder of the lease */
#define A_DEAD_ONE 3 /* the holder was a process that is gone: a new process has a new name */

/* ---- sets of entries are masks -------------------------------------------------------------- */

#define BIT(n) (1 << (n))
#define ALL ((1 << ENTRIES) - 1)
#define LOWEST(set) (((set) & 1) -> 0 : (((set) & 2) -> 1 : (((set) & 4) -> 2 : 3)))
#define KEY(entry) ((entry) & 1)
#define OF_KEY(key) ((key) == 0 -> 5 : 10)
#define BEFORE(entry) (BIT(entry) - 1)
#define NEWEST_OF(key, set) (((set) & OF_KEY(key) & 8) -> 3 : (((set) & OF_KEY(key) & 4) -> 2 : \
                            (((set) & OF_KEY(key) & 2) -> 1 : 0)))

/* ---- the four properties -------------------------------------------------------------------- */

#if PROPERTY == 0 || PROPERTY == 1
#define ACKED_ONLY_AFTER_PUBACK(condition) assert(condition)
#else
#define ACKED_ONLY_AFTER_PUBACK(condition) skip
#endif
#if PROPERTY == 0 || PROPERTY == 2
#define NONE_FORGOTTEN(condition) assert(condition)
#else
#define NONE_FORGOTTEN(condition) skip
#endif
#if PROPERTY == 0 || PROPERTY == 3
#define ORDER_KEPT(condition) assert(condition)
#else
#define ORDER_KEPT(condition) skip
#endif
#if PROPERTY == 0 || PROPERTY == 4
#define RETAINED_TRUE(condition) assert(condition)
#else
#define RETAINED_TRUE(condition) skip
#endif

/* ---- Redis ---------------------------------------------------------------------------------- */

byte added = AT_START; /* entries in the stream */
byte delivered;        /* the group's last-delivered-id: the first so many entries */
byte pending;          /* the pending entries list; there is one consumer, named after the slot */

byte holder = NOBODY;
bit expired;  /* the lease's deadline has passed on Redis' clock */
byte term;    /* counts how often the holder has changed */

/* What a connection to Redis carries. One command at a time is under way, so that one word tells
 * where it is: unread by Redis, or its answer unread by the instance. */
mtype:at = {
    idle,
    take,     /* the lease script, unread by Redis; set: the own other link */
    refused,  /* its answers */
    taken,    /* ... the holder has changed; set: links to kill */
    confirmed,/* ... the holder was this process already; set: links to kill */
    kill,     /* CLIENT KILL of the set */
    killed,
    xack,     /* of the set */
    xacked,
    history,  /* XREADGROUP of pending entries; set: the number of the first that is wanted */
    page,     /* set: the entry's number and 1, or 0: there are no more */
    fresh,    /* XREADGROUP > */
    parked,   /* it waits in Redis (BLOCK) */
    entry,    /* set: the entry's number and 1 */
    gone      /* the command went into a connection that Redis had closed */
}

typedef Link {
    mtype:at at = idle;
    byte set;
    unsigned term : 4; /* in the answer to take */
    bit up;            /* for the instance: its present link */
    bit alive;         /* for Redis: it will read what is in the socket */
    bit recorded;      /* in the lease's record */
    bit fenced;        /* for the instance: granted, and former links are closed */
    bit orphan;        /* its process was killed */
}

/* The links of instance i in role r: two places, so that one that was given up may live on in Redis
 * with a command unread or a read parked while the next one is used. */
#define READ 0
#define WRITE 1
#define LINKS 8
#define LINK(i, r, place) ((i) * 4 + (r) * 2 + (place))
#define OWNER(l) ((l) / 4)
Link link[LINKS];

#define SENT_TO_REDIS(l) (link[l].alive && (link[l].at == take || link[l].at == kill || \
                          link[l].at == xack || link[l].at == history || link[l].at == fresh))
#define SERVED(l) (link[l].alive && link[l].at == parked)

/* ---- the broker ----------------------------------------------------------------------------- */

mtype:session = {none, connecting, established};

typedef Connection {
    mtype:session session = none; /* for the broker; connecting: the CONNECT is unread */
    byte unread;           /* publishes that the broker has not read; on one connection they are in
                              the order of the stream */
    byte pubacks;          /* that the instance has not read */
    bit up;                /* for the instance: its present connection */
    bit connack;           /* not read by the instance */
    bit ready;             /* for the instance: the CONNACK was read */
}

#define CONNECTION(i, n, place) (((i) * CONNECTIONS + (n)) * 2 + (place))
#define CONNECTION_COUNT (4 * CONNECTIONS)
Connection connection[CONNECTION_COUNT];

#define CLIENT_ID(x) (((x) / 2) % CONNECTIONS)
#define INSTANCE_OF(x) ((x) / (2 * CONNECTIONS))
#if CONNECTIONS == 1
#define OF_CONNECTION(n) 15
#else
#define OF_CONNECTION(n) OF_KEY(n)
#endif
#define HAS_INPUT(x) (connection[x].session == connecting || \
                      (connection[x].session == established && connection[x].unread != 0))

byte seen;        /* entries that have arrived at least once: the record without duplicates */
byte retained[2]; /* by key: the number of the entry that arrived last, and 1 */

/* ---- instances ------------------------------------------------------------------------------ */

mtype:mode = {dead, waiting, held};
mtype:lane = {not_begun, reading_history, live};
mtype:dial = {closed, backoff, dialled};
mtype:write = {nothing, a_publish, another_publish, an_xack, a_read};

typedef Instance {
    mtype:mode mode = waiting;
    bit for_good;   /* dead: it is not started again */
    bit valid;      /* its own view: the lease was granted and its deadline lies ahead */
    bit was_held;   /* lease.held */
    bit was_fresh;  /* lease.fresh */
    unsigned term : 4; /* the last one that it was told */
    byte memory;    /* the ledger: entries that were read and whose XACK was not answered */
    byte sent;      /* of those: published on the present connection */
    byte owed;      /* of those: PUBACK received */
    byte known;     /* those in memory when the history began */
    byte next;      /* the history's cursor */
    mtype:lane lane = not_begun;
    bit open;       /* all connections have been ready since the lease was taken */
    mtype:dial dial[CONNECTIONS] = closed;
    mtype:write writing = nothing; /* the lease was found valid and this is about to be written */
}
Instance instance[2];

byte puback_received; /* entries of which some instance has read a PUBACK */
byte faults = FAULTS;

#define WAITING_TO_BE_SENT(i) (instance[i].memory & ~instance[i].sent & ~instance[i].owed)

/* ---- what Redis does ------------------------------------------------------------------------ */

/* The connection ends at Redis: what it had not read is not read any more. An answer that was sent
 * may still be read by the instance. */
inline end_link(l)
{
    link[l].alive = 0;
    link[l].recorded = 0;
    link[l].orphan = 0;
    if
    :: !link[l].up -> link[l].at = idle; link[l].set = 0; link[l].term = 0
    :: link[l].up && (link[l].at == take || link[l].at == kill || link[l].at == xack ||
                      link[l].at == history || link[l].at == fresh || link[l].at == parked) ->
        link[l].at = gone; link[l].set = 0
    :: else
    fi
}

inline answer(l, what)
{
    link[l].at = what;
    if
    :: !link[l].up -> end_link(l) /* nobody hears it */
    :: else
    fi
}

inline recorded_links(l, kills)
{
    kills = 0;
    for (scan : 0 .. LINKS - 1) {
        if
        :: link[scan].recorded && scan != l && (link[l].set & BIT(scan)) == 0 ->
            kills = kills | BIT(scan)
        :: else
        fi
    }
    scan = 0
}

/* lease.c, take_script */
inline run_take(l)
{
    if
    :: holder != NOBODY && (holder != OWNER(l) || link[l].orphan) && !expired ->
        link[l].set = 0;
        answer(l, refused)
    :: else ->
        recorded_links(l, mask);
#ifdef NO_KILL
        mask = 0;
#endif
        link[l].recorded = 1;
        link[l].set = mask;
        mask = 0;
        expired = 0;
        if
        :: holder == OWNER(l) && !link[l].orphan ->
            link[l].term = term;
            answer(l, confirmed)
        :: else ->
            term++;
            holder = (link[l].orphan -> A_DEAD_ONE : OWNER(l));
            link[l].term = term;
            answer(l, taken)
        fi
    fi
}

inline run_kill(l)
{
    for (scan : 0 .. LINKS - 1) {
        if
        :: (link[l].set & BIT(scan)) != 0 && link[scan].alive -> end_link(scan)
        :: else
        fi
    }
    scan = 0;
    link[l].set = 0;
    answer(l, killed)
}

/* Root invariant: of each key the pending entries are a suffix of the delivered ones. */
#define NO_PENDING_BEFORE(e) ((pending & OF_KEY(KEY(e)) & BEFORE(e)) == 0)
#define IS_ACKED(e) ((e) < delivered && (pending & BIT(e)) == 0)
#define SUFFIX(e) (!IS_ACKED(e) || NO_PENDING_BEFORE(e))
/* Guarantee 9 at every moment: should everybody die now, a retained value that is not the newest
 * is made right by what is pending. */
#define MENDED(key, e) (!(KEY(e) == (key) && IS_ACKED(e) && retained[key] < (e) + 1))

inline check_acked()
{
    ORDER_KEPT(SUFFIX(0) && SUFFIX(1) && SUFFIX(2) && SUFFIX(3));
    RETAINED_TRUE(MENDED(0, 0) && MENDED(0, 2) && MENDED(1, 1) && MENDED(1, 3))
}

inline run_xack(l)
{
    ACKED_ONLY_AFTER_PUBACK((link[l].set & pending & ~puback_received) == 0);
    pending = pending & ~link[l].set;
    check_acked();
    answer(l, xacked)
}

inline run_history(l)
{
    mask = pending & ~BEFORE(link[l].set);
    link[l].set = (mask == 0 -> 0 : LOWEST(mask) + 1);
    mask = 0;
    answer(l, page)
}

inline deliver_to(l)
{
    pending = pending | BIT(delivered);
    delivered++;
    link[l].set = delivered;
    answer(l, entry)
}

inline run_fresh(l)
{
    if
    :: delivered < added -> deliver_to(l)
    :: else -> link[l].at = parked
    fi
}

#define ANY_OF_8(condition) (condition(0) || condition(1) || condition(2) || condition(3) || \
                             condition(4) || condition(5) || condition(6) || condition(7))

#define CHOOSE_OF_8(l, condition) \
    if \
    :: condition(0) -> l = 0 \
    :: condition(1) -> l = 1 \
    :: condition(2) -> l = 2 \
    :: condition(3) -> l = 3 \
    :: condition(4) -> l = 4 \
    :: condition(5) -> l = 5 \
    :: condition(6) -> l = 6 \
    :: condition(7) -> l = 7 \
    fi

/* A process that is about to be told of its grant would be paused for longer than the ttl. */
#define IS_TAKING(i) (instance[i].mode == waiting && \
                      (link[LINK(i, WRITE, 0)].up || link[LINK(i, WRITE, 1)].up))
#define MAY_RUN_OUT(i) (!instance[i].valid && (!IS_TAKING(i) || faults > 0))

/* ---- what the broker does ------------------------------------------------------------------- */

#ifdef NO_BROKER_FENCE
#define SAME_CLIENT(x, y) (CLIENT_ID(x) == CLIENT_ID(y) && INSTANCE_OF(x) == INSTANCE_OF(y))
#else
#define SAME_CLIENT(x, y) (CLIENT_ID(x) == CLIENT_ID(y))
#endif

/* [MQTT-3.1.4-3]: the older connection of the same client identifier is closed; what it sent and
 * the broker has not read is not read any more. */
inline run_connect(x)
{
    for (scan : 0 .. CONNECTION_COUNT - 1) {
        if
        :: scan != x && SAME_CLIENT(x, scan) && connection[scan].session == established ->
            connection[scan].session = none;
            connection[scan].unread = 0
        :: else
        fi
    }
    scan = 0;
    connection[x].session = (connection[x].up -> established : none);
    connection[x].connack = connection[x].up
}

inline run_publish(x)
{
    e = LOWEST(connection[x].unread);
    printf("publish of entry %d arrives from instance %d\n", e, INSTANCE_OF(x));
    connection[x].unread = connection[x].unread & ~BIT(e);
    ORDER_KEPT((seen & BIT(e)) != 0 || (OF_KEY(KEY(e)) & BEFORE(e) & ~seen) == 0);
    seen = seen | BIT(e);
    retained[KEY(e)] = e + 1;
    check_acked();
    if
    :: connection[x].up -> connection[x].pubacks = connection[x].pubacks | BIT(e)
    :: !connection[x].up && connection[x].unread == 0 -> connection[x].session = none
    :: else
    fi;
    e = 0
}

/* ---- what an instance does ------------------------------------------------------------------ */

#define FIRST(i) (4 * (i)) /* of its links */
#define IS_WRITE_LINK(l) (((l) & 2) != 0)
#define PRESENT_LINK(i, r) (link[LINK(i, r, 0)].up -> LINK(i, r, 0) : LINK(i, r, 1))

/* The instance gives a link up. A command that Redis has not read, or a parked read, may live on. */
inline let_go(l)
{
    link[l].up = 0;
    link[l].fenced = 0;
    if
    :: link[l].alive && (link[l].at == take || link[l].at == kill || link[l].at == xack ||
                         link[l].at == fresh || link[l].at == parked)
    :: end_link(l)
    fi
}

#define HIGHEST(set) (((set) & 8) -> 3 : (((set) & 4) -> 2 : (((set) & 2) -> 1 : 0)))

/* The instance gives a connection up. What it wrote may still arrive, all or the first of it. */
inline let_go_of_connection(x)
{
    connection[x].up = 0;
    connection[x].ready = 0;
    connection[x].connack = 0;
    connection[x].pubacks = 0;
    do
    :: connection[x].unread != 0 ->
        connection[x].unread = connection[x].unread & ~BIT(HIGHEST(connection[x].unread))
    :: break
    od;
    if
    :: connection[x].session == connecting
    :: connection[x].session == established && connection[x].unread != 0
    :: connection[x].session != established || connection[x].unread == 0 ->
        connection[x].session = none
    fi
}

/* Opens a link and sends the lease script, which is its first command. */
inline open_link(i, r)
{
    l = (link[LINK(i, r, 0)].alive -> LINK(i, r, 1) : LINK(i, r, 0));
    printf("instance %d opens link %d and takes the lease\n", i, l);
    /* Its number is new: nobody means this link by the old one. */
    for (scan : 0 .. LINKS - 1) {
        if
        :: link[scan].at == take || link[scan].at == taken || link[scan].at == confirmed ||
           link[scan].at == kill ->
            link[scan].set = link[scan].set & ~BIT(l)
        :: else
        fi
    }
    scan = 0;
    link[l].up = 1;
    link[l].alive = 1;
    link[l].at = take;
    scan = PRESENT_LINK(i, 1 - (r));
    link[l].set = (link[scan].up -> BIT(scan) : 0);
    scan = 0;
    l = 0
}

#define IS_WITHOUT(i, r) (!link[LINK(i, r, 0)].up && !link[LINK(i, r, 1)].up && \
                          !(link[LINK(i, r, 0)].alive && link[LINK(i, r, 1)].alive))
/* One that waits asks only when it would be granted: a refusal changes nothing. Of two that begin
 * alike instance 0 is the first. */
#define WANTS_WRITE_LINK(i) (instance[i].mode == held || (instance[i].mode == waiting && \
    (holder == NOBODY || holder == i || expired) && \
    (i == 0 || term > 0 || instance[0].for_good)))

/* On a link that Redis has closed nothing arrives. */
inline send(l, what)
{
    if
    :: link[l].alive -> link[l].at = what
    :: else -> link[l].at = gone; link[l].set = 0
    fi
}

/* slot.c, on_granted */
inline granted(i, l)
{
    if
    :: instance[i].was_fresh && instance[i].mode == held -> over = 1
    :: else ->
        instance[i].was_fresh = 0;
        link[l].fenced = 1;
        link[l].at = idle;
        link[l].set = 0;
        if
        :: IS_WRITE_LINK(l) && instance[i].mode == waiting ->
            printf("instance %d owns the slot\n", i);
            instance[i].mode = held;
            for (scan : 0 .. CONNECTIONS - 1) {
                instance[i].dial[scan] = backoff
            }
            scan = 0
        :: !IS_WRITE_LINK(l) ->
            instance[i].lane = reading_history;
            instance[i].known = instance[i].memory;
            instance[i].next = 0
        :: else
        fi
    fi
}

/* lease.c, on_take. Not the clock is modelled but what it is to give: valid implies that Redis has
 * not let anybody else in. */
inline hear_grant(i, l)
{
    instance[i].was_fresh = instance[i].was_fresh || !instance[i].was_held ||
#ifdef NO_TERM
        link[l].at == taken;
#else
        link[l].term != instance[i].term;
#endif
    instance[i].term = link[l].term;
    link[l].term = 0;
    instance[i].was_held = 1;
    instance[i].valid = holder == i && !expired && term == instance[i].term;
    if
    :: link[l].set != 0 -> send(l, kill)
    :: else -> link[l].at = killed
    fi
}

/* An entry goes to the end of the outbox. Sets stand for queues here because that end is also the
 * order of the stream. */
inline take_in(i, e)
{
#ifdef TRUE_PROTOCOL
    assert(instance[i].memory < BIT(e));
#endif
    instance[i].memory = instance[i].memory | BIT(e)
}

inline hear(i, l)
{
    printf("instance %d reads on link %d: %e\n", i, l, link[l].at);
    if
    :: link[l].at == taken || link[l].at == confirmed -> hear_grant(i, l)
    :: else
    fi;
    if
    :: link[l].at == refused -> over = 1
    :: link[l].at == killed -> granted(i, l)
    :: link[l].at == xacked ->
        instance[i].memory = instance[i].memory & ~link[l].set;
        instance[i].owed = instance[i].owed & ~link[l].set;
        link[l].at = idle;
        link[l].set = 0
    :: link[l].at == page ->
        instance[i].next = link[l].set;
        if
        :: link[l].set == 0 -> instance[i].lane = live; instance[i].known = 0
        :: link[l].set != 0 && (instance[i].known & BIT(link[l].set - 1)) == 0 ->
            take_in(i, link[l].set - 1)
        :: else
        fi;
        link[l].at = idle;
        link[l].set = 0
    :: link[l].at == entry ->
        take_in(i, link[l].set - 1);
        link[l].at = idle;
        link[l].set = 0
    :: else
    fi
}

#define CHOOSE_OWN(i, l, condition) \
    if \
    :: condition(FIRST(i)) -> l = FIRST(i) \
    :: condition(FIRST(i) + 1) -> l = FIRST(i) + 1 \
    :: condition(FIRST(i) + 2) -> l = FIRST(i) + 2 \
    :: condition(FIRST(i) + 3) -> l = FIRST(i) + 3 \
    fi
#define OWN_ANY(i, condition) (condition(FIRST(i)) || condition(FIRST(i) + 1) || \
                               condition(FIRST(i) + 2) || condition(FIRST(i) + 3))
#define HAS_ANSWER(l) (link[l].up && (link[l].at == refused || link[l].at == taken || \
                       link[l].at == confirmed || link[l].at == killed || link[l].at == xacked || \
                       link[l].at == page || link[l].at == entry))
/* Redis has closed it, or it is lost. */
#define MAY_END(l) (link[l].up && (!link[l].alive || faults > 0))
#define CAN_SEND(l) (link[l].up && link[l].fenced && link[l].at == idle)

#ifdef NO_CHECK
#define MAY_WRITE(i) true
#else
#define MAY_WRITE(i) instance[i].valid
#endif

#define PRESENT(i, n) (connection[CONNECTION(i, n, 0)].up -> CONNECTION(i, n, 0) : \
                                                             CONNECTION(i, n, 1))
#define CAN_CONNECT(i, n) (instance[i].dial[n] == backoff && \
                           (connection[CONNECTION(i, n, 0)].session == none || \
                            connection[CONNECTION(i, n, 1)].session == none))
#define CAN_PUBLISH(i, n) (instance[i].open && connection[PRESENT(i, n)].ready && \
                           (WAITING_TO_BE_SENT(i) & OF_CONNECTION(n)) != 0)
#define CAN_XACK(i) (instance[i].owed != 0 && CAN_SEND(PRESENT_LINK(i, WRITE)))
#define CAN_READ(i) CAN_SEND(PRESENT_LINK(i, READ))

inline publish(i, n)
{
    x = PRESENT(i, n);
    e = LOWEST(WAITING_TO_BE_SENT(i) & OF_CONNECTION(n));
    printf("instance %d writes the publish of entry %d\n", i, e);
#ifdef XACK_EARLY
    instance[i].owed = instance[i].owed | BIT(e);
#else
    instance[i].sent = instance[i].sent | BIT(e);
#endif
    if
    :: connection[x].session == established ->
        connection[x].unread = connection[x].unread | BIT(e)
    :: else
    fi;
    x = 0;
    e = 0
}

inline send_xack(i)
{
    l = PRESENT_LINK(i, WRITE);
    printf("instance %d writes XACK of the set %d\n", i, instance[i].owed);
    link[l].set = instance[i].owed;
    send(l, xack);
    l = 0
}

inline send_read(i)
{
    l = PRESENT_LINK(i, READ);
    if
    :: instance[i].lane == reading_history ->
        printf("instance %d asks for its history from %d on\n", i, instance[i].next);
        link[l].set = instance[i].next;
        send(l, history)
#ifdef NO_HISTORY_FIRST
    :: true ->
#else
    :: instance[i].lane == live ->
#endif
        printf("instance %d asks for new entries\n", i);
        send(l, fresh)
    fi;
    l = 0
}

inline write_connect(i, n)
{
    x = (connection[CONNECTION(i, n, 0)].session == none -> CONNECTION(i, n, 0) :
                                                          CONNECTION(i, n, 1));
    printf("instance %d writes CONNECT\n", i);
    connection[x].up = 1;
    connection[x].session = connecting;
    instance[i].dial[n] = dialled;
    x = 0
}

#define HAS_CONNACK(i, n) (instance[i].dial[n] == dialled && connection[PRESENT(i, n)].connack)
#define HAS_PUBACK(i, n) (instance[i].dial[n] == dialled && connection[PRESENT(i, n)].pubacks != 0)
/* Thrown out by the broker, or lost. */
#define MAY_DISCONNECT(i, n) (instance[i].dial[n] == dialled && \
                              (connection[PRESENT(i, n)].session == none || faults > 0))

inline hear_connack(i, n)
{
    printf("instance %d reads CONNACK\n", i);
    x = PRESENT(i, n);
    connection[x].connack = 0;
    connection[x].ready = 1;
    if
    :: connection[PRESENT(i, 0)].ready && connection[PRESENT(i, CONNECTIONS - 1)].ready ->
        instance[i].open = 1
    :: else
    fi;
    x = 0
}

inline hear_puback(i, n)
{
    x = PRESENT(i, n);
    e = LOWEST(connection[x].pubacks);
    printf("instance %d reads PUBACK of entry %d\n", i, e);
    connection[x].pubacks = connection[x].pubacks & ~BIT(e);
    puback_received = puback_received | BIT(e);
    instance[i].sent = instance[i].sent & ~BIT(e);
    instance[i].owed = instance[i].owed | BIT(e);
    x = 0;
    e = 0
}

/* flow.c, on_lost: what is unsettled is to be sent again; the connection comes back by itself only
 * while the lease is valid. */
inline lose_connection(i, n)
{
    x = PRESENT(i, n);
    faults = faults - (connection[x].session != none);
    printf("instance %d loses its connection\n", i);
    let_go_of_connection(x);
    x = 0;
    instance[i].sent = instance[i].sent & ~OF_CONNECTION(n);
    instance[i].dial[n] = (MAY_WRITE(i) -> backoff : closed)
}

/* What takes place between two looks at the lease; nothing else comes between that look and the
 * writing. */
#define READY(i) (instance[i].writing == nothing)
#define OWNS(i) (READY(i) && instance[i].mode == held)

active [2] proctype Run()
{
    byte l, x, e, scan;
    bit over;
end:
    do
    /* -- the Redis links */
    :: d_step { READY(_pid) && IS_WITHOUT(_pid, WRITE) && WANTS_WRITE_LINK(_pid) ->
        open_link(_pid, WRITE) }
    :: d_step { OWNS(_pid) && IS_WITHOUT(_pid, READ) -> open_link(_pid, READ) }
    :: atomic { READY(_pid) && OWN_ANY(_pid, HAS_ANSWER) ->
        CHOOSE_OWN(_pid, l, HAS_ANSWER);
        d_step { hear(_pid, l); l = 0 };
        if
        :: over && instance[_pid].mode == waiting -> over = 0; goto give_up_waiting
        :: over && instance[_pid].mode != waiting -> goto start_over
        :: else
        fi }
    :: atomic { READY(_pid) && OWN_ANY(_pid, MAY_END) ->
        CHOOSE_OWN(_pid, l, MAY_END);
        printf("instance %d loses link %d\n", _pid, l);
        faults = faults - link[l].alive;
        let_go(l);
        l = 0 }
    /* lease.c, renew_script: only the holder extends. */
    :: atomic { OWNS(_pid) && !instance[_pid].valid && link[PRESENT_LINK(_pid, WRITE)].fenced &&
        link[PRESENT_LINK(_pid, WRITE)].alive ->
        printf("instance %d renews\n", _pid);
        if
        :: holder == _pid -> instance[_pid].valid = 1; expired = 0
        :: else -> goto start_over
        fi }

    /* -- the connections */
#define CONNECTION_STEPS(i, n) \
    :: d_step { READY(i) && CAN_CONNECT(i, n) -> write_connect(i, n) } \
    :: d_step { READY(i) && HAS_CONNACK(i, n) -> hear_connack(i, n) } \
    :: d_step { READY(i) && HAS_PUBACK(i, n) -> hear_puback(i, n) } \
    :: atomic { READY(i) && MAY_DISCONNECT(i, n) -> lose_connection(i, n) } \
    :: d_step { OWNS(i) && instance[i].dial[n] == closed && MAY_WRITE(i) -> \
        instance[i].dial[n] = backoff }

    CONNECTION_STEPS(_pid, 0)
#if CONNECTIONS == 2
    CONNECTION_STEPS(_pid, 1)
#endif

    /* -- a turn (slot.c, slot_turn): the lease is looked at, and then something is written. Between
     * the two the process may be paused. */
    :: d_step { OWNS(_pid) && MAY_WRITE(_pid) && CAN_PUBLISH(_pid, 0) ->
        instance[_pid].writing = a_publish }
    :: d_step { instance[_pid].writing == a_publish ->
        publish(_pid, 0); instance[_pid].writing = nothing }
#if CONNECTIONS == 2
    :: d_step { OWNS(_pid) && MAY_WRITE(_pid) && CAN_PUBLISH(_pid, 1) ->
        instance[_pid].writing = another_publish }
    :: d_step { instance[_pid].writing == another_publish ->
        publish(_pid, 1); instance[_pid].writing = nothing }
#endif
    :: d_step { OWNS(_pid) && MAY_WRITE(_pid) && CAN_XACK(_pid) ->
        instance[_pid].writing = an_xack }
    :: d_step { instance[_pid].writing == an_xack ->
        send_xack(_pid); instance[_pid].writing = nothing }
    :: d_step { OWNS(_pid) && MAY_WRITE(_pid) && CAN_READ(_pid) ->
        instance[_pid].writing = a_read }
    :: atomic { instance[_pid].writing == a_read ->
        send_read(_pid); instance[_pid].writing = nothing }

    /* -- faults: its own deadline passes, because it is paused or cut off from Redis; kill -9. Lost
     * links and connections are above. */
    :: d_step { faults > 0 && instance[_pid].valid ->
        faults--;
        printf("the deadline of instance %d passes\n", _pid);
        instance[_pid].valid = 0 }
    :: atomic { faults > 0 && instance[_pid].mode != dead ->
        faults--;
        printf("instance %d is killed\n", _pid);
        instance[_pid].mode = dead;
        if
        :: !instance[1 - _pid].for_good -> instance[_pid].for_good = 1
        :: true
        fi;
        goto start_over }
    :: d_step { instance[_pid].mode == dead && !instance[_pid].for_good ->
        printf("instance %d is started again\n", _pid);
        instance[_pid].mode = waiting }

    /* -- all that is in memory is forgotten: slot.c, lose and slot_start_over; or a process dies */
    :: atomic { false ->
start_over:
        printf("instance %d forgets all\n", _pid);
        d_step {
            over = 0;
            if
            :: instance[_pid].mode == held -> instance[_pid].mode = waiting
            :: else
            fi;
            if
            :: instance[_pid].mode == dead && holder == _pid -> holder = A_DEAD_ONE
            :: else
            fi;
            instance[_pid].valid = 0;
            instance[_pid].memory = 0;
            instance[_pid].sent = 0;
            instance[_pid].owed = 0;
            instance[_pid].known = 0;
            instance[_pid].next = 0;
            instance[_pid].lane = not_begun;
            instance[_pid].open = 0;
            instance[_pid].writing = nothing
        }
        x = CONNECTION(_pid, 0, 0);
        do
        :: x < CONNECTION(_pid + 1, 0, 0) ->
            if
            :: connection[x].up -> let_go_of_connection(x)
            :: else
            fi;
            instance[_pid].dial[CLIENT_ID(x)] = closed;
            x++
        :: else -> x = 0; break
        od;
give_up_waiting:
        printf("instance %d gives its links up\n", _pid);
        d_step {
            instance[_pid].was_held = 0;
            instance[_pid].was_fresh = 0;
            instance[_pid].term = 0
        }
        l = FIRST(_pid);
        do
        :: l < FIRST(_pid) + 4 ->
            if
            :: link[l].up -> let_go(l)
            :: else
            fi;
            link[l].orphan = link[l].alive && (link[l].orphan || instance[_pid].mode == dead);
            l++
        :: else -> l = 0; break
        od }
    od
}

/* ---- Redis and the broker at work ---- */

active proctype Redis()
{
    byte l, scan, mask;
end:
    do
    :: atomic {
        ANY_OF_8(SENT_TO_REDIS) ->
        CHOOSE_OF_8(l, SENT_TO_REDIS);
        printf("Redis reads on link %d of instance %d: %e\n", l, OWNER(l), link[l].at);
        d_step {
        if
        :: link[l].at == take -> run_take(l)
        :: link[l].at == kill -> run_kill(l)
        :: link[l].at == xack -> run_xack(l)
        :: link[l].at == history -> run_history(l)
        :: link[l].at == fresh -> run_fresh(l)
        fi;
        l = 0
        }
    }
    /* A producer adds an entry; a parked read gets it at once. */
    :: atomic {
        added < ENTRIES ->
        added++;
        printf("entry %d is added\n", added - 1);
        if
        :: ANY_OF_8(SERVED) ->
            CHOOSE_OF_8(l, SERVED);
            printf("... and goes to the read parked on link %d\n", l);
            deliver_to(l);
            l = 0
        :: else
        fi
    }
    /* Time passes. The owner's own deadline is the earlier one (lease.c, extend). */
    :: atomic {
        !expired && (holder == A_DEAD_ONE || (holder < NOBODY && MAY_RUN_OUT(holder))) ->
        if
        :: holder < NOBODY && IS_TAKING(holder) -> faults--
        :: else
        fi;
        expired = 1;
        printf("the lease of %d has expired in Redis\n", holder)
    }
    od
}

active proctype Broker()
{
    byte x, scan, e;
end:
    do
    :: atomic {
        HAS_INPUT(0) || HAS_INPUT(1) || HAS_INPUT(2) || HAS_INPUT(3)
#if CONNECTIONS == 2
        || HAS_INPUT(4) || HAS_INPUT(5) || HAS_INPUT(6) || HAS_INPUT(7)
#endif
        ->
        if
        :: HAS_INPUT(0) -> x = 0
        :: HAS_INPUT(1) -> x = 1
        :: HAS_INPUT(2) -> x = 2
        :: HAS_INPUT(3) -> x = 3
#if CONNECTIONS == 2
        :: HAS_INPUT(4) -> x = 4
        :: HAS_INPUT(5) -> x = 5
        :: HAS_INPUT(6) -> x = 6
        :: HAS_INPUT(7) -> x = 7
#endif
        fi;
        d_step {
        if
        :: connection[x].session == connecting ->
            printf("CONNECT of instance %d arrives\n", INSTANCE_OF(x));
            run_connect(x)
        :: else -> run_publish(x)
        fi;
        x = 0
        }
    }
    od
}

/* ---- the end -------------------------------------------------------------------------------- */

/* Nothing can happen any more: faults are spent and somebody lives. As no step can be repeated for
 * ever (run.sh, "no cycles"), every run ends here. */
active proctype Judge()
{
end:
    atomic {
        timeout ->
        NONE_FORGOTTEN(added == ENTRIES && delivered == added && pending == 0 && seen == ALL);
        RETAINED_TRUE(retained[0] == NEWEST_OF(0, seen) + 1);
        RETAINED_TRUE((seen & OF_KEY(1)) == 0 || retained[1] == NEWEST_OF(1, seen) + 1)
    }
}
