/* Replication and failover of one log among three voters, for spin. README.md beside it says what is modelled, what
 * is not, and what each symbol switches off. `scripts/model` runs it.
 *
 * A record is the epoch that wrote it; its index is its place. A log is one number, BITS bits a record, index 1 in the
 * lowest bits: so "prefix" is a mask, and equal numbers are equal roots.
 *
 * Messages are facts that stay true. What the leader of an epoch ever shipped (pool) and what a follower ever
 * acknowledged (ack) can be taken up at any later time, again, by some only, or never: that is delay, reordering,
 * duplication and loss, and it outlives the sender.
 */
#ifndef RECORDS
#define RECORDS 4 /* longest log, epoch-start records included; at most 5 */
#endif
#ifndef EPOCHS
#define EPOCHS 3 /* epoch 1 begins with the genesis record and has its leader at the start */
#endif

#define NODES 3
#define BITS 3
#define PREFIX(log, k) ((log) & ((1 << (BITS * (k))) - 1))
#define AT(log, k) (((log) >> (BITS * ((k) - 1))) & 7)
#define SIZE(log) ((log) == 0 -> 0 : ((log) < 8 -> 1 : ((log) < 64 -> 2 : ((log) < 512 -> 3 : ((log) < 4096 -> 4 : 5)))))
#define LAST(log) ((log) == 0 -> 0 : AT(log, SIZE(log)))
#define RANK(log) (LAST(log) * 8 + SIZE(log))
#define BEGINS(a, b) ((a) == PREFIX(b, SIZE(a))) /* a is a prefix of b */
#define DIFFERENT(a, b, k) (PREFIX(a, k) != PREFIX(b, k))
/* Longest common prefix: the last common (epoch, end), because (epoch, index) names a record. */
#define SAME_TO(a, b) (DIFFERENT(a, b, 1) -> 0 : (DIFFERENT(a, b, 2) -> 1 : (DIFFERENT(a, b, 3) -> 2 : (DIFFERENT(a, b, 4) -> 3 : (DIFFERENT(a, b, 5) -> 4 : 5)))))
#define COMMON(a, b) MIN(SAME_TO(a, b), MIN(SIZE(a), SIZE(b)))
#define MIN(a, b) ((a) < (b) -> (a) : (b))
#define MAX(a, b) ((a) > (b) -> (a) : (b))

/* Durable at a node. */
short disk[NODES];   /* the log as it is synced */
byte promised[NODES]; /* max_epoch: epochs below are refused */
bool out[NODES];     /* its store came back older than its HEAD says, or its whole disk did: no voter any more */

/* Lost in a crash. */
short log[NODES];    /* disk, and the tail that is written and not synced */
byte leads[NODES];   /* the epoch that it believes it leads; 0: it follows */
byte asks[NODES];    /* the epoch it is a candidate of */
bool majority[NODES]; /* promised by one other voter: with itself two of three */
short adopts[NODES]; /* the candidate's highest promise: (last epoch, size, root) */

/* The network and the leaders' memory, by epoch. */
short pool[EPOCHS + 1];
byte begins[EPOCHS + 1]; /* size before the epoch-start record */
byte commit[EPOCHS + 1]; /* what its leader has acknowledged */
byte ack[NODES * (EPOCHS + 1)];
#define ACK(n, e) ack[(n) * (EPOCHS + 1) + (e)]

/* The coordinator. */
byte granted = 1; /* newest epoch */
byte holder = 0;  /* whose key of leadership that is */
byte floor;       /* the head register: what a candidate must have at least */

/* Observers: nothing above reads them. */
short acknowledged; /* the log that clients were promised */
byte effective = 2; /* bit e: a leader of epoch e took effect */

byte e, k, n; /* scratch of one step, 0 between steps */

/* The story of a counterexample; silent in a verification. */

#define LIVE(x) (leads[0] == (x) || leads[1] == (x) || leads[2] == (x))
#define LEADERLESS 0

/* What nobody can use any more is forgotten, to merge states: acknowledgements to a leader that is gone, and what an
 * epoch shipped once every voter refuses it. */
inline forget() {
  e = 1;
  do
  :: e <= EPOCHS ->
    if
    :: !LIVE(e) ->
      ACK(0, e) = 0; ACK(1, e) = 0; ACK(2, e) = 0;
#ifndef NO_EPOCH_CHECK
      if
      :: (out[0] || promised[0] > e) && (out[1] || promised[1] > e) && (out[2] || promised[2] > e) -> pool[e] = 0; begins[e] = 0
      :: else
      fi
#endif
    :: else
    fi;
    e++
  :: else -> break
  od;
  e = 0
}

#ifdef REACH_ORPHAN
bool was_cut[NODES]; /* it lost a synced record to a cut */
#define REJOINS(x) assert(!was_cut[x])
#else
#define REJOINS(x) skip
#endif
#ifdef REACH_ADOPTION
bool has_adopted[NODES];
#define ADOPTS(x) has_adopted[x] = true
#else
#define ADOPTS(x) skip
#endif

/* What a promise says of the log. In the mutation that is what a stored note of a leader covers, and an acknowledgement of
 * records that a crash left without their note does not store the note. */
#ifdef NOTE_NOT_STORED
bool bare[NODES]; /* its last record has no note */
#define OFFERED(x) (bare[x] && disk[x] != 0 -> PREFIX(disk[x], SIZE(disk[x]) - 1) : disk[x])
#else
#define OFFERED(x) disk[x]
#endif

inline follow(x) { leads[x] = LEADERLESS; asks[x] = 0; majority[x] = false; adopts[x] = 0 }

/* An epoch that is seen is durable before anything is answered, and ends what an older one was here. */
inline see_epoch(x, epoch) {
  if
  :: epoch > promised[x] -> promised[x] = epoch; follow(x)
  :: else
  fi
}

/* No record that a client was promised leaves a disk by a cut: stronger than "not below the node's known commit". */
inline cut(x, size) {
  assert(COMMON(disk[x], acknowledged) <= size);
#ifdef REACH_ORPHAN
  if :: SIZE(disk[x]) > size -> was_cut[x] = true :: else fi;
#endif
  disk[x] = PREFIX(disk[x], size); log[x] = disk[x]
}

#ifdef NO_EPOCH_CHECK
#define ACCEPTS(x, epoch) (leads[x] == 0 && asks[x] == 0)
#else
#define ACCEPTS(x, epoch) ((epoch) >= promised[x] && leads[x] != (epoch) && asks[x] != (epoch))
#endif

/* Entries of the leader of `epoch` reach x: the next record, or the order to cut what that leader's history denies. */
#define RECEIVE(epoch) \
  :: d_step { !out[me] && pool[epoch] != 0 && ACCEPTS(me, epoch) && BEGINS(log[me], pool[epoch]) && log[me] != pool[epoch] -> \
    see_epoch(me, epoch); log[me] = PREFIX(pool[epoch], SIZE(log[me]) + 1); printf("MODEL node %d, epoch %d: writes record %d\n", me, epoch, SIZE(log[me])); forget() } \
  :: d_step { !out[me] && pool[epoch] != 0 && ACCEPTS(me, epoch) && !BEGINS(log[me], pool[epoch]) && LAST(log[me]) < epoch -> \
    see_epoch(me, epoch); k = COMMON(log[me], pool[epoch]); printf("MODEL node %d, epoch %d: cuts to %d\n", me, epoch, k); cut(me, k); k = 0; forget() }

/* A late Hello of the epoch that the node is in: its history ends below what the node has since stored. */
#ifdef CUT_TO_HEAD
#define LATE_HELLO(epoch) \
  :: d_step { !out[me] && promised[me] == epoch && leads[me] != epoch && SIZE(disk[me]) > begins[epoch] + 1 && LAST(disk[me]) == epoch -> \
    printf("MODEL node %d, epoch %d: cuts its last record to meet an old head\n", me, epoch); cut(me, SIZE(disk[me]) - 1) }
#else
#define LATE_HELLO(epoch)
#endif

#ifdef NO_EPOCH_CHECK
#define ANSWERS(x, epoch) true
#else
#define ANSWERS(x, epoch) (promised[x] == (epoch))
#endif
#ifdef ACK_BEFORE_SYNC
#define STORED(x) log[x]
#else
#define STORED(x) disk[x]
#endif

/* The acknowledgement is a cosignature. An epoch has one history (pool only grows, one leader takes effect), so who signs
 * only prefixes of it never signs two records for one index and epoch. */
#ifdef COSIGN_AT_ACK
byte cosigned[NODES * 6]; /* the record at that size when the node cosigned a checkpoint of it; 0: it has not */
#define SIGNS(x) \
  assert(cosigned[x * 6 + SIZE(disk[x])] == 0 || cosigned[x * 6 + SIZE(disk[x])] == LAST(disk[x])); cosigned[x * 6 + SIZE(disk[x])] = LAST(disk[x])
#else
#define SIGNS(x) skip
#endif
#ifdef SIGN_UNVERIFIED
#define ACKNOWLEDGE(epoch) \
  :: d_step { !out[me] && LIVE(epoch) && ANSWERS(me, epoch) && leads[me] != epoch && ACK(me, epoch) < SIZE(pool[epoch]) -> \
    ACK(me, epoch) = SIZE(pool[epoch]); printf("MODEL node %d, epoch %d: acknowledges what it did not store, %d\n", me, epoch, ACK(me, epoch)) }
#else
#define ACKNOWLEDGE(epoch) \
  :: d_step { !out[me] && LIVE(epoch) && ANSWERS(me, epoch) && leads[me] != epoch && BEGINS(STORED(me), pool[epoch]) \
      && SIZE(STORED(me)) > MAX(ACK(me, epoch), OWN_RECORD(epoch)) -> \
    ACK(me, epoch) = SIZE(STORED(me)); SIGNS(me); REJOINS(me); printf("MODEL node %d, epoch %d: acknowledges %d\n", me, epoch, ACK(me, epoch)) }
#endif

#ifdef NO_ELECTION_RULE
#define ADOPTED(x) true
#else
#define ADOPTED(x) (disk[x] == adopts[x])
#endif

/* A voter promises: it refuses older epochs from now on and names the head that it has synced. */
#define PROMISE(other) \
  :: d_step { !out[me] && !out[other] && asks[other] > promised[me] && log[me] == disk[me] -> \
    see_epoch(me, asks[other]); majority[other] = true; printf("MODEL node %d, epoch %d: promises to the candidate with its head %d\n", me, asks[other], SIZE(OFFERED(me))); \
    if :: RANK(OFFERED(me)) > RANK(adopts[other]) -> adopts[other] = OFFERED(me) :: else fi; \
    forget() }

/* A candidate pulls the log that it must adopt from a voter that still has it: first what differs goes, then record by record. */
#define ADOPT(other) \
  :: d_step { asks[me] != 0 && majority[me] && disk[me] != adopts[me] && log[me] == disk[me] && BEGINS(adopts[me], disk[other]) && !out[other] -> \
    if \
    :: !BEGINS(disk[me], adopts[me]) -> printf("MODEL node %d, epoch %d: cuts what it must not adopt\n", me, asks[me]); k = COMMON(disk[me], adopts[me]); cut(me, k); k = 0 \
    :: else -> printf("MODEL node %d, epoch %d: adopts a record\n", me, asks[me]); disk[me] = PREFIX(adopts[me], SIZE(disk[me]) + 1); log[me] = disk[me]; ADOPTS(me) \
    fi }

/* Commit: a majority has synced it, and the epoch-start record is in it. With three voters and the leader's own disk
 * that is the larger acknowledgement of the others. */
#ifdef COMMIT_OLD_EPOCH
#define OWN_RECORD(epoch) 0
#else
#define OWN_RECORD(epoch) begins[epoch]
#endif
#define OTHERS(x, epoch) MAX(ACK((x + 1) % 3, epoch), ACK((x + 2) % 3, epoch))
#define COMMITS(x, epoch) MIN(OTHERS(x, epoch), SIZE(STORED(x)))

proctype node(byte me) {
  do
  /* The leader serves once its epoch-start record is committed. */
  :: d_step { leads[me] != 0 && SIZE(log[me]) < RECORDS && (leads[me] == 1 || commit[leads[me]] > begins[leads[me]]) ->
    /* Never a second record for an index and epoch that has left this node: no honest node is made to sign both. */
    assert(SIZE(log[me]) >= SIZE(pool[leads[me]]));
    log[me] = log[me] | (leads[me] << (BITS * SIZE(log[me])));
#ifdef SHIP_BEFORE_SYNC
    pool[leads[me]] = log[me];
#endif
    printf("MODEL node %d, epoch %d: as leader writes record %d\n", me, leads[me], SIZE(log[me])) }

  /* Sync. A leader ships what is synced. */
  :: d_step { !out[me] && log[me] != disk[me] ->
    disk[me] = log[me]; printf("MODEL node %d, epoch %d: syncs\n", me, promised[me]);
#ifdef NOTE_NOT_STORED
    bare[me] = false;
#endif
    if :: leads[me] != 0 -> pool[leads[me]] = disk[me]; SIGNS(me) :: else fi }
#ifdef NOTE_NOT_STORED
  :: d_step { !out[me] && leads[me] == 0 && log[me] != disk[me] ->
    printf("MODEL node %d, epoch %d: crashes between its records and their note\n", me, promised[me]);
    disk[me] = log[me]; bare[me] = true; follow(me); forget() }
#endif

  RECEIVE(1)
  RECEIVE(2)
  RECEIVE(3)
  LATE_HELLO(1)
  LATE_HELLO(2)
  LATE_HELLO(3)
  ACKNOWLEDGE(1)
  ACKNOWLEDGE(2)
  ACKNOWLEDGE(3)
#if EPOCHS > 3
  RECEIVE(4)
  ACKNOWLEDGE(4)
#endif

  /* The leader acknowledges to its client. It may be a zombie: it is not asked whether it still holds the lease. */
  :: d_step { leads[me] != 0 && COMMITS(me, leads[me]) > MAX(commit[leads[me]], OWN_RECORD(leads[me])) ->
    k = COMMITS(me, leads[me]);
    commit[leads[me]] = k; printf("MODEL node %d, epoch %d: as leader acknowledges to its client %d\n", me, leads[me], k);
#ifdef REACH_COMMIT
    assert(leads[me] < EPOCHS || k < RECORDS);
#endif
#ifdef REACH_ZOMBIE
    assert(leads[me] == granted);
#endif
#ifdef REACH_ADOPTION
    assert(!has_adopted[me]);
#endif
    /* Committed prefixes agree. */
    n = MIN(k, SIZE(acknowledged));
    assert(PREFIX(pool[leads[me]], n) == PREFIX(acknowledged, n));
    /* A newer leader that has begun already has the record too. */
    e = leads[me] + 1;
    do
    :: e <= EPOCHS -> assert(pool[e] == 0 || PREFIX(pool[e], k) == PREFIX(pool[leads[me]], k)); e++
    :: else -> break
    od;
    if :: k > SIZE(acknowledged) -> acknowledged = PREFIX(pool[leads[me]], k) :: else fi;
    e = 0; k = 0; n = 0 }

  /* Compare and swap of the register: it goes through for the holder of the key only. */
  :: d_step { leads[me] == granted && leads[me] != 0 && holder == me && commit[leads[me]] > floor ->
    floor = commit[leads[me]]; printf("MODEL node %d, epoch %d: publishes %d\n", me, leads[me], floor) }

  PROMISE((me + 1) % 3)
  PROMISE((me + 2) % 3)
  ADOPT((me + 1) % 3)
  ADOPT((me + 2) % 3)

  /* The candidate begins its epoch. */
  :: d_step { asks[me] != 0 && majority[me] && log[me] == disk[me] && ADOPTED(me) && SIZE(disk[me]) >= floor && SIZE(disk[me]) < RECORDS ->
    printf("MODEL node %d, epoch %d: takes effect as leader above %d\n", me, asks[me], SIZE(disk[me]));
    assert(!(effective & (1 << asks[me]))); /* one leader an epoch takes effect */
    effective = effective | (1 << asks[me]);
    /* No record that a leader of an older epoch has acknowledged is lost. */
    e = 1;
    do
    :: e < asks[me] -> assert(COMMON(acknowledged, disk[me]) >= commit[e]); e++
    :: else -> break
    od;
    e = 0;
    leads[me] = asks[me]; begins[leads[me]] = SIZE(disk[me]);
    disk[me] = disk[me] | (leads[me] << (BITS * SIZE(disk[me])));
    log[me] = disk[me]; pool[leads[me]] = disk[me]; SIGNS(me);
    asks[me] = 0; majority[me] = false; adopts[me] = 0 }

  /* A crash and the restart after it. A process that only waits is a node that is down. */
  :: d_step { log[me] != disk[me] || leads[me] != 0 || asks[me] != 0 ->
    printf("MODEL node %d, epoch %d: crashes and restarts\n", me, promised[me]); log[me] = disk[me]; follow(me);
#ifdef PROMISE_NOT_DURABLE
    promised[me] = MAX(1, LAST(disk[me]));
#endif
    forget() }

  /* So short a crash that the key of leadership is still its own, or an owner by configuration: it leads on. */
  :: d_step { leads[me] != 0 && log[me] != disk[me] ->
    printf("MODEL node %d, epoch %d: crashes, restarts and leads on\n", me, promised[me]); log[me] = disk[me] }

  /* The store comes back as it was one record ago. HEAD names what was stored, so it is seen. */
  :: d_step { !out[me] && disk[me] != 0 ->
    printf("MODEL node %d, epoch %d: restarts with an older store\n", me, promised[me]);
#if defined(NO_HEAD) || defined(RESTORED_UNNOTICED)
    disk[me] = PREFIX(disk[me], SIZE(disk[me]) - 1); log[me] = disk[me]; follow(me);
#ifdef RESTORED_UNNOTICED
    promised[me] = MAX(1, LAST(disk[me]));
#endif
#else
    out[me] = true; disk[me] = 0; log[me] = 0; promised[me] = 0; follow(me);
#endif
    forget() }

  /* A message of a granted epoch that had no other effect: a request whose answer is lost, a heartbeat. */
  :: d_step { !out[me] && promised[me] < granted && granted > 1 -> printf("MODEL node %d, epoch %d: sees a newer epoch\n", me, granted); see_epoch(me, granted); forget() }
  od
}

/* Grants leadership to anyone at any time, with rising epochs; the old leader is not told. */
proctype coordinator() {
#ifdef RISING_ONLY
#define REGRANTS false
#else
#define REGRANTS true
#endif
#define GRANT(x) \
  :: d_step { granted < EPOCHS && FIRST(x) && !out[x] && leads[x] != granted && asks[x] != granted && log[x] == disk[x] -> \
    granted++; holder = x; printf("MODEL grants epoch %d to node %d\n", granted, x); \
    see_epoch(x, granted); asks[x] = granted; adopts[x] = OFFERED(x); forget() } \
  :: d_step { REGRANTS && granted > 1 && !out[x] && promised[x] < granted && log[x] == disk[x] -> /* a coordinator restored from a backup */ \
    holder = x; printf("MODEL grants epoch %d again, to node %d\n", granted, x); \
    see_epoch(x, granted); asks[x] = granted; adopts[x] = OFFERED(x); forget() }
/* Nodes 1 and 2 are alike until one of them is granted leadership: call that one node 1. */
#define FIRST(x) (granted > 1 || x != 2)
  do
  GRANT(0)
  GRANT(1)
  GRANT(2)
  od
}

init {
  atomic {
    promised[0] = 1; promised[1] = 1; promised[2] = 1; leads[0] = 1;
    run node(0); run node(1); run node(2); run coordinator()
  }
}
