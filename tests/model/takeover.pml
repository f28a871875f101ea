/*
 * The life of a slot among two instances, as a model for Spin: lease, fences, history, what is in
 * flight, XACK, and owners that were paused and come back. run.sh checks it, and checks that it
 * bites: each fence taken away breaks a guarantee. README.md says how to read it and what it leaves
 * out.
 *
 * Every step of a process is atomic, and between two steps any time may pass: a paused process is
 * one whose next step comes late. A step that sends a command to Redis is also the one in which
 * Redis carries it out, as late as may be; where a link ends before that, the command may live on
 * in Redis' socket (its ghost). What is published lies unread until the broker's own step: the look
 * at the lease comes before the writing, and what happens between the two does not matter.
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
#ifndef KILLS
#define KILLS 1 /* processes that are killed */
#endif
#ifndef LOSSES
#define LOSSES 1 /* links and connections that are lost */
#endif
#ifndef DEADLINES
#define DEADLINES 1 /* deadlines that pass while an owner is paused or cut off from Redis */
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

unsigned added : 3 = AT_START; /* entries in the stream */
unsigned delivered : 3; /* the group's last-delivered-id: the first so many entries */
unsigned pending : 4;   /* the pending entries list; its one consumer is named after the slot */

/* Who holds the lease. Its record also counts how often the holder has changed, the term; to know
 * who knows the present term is enough here. */
#define NOBODY 2
#define A_DEAD_ONE 3 /* a process that is gone: the one started in its place has a new name */
unsigned holder : 2 = NOBODY;

/* What a link is at. The present link of an instance has sent at most one command without having
 * read the answer. */
mtype = {
    down,      /* there is none, or Redis has closed it */
    refused,   /* the lease script's answers, unread: ... */
    taken,     /* ... the holder has changed; set: the links to kill */
    confirmed, /* ... the holder was this process already; set: the links to kill */
    kill,      /* CLIENT KILL of each link of the set, not carried out */
    idle,      /* granted, and all former links are closed; no answer is due */
    xacked,    /* XACK of the set, carried out, its answer unread */
    page,      /* of the history, unread; set: the entry's number and 1, or 0: there are no more */
    parked,    /* XREADGROUP of new entries, waiting in Redis (BLOCK) */
    entry,     /* its answer, unread; set: the entry's number and 1 */
    late_take, /* a ghost: the command that Redis has not read, ... */
    late_xack,
    late_read  /* ... or a parked read */
}

typedef Link {
    unsigned at : 4 = down;
    unsigned set : 8; /* of links or of entries */
    bit alive;    /* for Redis */
    bit recorded; /* in the lease's record */
    bit current;  /* taken, confirmed: the term in the answer is still that of the record */
    bit differs;  /* taken, confirmed: it is not the one that the process knew */
    bit orphan;   /* a ghost whose process was killed */
}

/* The present link of instance i in role r, and its ghost: one that was given up. */
#define READ 0
#define WRITE 1
#define LINKS 8
#define LINK(i, r) ((i) * 2 + (r))
#define GHOST(l) ((l) + 4)
#define IS_GHOST(l) ((l) > 3)
#define OWNER(l) (((l) / 2) & 1)
#define IS_WRITE_LINK(l) (((l) & 1) == WRITE)
Link link[LINKS];

/* ---- the broker ----------------------------------------------------------------------------- */

typedef Connection {
    bit alive;
    unsigned unread : 4;  /* publishes that the broker has not read; within a connection they are in
                             the order of the stream */
    unsigned pubacks : 4; /* that the instance has not read; those of a connection that has ended,
                             until it makes the next one */
}

/* The present connection n of instance i, and its ghost: what was written to one that was given up
 * and may still arrive. */
#define CONNECTION(i, n) ((i) * CONNECTIONS + (n))
#define GHOST_OF(x) ((x) + 2 * CONNECTIONS)
#define CLIENT_ID(x) ((x) % CONNECTIONS)
#define INSTANCE_OF(x) (((x) / CONNECTIONS) & 1)
Connection connection[4 * CONNECTIONS];

#if CONNECTIONS == 1
#define OF_CONNECTION(n) 15
#else
#define OF_CONNECTION(n) OF_KEY(n)
#endif

unsigned seen : 4;   /* entries that have arrived at least once: the record without duplicates */
byte retained[KEYS]; /* by key: the number of the entry that arrived last, and 1 */

/* ---- instances ------------------------------------------------------------------------------ */

/* An instance's mode. A process that was killed and started again waits as one that has just been
 * started. */
#define waiting 0
#define held 1
#define dead 2

/* Its lane. */
#define not_begun 0
#define reading_history 1
#define live 2

typedef Instance {
    unsigned mode : 2;
    bit valid;           /* its own view: the lease was granted and its deadline lies ahead */
    bit knows_term;      /* the last term that it was told is that of the record */
    bit was_held;        /* NO_TERM: it has been granted the lease since it last forgot all */
    bit was_fresh;       /* LATE_LOSS: it starts over when the kills are answered */
    unsigned memory : 4; /* the ledger: entries that were read and whose XACK was not answered */
    unsigned sent : 4;   /* of those: published on the present connection */
    unsigned owed : 4;   /* of those: PUBACK received */
    unsigned lane : 2;
    unsigned known : 4;  /* entries that were in memory when the history began */
    unsigned next : 3;   /* the history's cursor */
    bit open;            /* all connections have been ready since the lease was taken */
    unsigned redials : 2; /* connections that were begun while the lease was valid */
}
Instance instance[2];

unsigned puback_received : 4; /* entries of which some instance has read a PUBACK */
unsigned kills : 2 = KILLS; /* faults that may still come */
unsigned losses : 2 = LOSSES;
unsigned deadlines : 2 = DEADLINES;

#define UNSENT(i) (instance[i].memory & ~instance[i].sent & ~instance[i].owed)

/* The lease of a live process may have run out in Redis once its own deadline has passed (lease.c,
 * extend); when exactly is left open. One that is just being granted would have to be paused for
 * longer than the ttl, which counts as a fault. */
#define IS_TAKING(i) (instance[i].mode == waiting && link[LINK(i, WRITE)].at != down)
#ifdef CLOCK_STEP
#define MAY_RUN_OUT(i) (!instance[i].valid && !IS_TAKING(i) || deadlines > 0)
#define RUNNING_OUT_IS_A_FAULT(i) (instance[i].valid || IS_TAKING(i))
#else
#define MAY_RUN_OUT(i) (!instance[i].valid && (!IS_TAKING(i) || deadlines > 0))
#define RUNNING_OUT_IS_A_FAULT(i) IS_TAKING(i)
#endif

/* ---- links ---------------------------------------------------------------------------------- */

/* Who is about to kill the link means the other place from now on; the same place: nothing. */
inline rename_in_kills(from, to)
{
    for (scan : 0 .. 3) {
        if
        :: link[scan].at == taken || link[scan].at == confirmed || link[scan].at == kill ->
            link[scan].set = (link[scan].set & ~BIT(from) & ~BIT(to)) |
                             ((link[scan].set & BIT(from)) != 0 && from != to -> BIT(to) : 0)
        :: else
        fi
    }
    scan = 0
}

inline clear_link(l)
{
    link[l].at = down;
    link[l].set = 0;
    link[l].alive = 0;
    link[l].recorded = 0;
    link[l].current = 0;
    link[l].differs = 0;
    link[l].orphan = 0
}

/* Redis closes it: what it had not read is never read. An answer that was sent may still be read by
 * the instance. */
inline end_link(l)
{
    if
    :: IS_GHOST(l) || link[l].at == kill || link[l].at == idle || link[l].at == parked ->
        clear_link(l)
    :: else ->
        link[l].alive = 0;
        link[l].recorded = 0
    fi
}

/* The instance gives a link up. A command that Redis has not read, or a parked read, may live on as
 * its ghost. */
inline let_go(i, l)
{
    if
    :: d_step { link[l].alive && (link[l].at == parked || (link[l].at == idle &&
                (IS_WRITE_LINK(l) -> instance[i].owed != 0 : instance[i].lane == live))) ->
        rename_in_kills(l, GHOST(l));
        link[GHOST(l)].recorded = link[l].recorded;
        link[GHOST(l)].alive = 1;
        link[GHOST(l)].orphan = 0;
        link[GHOST(l)].set = (IS_WRITE_LINK(l) -> instance[i].owed : 0);
        link[GHOST(l)].at = (IS_WRITE_LINK(l) -> late_xack : late_read) }
    :: d_step { rename_in_kills(l, l) }
    fi;
    d_step {
        clear_link(l);
        if
        :: !IS_WRITE_LINK(l) ->
            instance[i].lane = not_begun;
            instance[i].known = 0;
            instance[i].next = 0
        :: else
        fi
    }
}

/* ---- what Redis does ------------------------------------------------------------------------ */

#define IS_FREE_FOR(i) (holder >= NOBODY || holder == (i) || MAY_RUN_OUT(holder))

/* lease.c, take_script. */
inline set_holder(who)
{
    if
    :: holder < NOBODY && RUNNING_OUT_IS_A_FAULT(holder) -> deadlines--
    :: else
    fi;
    holder = who;
    for (scan : 0 .. 3) {
        link[scan].current = 0
    }
    instance[0].knows_term = 0;
    instance[1].knows_term = 0;
    scan = 0
}

inline grant(i, l)
{
    link[l].at = confirmed;
    if
    :: holder != i -> set_holder(i); link[l].at = taken
    :: else
    fi;
    link[l].alive = 1;
    link[l].current = 1;
    link[l].differs = !instance[i].knows_term;
#ifndef NO_KILL
    for (scan : 0 .. LINKS - 1) {
        if
        :: link[scan].recorded && scan != (l ^ 1) -> link[l].set = link[l].set | BIT(scan)
        :: else
        fi
    }
    scan = 0;
#endif
    link[l].recorded = 1
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
    link[l].set = 0
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

inline acknowledge(entries)
{
    ACKED_ONLY_AFTER_PUBACK((entries & pending & ~puback_received) == 0);
    pending = pending & ~entries;
    check_acked()
}

inline deliver()
{
    pending = pending | BIT(delivered);
    delivered++
}

/* ---- what an instance does with its links --------------------------------------------------- */

/* Opens a link; the lease script is its first command. Of a refusal nothing is modelled for one
 * that owns nothing: it asks again. */
#define WANTS_LINK(i, r) (!link[LINK(i, r)].alive && \
                          (instance[i].mode == held || (r == WRITE && WAITS_RIGHTLY(i))))
/* Of two that begin alike instance 0 is the first. */
#define WAITS_RIGHTLY(i) (instance[i].mode == waiting && IS_FREE_FOR(i) && \
                          (i == 0 || holder != NOBODY || instance[0].mode == dead))

inline open_link(i, r)
{
    l = LINK(i, r);
    rename_in_kills(l, l);
    clear_link(l);
    if
    :: IS_FREE_FOR(i) ->
        d_step {
            printf("instance %d opens link %d and takes the lease\n", i, l);
            grant(i, l)
        }
    :: instance[i].mode == held && holder != i ->
        printf("instance %d opens link %d and is refused\n", i, l);
        link[l].at = refused;
        link[l].alive = 1
    fi;
    l = 0
}

/* The kills are carried out, and their answer is read; slot.c, on_granted. */
inline begin(i, l)
{
    kill_links(l);
    over = instance[i].was_fresh;
    instance[i].was_fresh = 0;
    link[l].at = idle;
    if
    :: IS_WRITE_LINK(l) && instance[i].mode == waiting ->
        printf("instance %d owns the slot\n", i);
        instance[i].mode = held;
        instance[i].redials = (instance[i].valid -> 0 : BIT(CONNECTIONS) - 1)
    :: !IS_WRITE_LINK(l) ->
        instance[i].lane = reading_history;
        instance[i].known = instance[i].memory;
        instance[i].next = 0
    :: else
    fi
}

/* lease.c, on_take. Not the clock is modelled but what it is to give: valid implies that Redis has
 * let nobody else in. */
inline hear_grant(i, l)
{
#ifdef NO_TERM
    over = instance[i].mode == held && (link[l].at == taken || !instance[i].was_held);
    instance[i].was_held = 1;
#else
    over = instance[i].mode == held && link[l].differs;
#endif
    instance[i].knows_term = link[l].current;
    instance[i].valid = link[l].current;
    link[l].current = 0;
    link[l].differs = 0;
#ifdef LATE_LOSS
    instance[i].was_fresh = instance[i].was_fresh || over;
    over = 0;
#endif
    if
    :: link[l].alive -> link[l].at = kill
    :: else -> clear_link(l)
    fi;
    if
    :: link[l].set == 0 && link[l].alive && !over -> begin(i, l)
    :: else
    fi
}

/* An entry goes to the end of the outbox. A set stands for the queue because that end is also the
 * order of the stream, which is asserted here; a mutated protocol may break it. */
inline take_in(i, e)
{
#ifndef MUTATED
    assert(instance[i].memory < BIT(e));
#endif
    instance[i].memory = instance[i].memory | BIT(e)
}

#define HAS_ANSWER(l) (link[l].at == refused || link[l].at == taken || link[l].at == confirmed || \
                       link[l].at == xacked || link[l].at == page || link[l].at == entry)

inline hear(i, l)
{
    if
    :: link[l].at == taken || link[l].at == confirmed ->
        printf("instance %d hears on link %d that it has the lease\n", i, l);
        hear_grant(i, l)
    :: link[l].at == refused ->
        printf("instance %d hears on link %d that another has the lease\n", i, l);
        over = 1
    :: link[l].at == xacked ->
        printf("instance %d hears that XACK is done\n", i);
        instance[i].memory = instance[i].memory & ~link[l].set;
        instance[i].owed = instance[i].owed & ~link[l].set;
        link[l].set = 0;
        link[l].at = (link[l].alive -> idle : down)
    :: link[l].at == page || link[l].at == entry ->
        printf("instance %d hears of entry %d (-1: the history ends)\n", i, link[l].set - 1);
        if
        :: link[l].set == 0 ->
            instance[i].lane = live;
            instance[i].known = 0;
            instance[i].next = 0
        :: link[l].set != 0 && link[l].at == page ->
            instance[i].next = link[l].set;
            if
            :: (instance[i].known & BIT(link[l].set - 1)) == 0 -> take_in(i, link[l].set - 1)
            :: else
            fi
        :: else -> take_in(i, link[l].set - 1)
        fi;
        link[l].set = 0;
        link[l].at = (link[l].alive -> idle : down)
    fi
}

#define MAY_BE_LOST(l) (link[l].alive && losses > 0)

inline lose_link(i, l)
{
    printf("instance %d loses link %d\n", i, l);
    losses--;
    let_go(i, l)
}

#define CAN_XACK(i) (instance[i].owed != 0 && link[LINK(i, WRITE)].at == idle)

inline send_xack(i)
{
    printf("instance %d: XACK of the set %d\n", i, instance[i].owed);
    link[LINK(i, WRITE)].set = instance[i].owed;
    link[LINK(i, WRITE)].at = xacked;
    acknowledge(instance[i].owed)
}

#define CAN_READ_HISTORY(i) (link[LINK(i, READ)].at == idle && \
                             instance[i].lane == reading_history)

inline read_history(i)
{
    mask = pending & ~BEFORE(instance[i].next);
    link[LINK(i, READ)].set = (mask == 0 -> 0 : LOWEST(mask) + 1);
    link[LINK(i, READ)].at = page;
    printf("instance %d: XREADGROUP of its history\n", i);
    mask = 0
}

#ifdef NO_HISTORY_FIRST
#define CAN_READ_NEW(i) (link[LINK(i, READ)].at == idle && instance[i].lane != not_begun)
#else
#define CAN_READ_NEW(i) (link[LINK(i, READ)].at == idle && instance[i].lane == live)
#endif

inline read_new(i)
{
    printf("instance %d: XREADGROUP of new entries\n", i);
    if
    :: delivered < added ->
        deliver();
        link[LINK(i, READ)].set = delivered;
        link[LINK(i, READ)].at = entry
    :: else -> link[LINK(i, READ)].at = parked
    fi
}

/* ---- what an instance does with its connections --------------------------------------------- */

#ifdef NO_CHECK
#define MAY_WRITE(i) true
#else
#define MAY_WRITE(i) instance[i].valid
#endif

#ifdef NO_BROKER_FENCE
#define SAME_CLIENT(x, y) (CLIENT_ID(x) == CLIENT_ID(y) && INSTANCE_OF(x) == INSTANCE_OF(y))
#else
#define SAME_CLIENT(x, y) (CLIENT_ID(x) == CLIENT_ID(y))
#endif

/* A connection that was begun while the lease was valid comes without another look at it. */
#define CAN_CONNECT(i, n) (instance[i].mode == held && !connection[CONNECTION(i, n)].alive && \
                           ((instance[i].redials & BIT(n)) != 0 || MAY_WRITE(i)))

/* [MQTT-3.1.4-3]: the older connection of the same client identifier is closed; what the broker has
 * not read of it is never read. */
inline connect(i, n)
{
    printf("the broker reads CONNECT of instance %d\n", i);
    for (scan : 0 .. 4 * CONNECTIONS - 1) {
        if
        :: SAME_CLIENT(CONNECTION(i, n), scan) ->
            connection[scan].alive = 0;
            connection[scan].unread = 0
        :: else
        fi
    }
    scan = 0;
    connection[CONNECTION(i, n)].alive = 1;
    connection[CONNECTION(i, n)].pubacks = 0;
    instance[i].sent = instance[i].sent & ~OF_CONNECTION(n); /* flow.c, on_lost: to be sent again */
    instance[i].redials = instance[i].redials & ~BIT(n);
    if
    :: connection[CONNECTION(i, 0)].alive && connection[CONNECTION(i, CONNECTIONS - 1)].alive ->
        instance[i].open = 1
    :: else
    fi
}

/* slot.c, slot_turn: nothing is published without a look at the lease. */
#define CAN_PUBLISH(i, n) (instance[i].open && connection[CONNECTION(i, n)].alive && \
                           (UNSENT(i) & OF_CONNECTION(n)) != 0 && MAY_WRITE(i))

inline publish(i, n)
{
    e = LOWEST(UNSENT(i) & OF_CONNECTION(n));
    printf("instance %d writes the publish of entry %d\n", i, e);
    connection[CONNECTION(i, n)].unread = connection[CONNECTION(i, n)].unread | BIT(e);
#ifdef XACK_EARLY
    instance[i].owed = instance[i].owed | BIT(e);
#else
    instance[i].sent = instance[i].sent | BIT(e);
#endif
    e = 0
}

#define HAS_PUBACK(i, n) (connection[CONNECTION(i, n)].pubacks != 0)

inline hear_puback(i, n)
{
    e = LOWEST(connection[CONNECTION(i, n)].pubacks);
    printf("instance %d reads PUBACK of entry %d\n", i, e);
    connection[CONNECTION(i, n)].pubacks = connection[CONNECTION(i, n)].pubacks & ~BIT(e);
    puback_received = puback_received | BIT(e);
    instance[i].sent = instance[i].sent & ~BIT(e);
    instance[i].owed = instance[i].owed | BIT(e);
    e = 0
}

/* The instance gives a connection up. Of what the broker has not read, the first so many publishes
 * may still arrive. */
inline let_go_of_connection(x)
{
    do
    :: connection[x].unread != 0 ->
        connection[x].unread = connection[x].unread & ~BIT(HIGHEST(connection[x].unread))
    :: break
    od;
    skip; /* a loop may not end at a d_step */
    d_step {
        if
        :: connection[x].unread != 0 ->
            connection[GHOST_OF(x)].unread = connection[x].unread;
            connection[GHOST_OF(x)].alive = 1;
            connection[x].unread = 0
        :: else
        fi;
        connection[x].alive = 0
    }
}

/* ---- an instance at work -------------------------------------------------------------------- */

#define EITHER_LINK(i, condition) (condition(LINK(i, READ)) || condition(LINK(i, WRITE)))
#define CHOOSE_LINK(i, l, condition) \
    if \
    :: condition(LINK(i, READ)) -> l = LINK(i, READ) \
    :: condition(LINK(i, WRITE)) -> l = LINK(i, WRITE) \
    fi
#define IS_KILLING(l) (link[l].at == kill)
#define SOME_CONNECTION(i) (connection[CONNECTION(i, 0)].alive || \
                            connection[CONNECTION(i, CONNECTIONS - 1)].alive)

inline choose_connection(i)
{
    if
    :: connection[CONNECTION(i, 0)].alive -> x = CONNECTION(i, 0)
    :: connection[CONNECTION(i, CONNECTIONS - 1)].alive -> x = CONNECTION(i, CONNECTIONS - 1)
    fi
}

active [2] proctype Run()
{
    byte l, x, e, scan, mask;
    bit over;
end:
    do
    /* -- the Redis links */
    :: atomic { WANTS_LINK(_pid, WRITE) -> open_link(_pid, WRITE) }
    :: atomic { WANTS_LINK(_pid, READ) -> open_link(_pid, READ) }
    :: atomic { EITHER_LINK(_pid, HAS_ANSWER) ->
        CHOOSE_LINK(_pid, l, HAS_ANSWER);
        d_step { hear(_pid, l); l = 0 };
        if
        :: over -> goto start_over
        :: else
        fi }
    :: atomic { EITHER_LINK(_pid, IS_KILLING) ->
        CHOOSE_LINK(_pid, l, IS_KILLING);
        d_step { begin(_pid, l); l = 0 };
        if
        :: over -> goto start_over
        :: else
        fi }
    /* lease.c, renew_script: only the holder extends. */
    :: atomic { instance[_pid].mode == held && !instance[_pid].valid &&
        (link[LINK(_pid, WRITE)].at == idle || link[LINK(_pid, WRITE)].at == xacked) &&
        link[LINK(_pid, WRITE)].alive ->
        printf("instance %d renews\n", _pid);
        if
        :: holder == _pid -> instance[_pid].valid = 1
        :: else -> goto start_over
        fi }
    /* Commands that were written while the lease was valid may be carried out at any later time:
     * so there is no look at the lease here. Safe they are by the kills alone. */
    :: d_step { CAN_XACK(_pid) -> send_xack(_pid) }
    :: d_step { CAN_READ_HISTORY(_pid) -> read_history(_pid) }
    :: d_step { CAN_READ_NEW(_pid) -> read_new(_pid) }

    /* -- the connections */
    :: d_step { CAN_CONNECT(_pid, 0) -> connect(_pid, 0) }
    :: d_step { CAN_PUBLISH(_pid, 0) -> publish(_pid, 0) }
    :: d_step { HAS_PUBACK(_pid, 0) -> hear_puback(_pid, 0) }
#if CONNECTIONS == 2
    :: d_step { CAN_CONNECT(_pid, 1) -> connect(_pid, 1) }
    :: d_step { CAN_PUBLISH(_pid, 1) -> publish(_pid, 1) }
    :: d_step { HAS_PUBACK(_pid, 1) -> hear_puback(_pid, 1) }
#endif

    /* -- faults: a link is lost; a connection is lost; its deadline passes, because it is paused or
     * cut off from Redis; a link is lost before Redis has read the lease script; kill -9, and
     * another process is started in its place, or not if the other instance lives. */
    :: atomic { EITHER_LINK(_pid, MAY_BE_LOST) ->
        CHOOSE_LINK(_pid, l, MAY_BE_LOST);
        lose_link(_pid, l);
        l = 0 }
    :: atomic { losses > 0 && SOME_CONNECTION(_pid) ->
        choose_connection(_pid);
        printf("instance %d loses its connection\n", _pid);
        losses--;
        let_go_of_connection(x);
        x = 0 }
    :: atomic { deadlines > 0 && instance[_pid].valid ->
        printf("the deadline of instance %d passes\n", _pid);
        deadlines--;
        instance[_pid].valid = 0;
        for (x : 0 .. CONNECTIONS - 1) {
            if
            :: instance[_pid].mode == held && !connection[CONNECTION(_pid, x)].alive ->
                instance[_pid].redials = instance[_pid].redials | BIT(x)
            :: true
            fi
        }
        x = 0 }
    :: d_step { losses > 0 && instance[_pid].mode != dead && link[LINK(_pid, WRITE)].at == down &&
        link[GHOST(LINK(_pid, WRITE))].at == down ->
        printf("instance %d takes the lease on a link that is lost\n", _pid);
        losses--;
        link[GHOST(LINK(_pid, WRITE))].at = late_take;
        link[GHOST(LINK(_pid, WRITE))].alive = 1 }
    :: atomic { kills > 0 && instance[_pid].mode != dead ->
        printf("instance %d is killed\n", _pid);
        kills--;
        if
        :: holder == _pid -> holder = A_DEAD_ONE
        :: else
        fi;
        if
        :: instance[1 - _pid].mode != dead -> instance[_pid].mode = dead
        :: instance[_pid].mode = waiting
        fi;
        link[GHOST(LINK(_pid, WRITE))].orphan = link[GHOST(LINK(_pid, WRITE))].at == late_take;
        goto start_over }

    /* -- slot.c, slot_start_over: all that is in memory is forgotten. So it is in a process that
     * dies. */
    :: atomic { false ->
start_over:
        printf("instance %d forgets all\n", _pid);
        let_go(_pid, LINK(_pid, READ));
        let_go(_pid, LINK(_pid, WRITE));
        for (x : CONNECTION(_pid, 0) .. CONNECTION(_pid, CONNECTIONS - 1)) {
            if
            :: connection[x].alive -> let_go_of_connection(x)
            :: else
            fi;
            connection[x].pubacks = 0
        }
        x = 0;
        d_step {
            over = 0;
            if
            :: instance[_pid].mode == held -> instance[_pid].mode = waiting
            :: else
            fi;
            instance[_pid].valid = 0;
            instance[_pid].knows_term = 0;
            instance[_pid].was_held = 0;
            instance[_pid].was_fresh = 0;
            instance[_pid].memory = 0;
            instance[_pid].sent = 0;
            instance[_pid].owed = 0;
            instance[_pid].open = 0;
            instance[_pid].redials = 0
        } }
    od
}

/* ---- Redis at work, beside what the instances' steps do in it -------------------------------- */

#define IS_PARKED(l) (link[l].at == parked)
#define IS_LATE(l) (link[l].at == late_read)
#define LATE_TAKE_IS_GRANTED(l) (link[l].at == late_take && \
                                 (holder != OWNER(l) || link[l].orphan) && \
                                 (holder >= NOBODY || MAY_RUN_OUT(holder)))

inline serve(l)
{
    printf("entry %d goes to the read parked on link %d\n", delivered, l);
    deliver();
    if
    :: IS_GHOST(l) -> rename_in_kills(l, l); clear_link(l)
    :: else -> link[l].set = delivered; link[l].at = entry
    fi
}

active proctype Redis()
{
    byte l, scan;
end:
    do
    /* A producer adds an entry; a parked read gets it at once. */
    :: atomic { added < ENTRIES ->
        printf("entry %d is added\n", added);
        added++;
        if
        :: IS_PARKED(LINK(0, READ)) -> l = LINK(0, READ); goto served
        :: IS_PARKED(LINK(1, READ)) -> l = LINK(1, READ); goto served
        :: IS_LATE(GHOST(LINK(0, READ))) -> l = GHOST(LINK(0, READ)); goto served
        :: IS_LATE(GHOST(LINK(1, READ))) -> l = GHOST(LINK(1, READ)); goto served
        :: else
        fi }
    :: atomic { false ->
served:
        printf("... ");
        d_step { serve(l); l = 0 } }
    /* Ghosts: Redis reads what was left in their sockets. */
    :: d_step { delivered < added && IS_LATE(GHOST(LINK(0, READ))) ->
        serve(GHOST(LINK(0, READ))) }
    :: d_step { delivered < added && IS_LATE(GHOST(LINK(1, READ))) ->
        serve(GHOST(LINK(1, READ))) }
    :: atomic {
        if
        :: link[GHOST(LINK(0, WRITE))].at == late_xack -> l = GHOST(LINK(0, WRITE))
        :: link[GHOST(LINK(1, WRITE))].at == late_xack -> l = GHOST(LINK(1, WRITE))
        :: LATE_TAKE_IS_GRANTED(GHOST(LINK(0, WRITE))) -> l = GHOST(LINK(0, WRITE))
        :: LATE_TAKE_IS_GRANTED(GHOST(LINK(1, WRITE))) -> l = GHOST(LINK(1, WRITE))
        fi;
        d_step {
            if
            :: link[l].at == late_xack ->
                printf("Redis reads a late XACK of instance %d\n", OWNER(l));
                acknowledge(link[l].set)
            :: else ->
                printf("Redis reads a late lease script of instance %d\n", OWNER(l));
                set_holder((link[l].orphan -> A_DEAD_ONE : OWNER(l)))
            fi;
            rename_in_kills(l, l);
            clear_link(l);
            l = 0
        } }
    od
}

/* ---- the broker at work --------------------------------------------------------------------- */

inline take_publish(x)
{
    e = LOWEST(connection[x].unread);
    printf("publish of entry %d arrives from instance %d\n", e, INSTANCE_OF(x));
    connection[x].unread = connection[x].unread & ~BIT(e);
    ORDER_KEPT((seen & BIT(e)) != 0 || (OF_KEY(KEY(e)) & BEFORE(e) & ~seen) == 0);
    seen = seen | BIT(e);
    retained[KEY(e)] = e + 1;
    check_acked();
    if
    :: x < 2 * CONNECTIONS -> connection[x].pubacks = connection[x].pubacks | BIT(e)
    :: x >= 2 * CONNECTIONS && connection[x].unread == 0 -> connection[x].alive = 0
    :: else
    fi;
    e = 0
}

active proctype Broker()
{
    byte x, e;
end:
    do
    :: atomic {
        if
        :: connection[0].unread != 0 -> x = 0
        :: connection[1].unread != 0 -> x = 1
        :: connection[2].unread != 0 -> x = 2
        :: connection[3].unread != 0 -> x = 3
#if CONNECTIONS == 2
        :: connection[4].unread != 0 -> x = 4
        :: connection[5].unread != 0 -> x = 5
        :: connection[6].unread != 0 -> x = 6
        :: connection[7].unread != 0 -> x = 7
#endif
        fi;
        d_step { take_publish(x); x = 0 }
    }
    od
}

/* ---- the end -------------------------------------------------------------------------------- */

/* Nothing can happen any more: faults are spent or do not come, and somebody lives. No step can be
 * repeated for ever (run.sh checks that there is no cycle), so that every run ends here. */
#define NEWEST(e) ((seen & BIT(e)) == 0 || retained[KEY(e)] >= (e) + 1)

active proctype Judge()
{
end:
    atomic {
        timeout ->
        NONE_FORGOTTEN(added == ENTRIES && delivered == added && pending == 0 &&
                       seen == BIT(ENTRIES) - 1);
        RETAINED_TRUE(NEWEST(0) && NEWEST(1) && NEWEST(2) && NEWEST(3))
    }
}
