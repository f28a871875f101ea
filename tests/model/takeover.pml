/*
 * The life of a slot among two instances, as a model for Spin: lease, fences, history, what is in
 * flight, XACK, and owners that were paused and come back. run.sh checks it, and checks that it
 * bites: each fence taken away breaks a guarantee. README.md says how to read it and what it leaves
 * out.
 *
 * Every step of a process is atomic, and between two steps any time may pass: a paused process is
 * one whose next step comes late. What is written lies in a socket until the other side's step
 * reads it; so a process that is paused between its look at the lease and its writing is one whose
 * bytes lie there longer.
 */

/* ---- size and mutations, set by run.sh ------------------------------------------------------ */

#ifndef ENTRIES
#define ENTRIES 3 /* of the stream, numbered from 0; at most 4 */
#endif
#ifndef KEYS
#define KEYS 2 /* 1 or 2: even entries have key 0, odd ones key 1 */
#endif
#ifndef AT_START
#define AT_START (ENTRIES - 1) /* entries that are there before anybody begins */
#endif
#ifndef FAULTS
#define FAULTS 2 /* kills, losses and deadlines that pass, together */
#endif
#ifndef CONNECTIONS
#define CONNECTIONS 1 /* of a slot to the broker, 1 or 2; with 2 each key has its own */
#endif
#ifndef PROPERTY
#define PROPERTY 0 /* the one that is checked; 0: all */
#endif

/* ---- sets of entries are masks -------------------------------------------------------------- */

#define BIT(n) (1 << (n))
#define LOWEST(set) (((set) & 1) -> 0 : (((set) & 2) -> 1 : (((set) & 4) -> 2 : 3)))
#define HIGHEST(set) (((set) & 8) -> 3 : (((set) & 4) -> 2 : (((set) & 2) -> 1 : 0)))
#define BEFORE(entry) (BIT(entry) - 1)
#if KEYS == 2
#define KEY(entry) ((entry) & 1)
#define OF_KEY(key) ((key) == 0 -> 5 : 10)
#else
#define KEY(entry) 0
#define OF_KEY(key) 15
#endif

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

#define NOBODY 2
#define A_DEAD_ONE 3   /* a process that is gone: the one started in its place has a new name */
byte holder = NOBODY;  /* of the lease */
byte term;             /* counts how often the holder has changed */

/* What a connection to Redis carries. One command at a time is under way, so that one word tells
 * where it is: unread by Redis, or its answer unread by the instance. */
mtype:at = {
    idle,
    take,      /* the lease script; set: the sender's other link */
    refused,   /* ... its answers */
    taken,     /* ... the holder has changed; set: the links to kill */
    confirmed, /* ... the holder was this process already; set: the links to kill */
    kill,      /* CLIENT KILL of each link of the set */
    killed,
    xack,      /* of the set */
    xacked,
    history,   /* XREADGROUP of pending entries; set: the number of the first that is wanted */
    page,      /* set: the entry's number and 1, or 0: there are no more */
    fresh,     /* XREADGROUP of new entries */
    parked,    /* ... waiting in Redis (BLOCK) */
    entry      /* set: the entry's number and 1 */
}

typedef Link {
    mtype:at at = idle;
    byte set;
    unsigned term : 4; /* in the answer to take */
    bit up;            /* for the instance: its present link */
    bit alive;         /* for Redis: what is in the socket will be read */
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
#define FIRST_LINK(i) ((i) * 4)
#define OWNER(l) ((l) / 4)
#define IS_WRITE_LINK(l) (((l) & 2) != 0)
Link link[LINKS];

#define PRESENT_LINK(i, r) (link[LINK(i, r, 0)].up -> LINK(i, r, 0) : LINK(i, r, 1))
#define IS_WITHOUT_LINK(i, r) (!link[LINK(i, r, 0)].up && !link[LINK(i, r, 1)].up && \
                               !(link[LINK(i, r, 0)].alive && link[LINK(i, r, 1)].alive))
#define CARRIES_COMMAND(l) (link[l].at == take || link[l].at == kill || link[l].at == xack || \
                            link[l].at == history || link[l].at == fresh)
#define CARRIES_ANSWER(l) (link[l].at == refused || link[l].at == taken || \
                           link[l].at == confirmed || link[l].at == killed || \
                           link[l].at == xacked || link[l].at == page || link[l].at == entry)

#define ANY_LINK(condition) (condition(0) || condition(1) || condition(2) || condition(3) || \
                             condition(4) || condition(5) || condition(6) || condition(7))
#define CHOOSE_LINK(l, condition) \
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
#define OWN_LINK(i, condition) (condition(FIRST_LINK(i)) || condition(FIRST_LINK(i) + 1) || \
                                condition(FIRST_LINK(i) + 2) || condition(FIRST_LINK(i) + 3))
#define CHOOSE_OWN_LINK(i, l, condition) \
    if \
    :: condition(FIRST_LINK(i)) -> l = FIRST_LINK(i) \
    :: condition(FIRST_LINK(i) + 1) -> l = FIRST_LINK(i) + 1 \
    :: condition(FIRST_LINK(i) + 2) -> l = FIRST_LINK(i) + 2 \
    :: condition(FIRST_LINK(i) + 3) -> l = FIRST_LINK(i) + 3 \
    fi

/* ---- the broker ----------------------------------------------------------------------------- */

mtype:session = {none, connecting /* the CONNECT is unread */, established};

typedef Connection {
    mtype:session session = none; /* for the broker */
    byte unread;  /* publishes that the broker has not read; within a connection they are in the
                     order of the stream */
    byte pubacks; /* that the instance has not read */
    bit up;       /* for the instance: its present connection */
}

#define CONNECTION(i, n, place) (((i) * CONNECTIONS + (n)) * 2 + (place))
#define CONNECTION_COUNT (4 * CONNECTIONS)
#define CLIENT_ID(x) (((x) / 2) % CONNECTIONS)
#define INSTANCE_OF(x) ((x) / (2 * CONNECTIONS))
Connection connection[CONNECTION_COUNT];

#if CONNECTIONS == 1
#define OF_CONNECTION(n) 15
#else
#define OF_CONNECTION(n) OF_KEY(n)
#endif
#define PRESENT_CONNECTION(i, n) (connection[CONNECTION(i, n, 0)].up -> CONNECTION(i, n, 0) : \
                                                                       CONNECTION(i, n, 1))
#define HAS_INPUT(x) (connection[x].session == connecting || \
                      (connection[x].session == established && connection[x].unread != 0))

byte seen;           /* entries that have arrived at least once: the record without duplicates */
byte retained[KEYS]; /* the number of the entry that arrived last, and 1 */

/* ---- instances ------------------------------------------------------------------------------ */

/* A process that was killed and started again waits as one that has just been started. */
mtype:mode = {waiting, held, dead};
mtype:lane = {not_begun, reading_history, live};

typedef Instance {
    mtype:mode mode = waiting;
    bit valid;      /* its own view: the lease was granted and its deadline lies ahead */
    bit was_held;   /* NO_TERM: it has been granted since it last forgot all */
    bit was_fresh;  /* LATE_LOSS: it is to start over when the kills are answered */
    unsigned term : 4; /* the last one that it was told */
    byte memory;    /* the ledger: entries that were read and whose XACK was not answered */
    byte sent;      /* of those: published on the present connection */
    byte owed;      /* of those: PUBACK received */
    byte known;     /* those in memory when the history began */
    byte next;      /* the history's cursor */
    mtype:lane lane = not_begun;
    bit open;       /* all connections have been ready since the lease was taken */
    bit redials[CONNECTIONS]; /* its connection comes back by itself (backoff) */
}
Instance instance[2];

byte puback_received; /* entries of which some instance has read a PUBACK */
byte faults = FAULTS; /* that may still come */

#define UNSENT(i) (instance[i].memory & ~instance[i].sent & ~instance[i].owed)

/* Another's lease may have run out in Redis once that one's own deadline has passed (lease.c,
 * extend); when exactly is left open. A process that is just being granted would have to be paused
 * for longer than the ttl, which counts as a fault. */
#define IS_TAKING(i) (instance[i].mode == waiting && \
                      (link[LINK(i, WRITE, 0)].up || link[LINK(i, WRITE, 1)].up))
#ifdef CLOCK_STEP
#define MAY_RUN_OUT(i) (faults > 0)
#define RUNNING_OUT_IS_A_FAULT(i) true
#else
#define MAY_RUN_OUT(i) (!instance[i].valid && (!IS_TAKING(i) || faults > 0))
#define RUNNING_OUT_IS_A_FAULT(i) IS_TAKING(i)
#endif

/* ---- links ---------------------------------------------------------------------------------- */

/* The connection ends at Redis: what it had not read is never read. An answer that was sent may
 * still be read by the instance. */
inline end_link(l)
{
    link[l].alive = 0;
    link[l].recorded = 0;
    link[l].orphan = 0;
    if
    :: !link[l].up || CARRIES_COMMAND(l) || link[l].at == parked ->
        link[l].at = idle;
        link[l].set = 0;
        link[l].term = 0
    :: else
    fi
}

/* The instance gives a link up. A command that Redis has not read, or a parked read, may live on. */
inline let_go(l)
{
    link[l].up = 0;
    link[l].fenced = 0;
    if
    :: link[l].alive && link[l].at != history && (CARRIES_COMMAND(l) || link[l].at == parked)
    :: end_link(l)
    fi
}

/* ---- what Redis does ------------------------------------------------------------------------ */

inline answer(l, what)
{
    link[l].at = what;
    if
    :: !link[l].up -> end_link(l) /* nobody hears it */
    :: else
    fi
}

#define IS_HOLDER(l) (holder == OWNER(l) && !link[l].orphan)
/* One that owns nothing asks again until it is granted: that it was refused changes nothing. */
#define MAY_BE_REFUSED(l) (!IS_HOLDER(l) && holder != NOBODY && \
    ((holder < NOBODY && !MAY_RUN_OUT(holder)) || \
     link[l].orphan || instance[OWNER(l)].mode == held))
#define MAY_BE_GRANTED(l) (IS_HOLDER(l) || holder >= NOBODY || MAY_RUN_OUT(holder))

inline set_to_kill(l)
{
    for (scan : 0 .. LINKS - 1) {
        if
        :: link[scan].recorded && scan != l && (link[l].set & BIT(scan)) == 0 ->
            mask = mask | BIT(scan)
        :: else
        fi
    }
    scan = 0;
#ifdef NO_KILL
    mask = 0;
#endif
    link[l].set = mask;
    mask = 0
}

/* lease.c, take_script */
inline grant(l)
{
    set_to_kill(l);
    link[l].recorded = 1;
    if
    :: IS_HOLDER(l) -> link[l].at = confirmed
    :: else ->
        if
        :: holder < NOBODY && RUNNING_OUT_IS_A_FAULT(holder) -> faults--
        :: else
        fi;
        term++;
        holder = (link[l].orphan -> A_DEAD_ONE : OWNER(l));
        link[l].at = taken
    fi;
    link[l].term = term;
    answer(l, link[l].at)
}

inline kill_links(l)
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

#define IS_ACKED(e) ((e) < delivered && (pending & BIT(e)) == 0)
/* Root invariant: of each key the pending entries are a suffix of the delivered ones. */
#define SUFFIX(e) (!IS_ACKED(e) || (pending & OF_KEY(KEY(e)) & BEFORE(e)) == 0)
/* Guarantee 9 at every moment: should everybody die now, a retained value that is not the newest
 * is made right by what is pending. */
#define MENDED(e) (!IS_ACKED(e) || retained[KEY(e)] >= (e) + 1)

inline check_acked()
{
    ORDER_KEPT(SUFFIX(0) && SUFFIX(1) && SUFFIX(2) && SUFFIX(3));
    RETAINED_TRUE(MENDED(0) && MENDED(1) && MENDED(2) && MENDED(3))
}

inline acknowledge(l)
{
    ACKED_ONLY_AFTER_PUBACK((link[l].set & pending & ~puback_received) == 0);
    pending = pending & ~link[l].set;
    check_acked();
    answer(l, xacked)
}

inline find_in_history(l)
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

/* ---- what an instance does ------------------------------------------------------------------ */

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
    link[l].up = 1;
    link[l].alive = 1;
    link[l].at = take;
    scan = PRESENT_LINK(i, 1 - (r));
    link[l].set = (link[scan].up -> BIT(scan) : 0);
    scan = 0;
    l = 0
}

/* One that waits asks when it can be granted. Of two that begin alike instance 0 is the first. */
#define WANTS_WRITE_LINK(i) (instance[i].mode == held || (instance[i].mode == waiting && \
    (holder >= NOBODY || holder == i || MAY_RUN_OUT(holder)) && \
    (i == 0 || term > 0 || instance[0].mode == dead)))

/* lease.c, on_take. Not the clock is modelled but what it is to give: valid implies that Redis has
 * let nobody else in. */
inline hear_grant(i, l)
{
#ifdef NO_TERM
    over = link[l].at == taken || !instance[i].was_held;
    instance[i].was_held = 1;
#else
    over = link[l].term != instance[i].term;
#endif
    over = over && instance[i].mode == held;
    instance[i].term = link[l].term;
    instance[i].valid = holder == i && term == link[l].term;
#ifdef LATE_LOSS
    instance[i].was_fresh = instance[i].was_fresh || over;
    over = 0;
#endif
    link[l].term = 0;
    if
    :: over -> link[l].set = 0
    :: !over && link[l].set == 0 -> link[l].at = killed
    :: !over && link[l].set != 0 && link[l].alive -> link[l].at = kill
    :: else -> link[l].at = idle; link[l].set = 0
    fi
}

/* slot.c, on_granted */
inline begin(i, l)
{
    over = instance[i].was_fresh && instance[i].mode == held;
    instance[i].was_fresh = 0;
    link[l].fenced = 1;
    link[l].at = idle;
    if
    :: IS_WRITE_LINK(l) && instance[i].mode == waiting ->
        printf("instance %d owns the slot\n", i);
        instance[i].mode = held;
        for (scan : 0 .. CONNECTIONS - 1) {
            instance[i].redials[scan] = 1
        }
        scan = 0
    :: !IS_WRITE_LINK(l) ->
        instance[i].lane = reading_history;
        instance[i].known = instance[i].memory;
        instance[i].next = 0
    :: else
    fi
}

/* An entry goes to the end of the outbox. A set stands for the queue because that end is also the
 * order of the stream, which is asserted here; without history first it is not. */
inline take_in(i, e)
{
#ifndef MUTATED
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
    :: over
    :: !over && link[l].at == refused -> over = 1
    :: !over && link[l].at == killed -> begin(i, l)
    :: !over && link[l].at == xacked ->
        instance[i].memory = instance[i].memory & ~link[l].set;
        instance[i].owed = instance[i].owed & ~link[l].set;
        link[l].at = idle;
        link[l].set = 0
    :: !over && (link[l].at == page || link[l].at == entry) ->
        if
        :: link[l].set == 0 ->
            instance[i].lane = live;
            instance[i].known = 0;
            instance[i].next = 0
        :: else ->
            if
            :: link[l].at == page -> instance[i].next = link[l].set
            :: else
            fi;
            if
            :: link[l].at == entry || (instance[i].known & BIT(link[l].set - 1)) == 0 ->
                take_in(i, link[l].set - 1)
            :: else
            fi
        fi;
        link[l].at = idle;
        link[l].set = 0
    :: else
    fi
}

#define HAS_ANSWER(l) (link[l].up && CARRIES_ANSWER(l))
/* Redis has closed it, or it is lost. */
#define MAY_END(l) (link[l].up && (!link[l].alive || faults > 0))
/* Into a link that Redis has closed nothing needs to be sent. */
#define CAN_SEND(l) (link[l].up && link[l].alive && link[l].fenced && link[l].at == idle)

inline lose_link(i, l)
{
    printf("instance %d loses link %d\n", i, l);
    faults = faults - link[l].alive;
    let_go(l);
    if
    :: !IS_WRITE_LINK(l) ->
        instance[i].lane = not_begun;
        instance[i].known = 0;
        instance[i].next = 0
    :: else
    fi
}

#ifdef NO_CHECK
#define MAY_WRITE(i) true
#else
#define MAY_WRITE(i) instance[i].valid
#endif

/* CONNECT is written without a look at the lease when a connection comes back by itself: it has
 * waited for its time since the lease was valid. */
#define CAN_CONNECT(i, n) (instance[i].mode == held && \
                           !connection[CONNECTION(i, n, 0)].up && \
                           !connection[CONNECTION(i, n, 1)].up && \
                           (connection[CONNECTION(i, n, 0)].session == none || \
                            connection[CONNECTION(i, n, 1)].session == none) && \
                           (instance[i].redials[n] || MAY_WRITE(i)))

inline write_connect(i, n)
{
    x = (connection[CONNECTION(i, n, 0)].session == none -> CONNECTION(i, n, 0) :
                                                          CONNECTION(i, n, 1));
    printf("instance %d writes CONNECT\n", i);
    connection[x].up = 1;
    connection[x].session = connecting;
    instance[i].redials[n] = 0;
    x = 0
}

#define CAN_PUBLISH(i, n) (instance[i].open && (UNSENT(i) & OF_CONNECTION(n)) != 0 && \
                           connection[PRESENT_CONNECTION(i, n)].up && \
                           connection[PRESENT_CONNECTION(i, n)].session == established)

inline publish(i, n)
{
    x = PRESENT_CONNECTION(i, n);
    e = LOWEST(UNSENT(i) & OF_CONNECTION(n));
    printf("instance %d writes the publish of entry %d\n", i, e);
    connection[x].unread = connection[x].unread | BIT(e);
#ifdef XACK_EARLY
    instance[i].owed = instance[i].owed | BIT(e);
#else
    instance[i].sent = instance[i].sent | BIT(e);
#endif
    x = 0;
    e = 0
}

#define HAS_PUBACK(i, n) (connection[PRESENT_CONNECTION(i, n)].pubacks != 0)

inline hear_puback(i, n)
{
    x = PRESENT_CONNECTION(i, n);
    e = LOWEST(connection[x].pubacks);
    printf("instance %d reads PUBACK of entry %d\n", i, e);
    connection[x].pubacks = connection[x].pubacks & ~BIT(e);
    puback_received = puback_received | BIT(e);
    instance[i].sent = instance[i].sent & ~BIT(e);
    instance[i].owed = instance[i].owed | BIT(e);
    x = 0;
    e = 0
}

/* Thrown out by the broker, or lost. */
#define MAY_DISCONNECT(i, n) (connection[PRESENT_CONNECTION(i, n)].up && \
    (connection[PRESENT_CONNECTION(i, n)].session == none || faults > 0))

/* The instance gives a connection up. What it wrote may still arrive, all or the first of it. */
inline let_go_of_connection(x)
{
    connection[x].up = 0;
    connection[x].pubacks = 0;
    do
    :: connection[x].unread != 0 ->
        connection[x].unread = connection[x].unread & ~BIT(HIGHEST(connection[x].unread))
    :: break
    od;
    if
    :: HAS_INPUT(x)
    :: !HAS_INPUT(x) || connection[x].session == connecting -> connection[x].session = none
    fi
}

/* flow.c, on_lost: what is unsettled is to be sent again. */
inline lose_connection(i, n)
{
    printf("instance %d loses its connection\n", i);
    x = PRESENT_CONNECTION(i, n);
    faults = faults - (connection[x].session != none);
    let_go_of_connection(x);
    x = 0;
    instance[i].sent = instance[i].sent & ~OF_CONNECTION(n);
    instance[i].redials[n] = MAY_WRITE(i)
}

#define CAN_XACK(i) (instance[i].owed != 0 && CAN_SEND(PRESENT_LINK(i, WRITE)))

inline send_xack(i)
{
    l = PRESENT_LINK(i, WRITE);
    printf("instance %d writes XACK of the set %d\n", i, instance[i].owed);
    link[l].set = instance[i].owed;
    link[l].at = xack;
    l = 0
}

#define CAN_READ(i) (CAN_SEND(PRESENT_LINK(i, READ)) && instance[i].lane != not_begun)

inline send_read(i)
{
    l = PRESENT_LINK(i, READ);
    printf("instance %d reads (%e)\n", i, instance[i].lane);
    if
    :: instance[i].lane == reading_history -> link[l].set = instance[i].next; link[l].at = history
#ifdef NO_HISTORY_FIRST
    :: link[l].at = fresh
#else
    :: instance[i].lane == live -> link[l].at = fresh
#endif
    fi;
    l = 0
}

/* slot.c, slot_turn: nothing is written without a look at the lease. */
#define MAY_CARRY(i) (instance[i].mode == held && MAY_WRITE(i))

active [2] proctype Run()
{
    byte l, x, e, scan;
    bit over;
end:
    do
    /* -- the Redis links */
    :: d_step { WANTS_WRITE_LINK(_pid) && IS_WITHOUT_LINK(_pid, WRITE) -> open_link(_pid, WRITE) }
    :: d_step { instance[_pid].mode == held && IS_WITHOUT_LINK(_pid, READ) ->
        open_link(_pid, READ) }
    :: atomic { OWN_LINK(_pid, HAS_ANSWER) ->
        CHOOSE_OWN_LINK(_pid, l, HAS_ANSWER);
        d_step { hear(_pid, l); l = 0 };
        if
        :: over -> goto start_over
        :: else
        fi }
    :: atomic { OWN_LINK(_pid, MAY_END) ->
        CHOOSE_OWN_LINK(_pid, l, MAY_END);
        lose_link(_pid, l);
        l = 0 }
    /* lease.c, renew_script: only the holder extends. */
    :: atomic { instance[_pid].mode == held && !instance[_pid].valid &&
        link[PRESENT_LINK(_pid, WRITE)].fenced && link[PRESENT_LINK(_pid, WRITE)].alive ->
        printf("instance %d renews\n", _pid);
        if
        :: holder == _pid -> instance[_pid].valid = 1
        :: else -> goto start_over
        fi }
    :: d_step { MAY_CARRY(_pid) && CAN_XACK(_pid) -> send_xack(_pid) }
    :: atomic { MAY_CARRY(_pid) && CAN_READ(_pid) -> send_read(_pid) }

    /* -- the connections */
    :: d_step { CAN_CONNECT(_pid, 0) -> write_connect(_pid, 0) }
    :: d_step { MAY_CARRY(_pid) && CAN_PUBLISH(_pid, 0) -> publish(_pid, 0) }
    :: d_step { HAS_PUBACK(_pid, 0) -> hear_puback(_pid, 0) }
    :: atomic { MAY_DISCONNECT(_pid, 0) -> lose_connection(_pid, 0) }
#if CONNECTIONS == 2
    :: d_step { CAN_CONNECT(_pid, 1) -> write_connect(_pid, 1) }
    :: d_step { MAY_CARRY(_pid) && CAN_PUBLISH(_pid, 1) -> publish(_pid, 1) }
    :: d_step { HAS_PUBACK(_pid, 1) -> hear_puback(_pid, 1) }
    :: atomic { MAY_DISCONNECT(_pid, 1) -> lose_connection(_pid, 1) }
#endif

    /* -- faults: its deadline passes, because it is paused or cut off from Redis; kill -9, and
     * another is started in its place, or not if the other instance lives. Links and connections
     * are lost above. */
    :: d_step { faults > 0 && instance[_pid].valid ->
        printf("the deadline of instance %d passes\n", _pid);
        faults--;
        instance[_pid].valid = 0 }
    :: atomic { faults > 0 && instance[_pid].mode != dead ->
        printf("instance %d is killed\n", _pid);
        faults--;
        for (l : FIRST_LINK(_pid) .. FIRST_LINK(_pid) + 3) {
            link[l].orphan = link[l].alive
        }
        l = 0;
        if
        :: holder == _pid -> holder = A_DEAD_ONE
        :: else
        fi;
        instance[_pid].mode = waiting;
        if
        :: instance[1 - _pid].mode != dead -> instance[_pid].mode = dead
        :: true
        fi;
        goto start_over }

    /* -- slot.c, slot_start_over: all that is in memory is forgotten. So it is in a process that
     * dies. */
    :: atomic { false ->
start_over:
        printf("instance %d forgets all\n", _pid);
        d_step {
            over = 0;
            if
            :: instance[_pid].mode == held -> instance[_pid].mode = waiting
            :: else
            fi;
            instance[_pid].valid = 0;
            instance[_pid].was_held = 0;
            instance[_pid].was_fresh = 0;
            instance[_pid].term = 0;
            instance[_pid].memory = 0;
            instance[_pid].sent = 0;
            instance[_pid].owed = 0;
            instance[_pid].known = 0;
            instance[_pid].next = 0;
            instance[_pid].lane = not_begun;
            instance[_pid].open = 0
        }
        for (l : FIRST_LINK(_pid) .. FIRST_LINK(_pid) + 3) {
            if
            :: link[l].up -> let_go(l)
            :: else
            fi
        }
        l = 0;
        for (x : CONNECTION(_pid, 0, 0) .. CONNECTION(_pid + 1, 0, 0) - 1) {
            if
            :: connection[x].up -> let_go_of_connection(x)
            :: else
            fi;
            instance[_pid].redials[CLIENT_ID(x)] = 0
        }
        x = 0 }
    od
}

/* ---- Redis at work -------------------------------------------------------------------------- */

#define HAS_COMMAND(l) (link[l].alive && CARRIES_COMMAND(l))
#define IS_PARKED(l) (link[l].alive && link[l].at == parked)

active proctype Redis()
{
    byte l, scan, mask;
    bit is_refused;
end:
    do
    :: atomic {
        ANY_LINK(HAS_COMMAND) ->
        CHOOSE_LINK(l, HAS_COMMAND);
        if
        :: link[l].at != take || MAY_BE_GRANTED(l)
        :: link[l].at == take && MAY_BE_REFUSED(l) -> is_refused = 1
        fi;
        d_step {
            printf("Redis reads on link %d: %e\n", l, link[l].at);
            if
            :: is_refused -> link[l].set = 0; answer(l, refused)
            :: !is_refused && link[l].at == take -> grant(l)
            :: link[l].at == kill -> kill_links(l)
            :: link[l].at == xack -> acknowledge(l)
            :: link[l].at == history -> find_in_history(l)
            :: link[l].at == fresh && delivered < added -> deliver_to(l)
            :: link[l].at == fresh && delivered == added -> link[l].at = parked
            fi;
            is_refused = 0;
            l = 0
        }
    }
    /* A producer adds an entry; a parked read gets it at once. */
    :: atomic {
        added < ENTRIES ->
        printf("entry %d is added\n", added);
        added++;
        if
        :: ANY_LINK(IS_PARKED) ->
            CHOOSE_LINK(l, IS_PARKED);
            printf("... and goes to the read parked on link %d\n", l);
            deliver_to(l);
            l = 0
        :: else
        fi
    }
    od
}

/* ---- the broker at work --------------------------------------------------------------------- */

#ifdef NO_BROKER_FENCE
#define SAME_CLIENT(x, y) (CLIENT_ID(x) == CLIENT_ID(y) && INSTANCE_OF(x) == INSTANCE_OF(y))
#else
#define SAME_CLIENT(x, y) (CLIENT_ID(x) == CLIENT_ID(y))
#endif

/* [MQTT-3.1.4-3]: the older connection of the same client identifier is closed; what the broker has
 * not read of it is never read. That the instance reads the CONNACK is no step of its own: it
 * changes nothing but what the instance may do next. */
inline connect(x)
{
    for (scan : 0 .. CONNECTION_COUNT - 1) {
        if
        :: scan != x && SAME_CLIENT(x, scan) && connection[scan].session == established ->
            connection[scan].session = none;
            connection[scan].unread = 0
        :: else
        fi
    }
    scan = INSTANCE_OF(x);
    connection[x].session = (connection[x].up -> established : none);
    if
    :: connection[x].up &&
       connection[PRESENT_CONNECTION(scan, 0)].session == established &&
       connection[PRESENT_CONNECTION(scan, CONNECTIONS - 1)].session == established ->
        instance[scan].open = 1
    :: else
    fi;
    scan = 0
}

inline take_publish(x)
{
    e = LOWEST(connection[x].unread);
    printf("... publish of entry %d\n", e);
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
            printf("the broker reads from instance %d\n", INSTANCE_OF(x));
            if
            :: connection[x].session == connecting -> connect(x)
            :: else -> take_publish(x)
            fi;
            x = 0
        }
    }
    od
}

/* ---- the end -------------------------------------------------------------------------------- */

/* Nothing can happen any more: faults are spent or do not come, and somebody lives. No step can be
 * repeated for ever (run.sh checks that there is no cycle), so that every run ends here. */
active proctype Judge()
{
end:
    atomic {
        timeout ->
        NONE_FORGOTTEN(added == ENTRIES && delivered == added && pending == 0 &&
                       seen == BIT(ENTRIES) - 1);
        RETAINED_TRUE(retained[KEY(ENTRIES - 1)] == ENTRIES &&
                      (KEYS == 1 || retained[KEY(ENTRIES - 2)] == ENTRIES - 1))
    }
}
