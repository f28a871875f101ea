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
    mtype:at at;
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
    mtype:session session; /* for the broker; connecting: the CONNECT is unread */
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
    mtype:mode mode;
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
    mtype:lane lane;
    bit open;       /* all connections have been ready since the lease was taken */
    mtype:dial dial[CONNECTIONS];
    mtype:write writing; /* the lease was found valid and this is about to be written */
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

active proctype Redis()
{
    byte l, scan, mask;
end:
    do
    :: atomic {
        ANY_OF_8(SENT_TO_REDIS) ->
        CHOOSE_OF_8(l, SENT_TO_REDIS);
        printf("Redis reads on link %d of instance %d: %e\n", l, OWNER(l), link[l].at);
        if
        :: link[l].at == take -> run_take(l)
        :: link[l].at == kill -> run_kill(l)
        :: link[l].at == xack -> run_xack(l)
        :: link[l].at == history -> run_history(l)
        :: link[l].at == fresh -> run_fresh(l)
        fi;
        l = 0
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
        if
        :: connection[x].session == connecting ->
            printf("CONNECT of instance %d arrives\n", INSTANCE_OF(x));
            run_connect(x)
        :: else -> run_publish(x)
        fi;
        x = 0
    }
    od
}

/* ---- what an instance does ------------------------------------------------------------------ */

/* The instance gives a link up. A command that Redis has not read, or a parked read, may live on. */
inline let_go(l, killed_too)
{
    link[l].up = 0;
    link[l].fenced = 0;
    if
    :: link[l].alive && (link[l].at == take || link[l].at == kill || link[l].at == xack ||
                         link[l].at == fresh || link[l].at == parked) ->
        link[l].orphan = killed_too
    :: end_link(l)
    fi
}

inline let_go_of_role(i, r, killed_too)
{
    if
    :: link[LINK(i, r, 0)].up -> let_go(LINK(i, r, 0), killed_too)
    :: link[LINK(i, r, 1)].up -> let_go(LINK(i, r, 1), killed_too)
    :: else
    fi;
    /* One that was given up before the process died. */
    if
    :: killed_too && link[LINK(i, r, 0)].alive -> link[LINK(i, r, 0)].orphan = 1
    :: else
    fi;
    if
    :: killed_too && link[LINK(i, r, 1)].alive -> link[LINK(i, r, 1)].orphan = 1
    :: else
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
    :: !(connection[x].session == established && connection[x].unread != 0) ->
        connection[x].session = none
    fi
}

inline let_go_of_client(i, n)
{
    if
    :: connection[CONNECTION(i, n, 0)].up -> let_go_of_connection(CONNECTION(i, n, 0))
    :: connection[CONNECTION(i, n, 1)].up -> let_go_of_connection(CONNECTION(i, n, 1))
    :: else
    fi;
    instance[i].dial[n] = closed
}

/* All that is in memory is gone. */
inline forget_all(i, killed_too)
{
    let_go_of_role(i, READ, killed_too);
    let_go_of_role(i, WRITE, killed_too);
    let_go_of_client(i, 0);
#if CONNECTIONS == 2
    let_go_of_client(i, 1);
#endif
    instance[i].valid = 0;
    instance[i].was_held = 0;
    instance[i].was_fresh = 0;
    instance[i].term = 0;
    instance[i].memory = 0;
    instance[i].sent = 0;
    instance[i].owed = 0;
    instance[i].known = 0;
    instance[i].next = 0;
    instance[i].lane = not_begun;
    instance[i].open = 0;
    instance[i].writing = nothing
}

/* slot.c, lose and slot_start_over */
inline start_over(i)
{
    printf("instance %d starts over\n", i);
    forget_all(i, 0);
    instance[i].mode = waiting
}

/* Opens a link and sends the lease script, which is its first command. */
inline open_link(i, r)
{
    l = (link[LINK(i, r, 0)].alive -> LINK(i, r, 1) : LINK(i, r, 0));
    printf("instance %d opens link %d (%d: 0 reads, 1 writes) and takes the lease\n", i, l, r);
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
    link[l].set = (link[LINK(i, 1 - (r), 0)].up -> BIT(LINK(i, 1 - (r), 0)) :
                   (link[LINK(i, 1 - (r), 1)].up -> BIT(LINK(i, 1 - (r), 1)) : 0));
    l = 0
}

#define IS_WITHOUT(i, r) (!link[LINK(i, r, 0)].up && !link[LINK(i, r, 1)].up && \
                          !(link[LINK(i, r, 0)].alive && link[LINK(i, r, 1)].alive))
/* One that waits asks only when it would be granted: a refusal changes nothing. */
#define WANTS_WRITE_LINK(i) (instance[i].mode == held || (instance[i].mode == waiting && \
    (holder == NOBODY || holder == i || expired) && (term > 0 || i == 0)))

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
    :: instance[i].was_fresh && instance[i].mode == held -> start_over(i)
    :: else ->
        instance[i].was_fresh = 0;
        link[l].fenced = 1;
        link[l].at = idle;
        link[l].set = 0;
        if
        :: l == LINK(i, WRITE, 0) || l == LINK(i, WRITE, 1) ->
            if
            :: instance[i].mode == waiting ->
                printf("instance %d owns the slot\n", i);
                instance[i].mode = held;
                instance[i].dial[0] = backoff;
#if CONNECTIONS == 2
                instance[i].dial[1] = backoff;
#endif
            :: else
            fi
        :: else ->
            instance[i].lane = reading_history;
            instance[i].known = instance[i].memory;
            instance[i].next = 0
        fi
    fi
}

/* lease.c, on_take. The clock is not modelled but what it is to give: valid implies that Redis
 * has not let anybody else in. */
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
    :: else -> granted(i, l)
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
    :: link[l].at == refused ->
        if
        :: instance[i].mode == held -> start_over(i)
        :: else -> let_go(l, 0)
        fi
    :: link[l].at == taken || link[l].at == confirmed -> hear_grant(i, l)
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
    fi
}

#define HAS_ANSWER(l) (link[l].up && (link[l].at == refused || link[l].at == taken || \
                       link[l].at == confirmed || link[l].at == killed || link[l].at == xacked || \
                       link[l].at == page || link[l].at == entry))
#define HAS_ENDED(l) (link[l].up && !link[l].alive)
#define CAN_SEND(l) (link[l].up && link[l].fenced && link[l].at == idle)
#define OWN_ANY(i, condition) (condition(LINK(i, READ, 0)) || condition(LINK(i, READ, 1)) || \
                               condition(LINK(i, WRITE, 0)) || condition(LINK(i, WRITE, 1)))

#define CHOOSE_OWN(i, l, condition) \
    if \
    :: condition(LINK(i, READ, 0)) -> l = LINK(i, READ, 0) \
    :: condition(LINK(i, READ, 1)) -> l = LINK(i, READ, 1) \
    :: condition(LINK(i, WRITE, 0)) -> l = LINK(i, WRITE, 0) \
    :: condition(LINK(i, WRITE, 1)) -> l = LINK(i, WRITE, 1) \
    fi

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
#define CAN_XACK(i) (instance[i].owed != 0 && \
                     (CAN_SEND(LINK(i, WRITE, 0)) || CAN_SEND(LINK(i, WRITE, 1))))
#define CAN_READ(i) (CAN_SEND(LINK(i, READ, 0)) || CAN_SEND(LINK(i, READ, 1)))

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
    :: connection[x].session == established -> connection[x].unread = connection[x].unread | BIT(e)
    :: else
    fi;
    x = 0;
    e = 0
}

inline send_xack(i)
{
    l = (link[LINK(i, WRITE, 0)].up -> LINK(i, WRITE, 0) : LINK(i, WRITE, 1));
    printf("instance %d writes XACK of the set %d\n", i, instance[i].owed);
    link[l].set = instance[i].owed;
    send(l, xack);
    l = 0
}

inline send_read(i)
{
    l = (link[LINK(i, READ, 0)].up -> LINK(i, READ, 0) : LINK(i, READ, 1));
    if
    :: instance[i].lane == reading_history ->
        printf("instance %d asks for its history from %d on\n", i, instance[i].next);
        link[l].set = instance[i].next;
        send(l, history)
#ifdef NO_HISTORY_FIRST
    :: true -> send(l, fresh)
#else
    :: instance[i].lane == live ->
        printf("instance %d asks for new entries\n", i);
        send(l, fresh)
#endif
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
#define IS_THROWN_OUT(i, n) (instance[i].dial[n] == dialled && \
                             connection[PRESENT(i, n)].session == none)

inline hear_connack(i, n)
{
    printf("instance %d reads CONNACK\n", i);
    connection[PRESENT(i, n)].connack = 0;
    connection[PRESENT(i, n)].ready = 1;
    if
    :: connection[PRESENT(i, 0)].ready && connection[PRESENT(i, CONNECTIONS - 1)].ready ->
        instance[i].open = 1
    :: else
    fi
}

inline hear_puback(i, n)
{
    e = LOWEST(connection[PRESENT(i, n)].pubacks);
    printf("instance %d reads PUBACK of entry %d\n", i, e);
    connection[PRESENT(i, n)].pubacks = connection[PRESENT(i, n)].pubacks & ~BIT(e);
    puback_received = puback_received | BIT(e);
    instance[i].sent = instance[i].sent & ~BIT(e);
    instance[i].owed = instance[i].owed | BIT(e);
    e = 0
}

/* flow.c, on_lost: what is unsettled is to be sent again; the connection comes back by itself only
 * while the lease is valid. */
inline lose_connection(i, n)
{
    x = PRESENT(i, n);
    let_go_of_connection(x);
    x = 0;
    instance[i].sent = instance[i].sent & ~OF_CONNECTION(n);
    instance[i].dial[n] = (MAY_WRITE(i) -> backoff : closed)
}

proctype Run(byte i)
{
    byte l, x, e, scan;
end:
    do
    /* -- the Redis links */
    :: atomic { instance[i].writing == nothing && IS_WITHOUT(i, WRITE) && WANTS_WRITE_LINK(i) ->
        open_link(i, WRITE) }
    :: atomic { instance[i].writing == nothing && IS_WITHOUT(i, READ) && instance[i].mode == held ->
        open_link(i, READ) }
    :: atomic { instance[i].writing == nothing && OWN_ANY(i, HAS_ANSWER) ->
        CHOOSE_OWN(i, l, HAS_ANSWER);
        hear(i, l);
        l = 0 }
    :: atomic { instance[i].writing == nothing && OWN_ANY(i, HAS_ENDED) ->
        CHOOSE_OWN(i, l, HAS_ENDED);
        printf("instance %d finds link %d closed\n", i, l);
        let_go(l, 0);
        l = 0 }
    /* lease.c, renew_script: only the holder extends. */
    :: atomic { instance[i].writing == nothing && instance[i].mode == held && !instance[i].valid &&
        ((link[LINK(i, WRITE, 0)].fenced && link[LINK(i, WRITE, 0)].alive) ||
         (link[LINK(i, WRITE, 1)].fenced && link[LINK(i, WRITE, 1)].alive)) ->
        printf("instance %d renews\n", i);
        if
        :: holder == i -> instance[i].valid = 1; expired = 0
        :: else -> start_over(i)
        fi }

    /* -- the connections */
#define CONNECTION_STEPS(n) \
    :: atomic { instance[i].writing == nothing && CAN_CONNECT(i, n) -> write_connect(i, n) } \
    :: atomic { instance[i].writing == nothing && HAS_CONNACK(i, n) -> hear_connack(i, n) } \
    :: atomic { instance[i].writing == nothing && HAS_PUBACK(i, n) -> hear_puback(i, n) } \
    :: atomic { instance[i].writing == nothing && IS_THROWN_OUT(i, n) -> lose_connection(i, n) } \
    :: atomic { instance[i].writing == nothing && instance[i].mode == held && \
                instance[i].dial[n] == closed && MAY_WRITE(i) -> instance[i].dial[n] = backoff }

    CONNECTION_STEPS(0)
#if CONNECTIONS == 2
    CONNECTION_STEPS(1)
#endif

    /* -- a turn: the lease is looked at, and then something is written (slot.c, slot_turn). That
     * may be long after. */
    :: atomic { instance[i].writing == nothing && instance[i].mode == held && MAY_WRITE(i) &&
        CAN_PUBLISH(i, 0) -> instance[i].writing = a_publish }
#if CONNECTIONS == 2
    :: atomic { instance[i].writing == nothing && instance[i].mode == held && MAY_WRITE(i) &&
        CAN_PUBLISH(i, 1) -> instance[i].writing = another_publish }
#endif
    :: atomic { instance[i].writing == nothing && instance[i].mode == held && MAY_WRITE(i) &&
        CAN_XACK(i) -> instance[i].writing = an_xack }
    :: atomic { instance[i].writing == nothing && instance[i].mode == held && MAY_WRITE(i) &&
        CAN_READ(i) -> instance[i].writing = a_read }

    :: atomic { instance[i].writing == a_publish -> publish(i, 0); instance[i].writing = nothing }
#if CONNECTIONS == 2
    :: atomic { instance[i].writing == another_publish ->
        publish(i, 1); instance[i].writing = nothing }
#endif
    :: atomic { instance[i].writing == an_xack -> send_xack(i); instance[i].writing = nothing }
    :: atomic { instance[i].writing == a_read -> send_read(i); instance[i].writing = nothing }

    :: atomic { instance[i].mode == dead && !instance[i].for_good ->
        printf("instance %d is started again\n", i);
        instance[i].mode = waiting }
    od
}

/* ---- faults --------------------------------------------------------------------------------- */

/* Any link, connection or process, at any time, as long as the budget lasts. */
#define CAN_LOSE(l) (link[l].up && link[l].alive && instance[OWNER(l)].writing == nothing)

inline kill_process(i)
{
    faults--;
    printf("instance %d is killed\n", i);
    forget_all(i, 1);
    instance[i].mode = dead;
    if
    :: holder == i -> holder = A_DEAD_ONE
    :: else
    fi;
    if
    :: !instance[1 - i].for_good -> instance[i].for_good = 1
    :: true
    fi
}

active proctype Faults()
{
    byte l, x;
end:
    do
    :: atomic { faults > 0 && ANY_OF_8(CAN_LOSE) ->
        faults--;
        CHOOSE_OF_8(l, CAN_LOSE);
        printf("link %d is lost\n", l);
        let_go(l, 0);
        l = 0 }
#define LOSE_CONNECTION(i, n) \
    :: atomic { faults > 0 && instance[i].dial[n] == dialled && instance[i].writing == nothing && \
                connection[PRESENT(i, n)].session != none -> \
        faults--; \
        printf("the connection of instance %d is lost\n", i); \
        lose_connection(i, n) }
    LOSE_CONNECTION(0, 0)
    LOSE_CONNECTION(1, 0)
#if CONNECTIONS == 2
    LOSE_CONNECTION(0, 1)
    LOSE_CONNECTION(1, 1)
#endif
    :: atomic { faults > 0 && instance[0].mode != dead -> kill_process(0) }
    :: atomic { faults > 0 && instance[1].mode != dead -> kill_process(1) }
    /* Paused beyond its deadline, or cut off from Redis for so long. */
    :: atomic { faults > 0 && instance[0].valid -> faults--; instance[0].valid = 0;
        printf("the deadline of instance 0 passes\n") }
    :: atomic { faults > 0 && instance[1].valid -> faults--; instance[1].valid = 0;
        printf("the deadline of instance 1 passes\n") }
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

init
{
    byte x;
    atomic {
        instance[0].mode = waiting;
        instance[1].mode = waiting;
        for (x : 0 .. LINKS - 1) {
            link[x].at = idle
        }
        for (x : 0 .. CONNECTION_COUNT - 1) {
            connection[x].session = none
        }
        instance[0].lane = not_begun;
        instance[1].lane = not_begun;
        instance[0].writing = nothing;
        instance[1].writing = nothing;
        for (x : 0 .. CONNECTIONS - 1) {
            instance[0].dial[x] = closed;
            instance[1].dial[x] = closed
        }
        x = 0;
        run Run(0);
        run Run(1)
    }
}
