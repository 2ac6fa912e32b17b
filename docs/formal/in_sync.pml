/* The in-sync set of acknowledgement mode in_sync_all, for spin: no majority helps here. What a client was told is kept
 * as long as one member of the published set is left, so any one of them may be made the leader. README.md beside it
 * says what the symbols switch off. `scripts/model` runs it.
 *
 * A log is its size (histories cannot differ here: failover.pml looks after that). Sets are bit masks, bit n for node n.
 */
#ifndef RECORDS
#define RECORDS 3
#endif
#ifndef EPOCHS
#define EPOCHS 3
#endif
#define BIT(x) (1 << (x))

byte log[3];          /* written at a node */
byte disk[3];         /* synced */
byte promised[3] = 1; /* durable epoch below which a node refuses everything */
bool lost[3];         /* gone for ever, disk and all */

/* The register: every change is a compare and swap that only the holder of the key gets through. */
byte granted = 1;
byte holder = 0;
byte published = 7;   /* the in-sync set that candidates are judged by */

/* By leader; a deposed one does not know it. */
byte leads[3];
byte waits[3];        /* whose synced acknowledgement the leader waits for: at least what is published */
byte size[EPOCHS + 1]; /* what the leader of an epoch has shipped */byte began[EPOCHS + 1]; /* what it held when it took effect: older leaders may have acknowledged all of it */
byte told_in[EPOCHS + 1]; /* observer: what clients were promised, by the leader of which epoch */
#ifdef GROW_BEFORE_WAITING
bool seen[3];         /* whom the leader saw caught up */
#endif

byte e;

#define HAS(who, x) (((who) & BIT(x)) != 0)
/* What a member must have synced before it is published. */
#define CAUGHT_UP(epoch) (told_in[epoch] > began[epoch] -> told_in[epoch] : began[epoch])
#define HOLDS(x) (leads[x] == granted && holder == x)
/* An acknowledgement is of the epoch that the node is in. */
#define ANSWERED(x, s) (!HAS(waits[me], x) || x == me || (disk[x] >= (s) && promised[x] == leads[me] && !lost[x]))
#define EVERYONE(s) (ANSWERED(0, s) && ANSWERED(1, s) && ANSWERED(2, s))

inline follow(x) { leads[x] = 0; waits[x] = 0 }

proctype node(byte me) {
  do
  /* The leader writes and ships. */
  :: d_step { !lost[me] && leads[me] != 0 && log[me] < RECORDS ->
    log[me]++; disk[me] = log[me]; size[leads[me]] = disk[me];
    printf("MODEL node %d, epoch %d: as leader writes record %d\n", me, leads[me], log[me]) }

#define RECEIVE(epoch) \
  :: d_step { !lost[me] && promised[me] <= epoch && leads[me] != epoch && log[me] < size[epoch] -> \
    if :: promised[me] < epoch -> promised[me] = epoch; follow(me) :: else fi; \
    log[me]++; printf("MODEL node %d, epoch %d: writes record %d\n", me, epoch, log[me]) }
  RECEIVE(1)
  RECEIVE(2)
  RECEIVE(3)
  :: d_step { !lost[me] && log[me] != disk[me] -> disk[me] = log[me]; printf("MODEL node %d, epoch %d: syncs\n", me, promised[me]) }

  /* It tells the client when everyone whom it waits for has synced. */
  :: d_step { !lost[me] && leads[me] != 0 && disk[me] > told_in[leads[me]] && EVERYONE(told_in[leads[me]] + 1) ->
    told_in[leads[me]]++;
#ifdef REACH_ALONE
    assert(waits[me] != BIT(me));
#endif
    printf("MODEL node %d, epoch %d: as leader acknowledges to its client %d\n", me, leads[me], told_in[leads[me]]);
    e = leads[me] + 1;
    do
    :: e <= EPOCHS -> assert(size[e] == 0 || size[e] >= told_in[leads[me]]); e++ /* a newer leader has it too */
    :: else -> break
    od;
    e = 0 }

/* Shrink: publish, then stop waiting. Grow: wait, let it catch up with all that clients were told, then publish. */
#ifdef UNORDERED_IN_SYNC
#define SHRINK(x) \
  :: d_step { !lost[me] && leads[me] != 0 && x != me && HAS(waits[me], x) -> \
    waits[me] = waits[me] & ~BIT(x); printf("MODEL node %d, epoch %d: stops waiting for node %d\n", me, leads[me], x) } \
  :: d_step { !lost[me] && HOLDS(me) && x != me && !HAS(waits[me], x) && HAS(published, x) -> \
    published = published & ~BIT(x); printf("MODEL node %d, epoch %d: publishes the set without node %d\n", me, leads[me], x) }
#else
#define SHRINK(x) \
  :: d_step { !lost[me] && HOLDS(me) && x != me && HAS(published, x) -> \
    published = published & ~BIT(x); printf("MODEL node %d, epoch %d: publishes the set without node %d\n", me, leads[me], x) } \
  :: d_step { !lost[me] && HOLDS(me) && x != me && HAS(waits[me], x) && !HAS(published, x) -> \
    waits[me] = waits[me] & ~BIT(x); printf("MODEL node %d, epoch %d: stops waiting for node %d\n", me, leads[me], x) }
#endif
#ifdef GROW_BEFORE_WAITING
/* "Caught up, then publish, then count it": what is acknowledged in between is not at the new member. */
#define GROW(x) \
  :: d_step { !lost[me] && leads[me] != 0 && x != me && !lost[x] && !HAS(waits[me], x) && !seen[x] && disk[x] >= CAUGHT_UP(leads[me]) \
      && promised[x] == leads[me] -> \
    seen[x] = true; printf("MODEL node %d, epoch %d: sees node %d caught up\n", me, leads[me], x) } \
  :: d_step { !lost[me] && HOLDS(me) && x != me && seen[x] && !HAS(published, x) -> \
    published = published | BIT(x); printf("MODEL node %d, epoch %d: publishes the set with node %d\n", me, leads[me], x) } \
  :: d_step { !lost[me] && leads[me] != 0 && x != me && seen[x] && HAS(published, x) && !HAS(waits[me], x) -> \
    seen[x] = false; waits[me] = waits[me] | BIT(x); printf("MODEL node %d, epoch %d: waits for node %d\n", me, leads[me], x) }
#else
#define GROW(x) \
  :: d_step { !lost[me] && HOLDS(me) && x != me && !HAS(waits[me], x) -> \
    waits[me] = waits[me] | BIT(x); printf("MODEL node %d, epoch %d: waits for node %d\n", me, leads[me], x) } \
  :: d_step { !lost[me] && HOLDS(me) && x != me && HAS(waits[me], x) && !HAS(published, x) && ANSWERED(x, CAUGHT_UP(leads[me])) -> \
    published = published | BIT(x); printf("MODEL node %d, epoch %d: publishes the set with node %d\n", me, leads[me], x) }
#endif
  SHRINK(0)
  SHRINK(1)
  SHRINK(2)
  GROW(0)
  GROW(1)
  GROW(2)

  :: d_step { !lost[me] && (log[me] != disk[me] || leads[me] != 0) ->
    log[me] = disk[me]; follow(me); printf("MODEL node %d, epoch %d: crashes and restarts\n", me, promised[me]) }
  :: d_step { !lost[me] -> lost[me] = true; log[me] = 0; disk[me] = 0; follow(me);
    printf("MODEL node %d is lost\n", me) }

  /* Leadership goes to a member of the published set. The key moves first; from then on the old leader changes nothing
   * in the register. */
  :: d_step { !lost[me] && granted < EPOCHS && HAS(published, me) && leads[me] != granted ->
    granted++; holder = me; promised[me] = granted; log[me] = disk[me];
    printf("MODEL node %d, epoch %d: takes effect as leader above %d\n", me, granted, disk[me]);
#ifdef REACH_TAKEOVER
    assert(disk[me] < 2);
#endif
    e = 1;
    do
    :: e < granted -> assert(told_in[e] <= disk[me]); e++ /* no acknowledged record is lost */
    :: else -> break
    od;
    e = 0;
    leads[me] = granted; size[granted] = disk[me]; told_in[granted] = 0; waits[me] = published; began[granted] = disk[me] }
  od
}

init {
  atomic { leads[0] = 1; waits[0] = 7; run node(0); run node(1); run node(2) }
}
