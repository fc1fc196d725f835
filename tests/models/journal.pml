/* The journal at three sites: claim, append, commit, checkpoint, trim (docs/journal.md).
 *
 * Two writers lead one after another, and at the same time while one has not noticed that it was
 * superseded. A writer may crash or stop between any two of its steps. An append that was sent lands
 * at any later time or never, and its answer may be lost. What is checked:
 *   one history        a sequence is committed with one entry only
 *   nothing lost       who leads has every entry that a lower epoch acknowledges
 *   nothing divergent  what a leader serves is what was acknowledged
 * -DREREAD  directory sites: writes land whatever was claimed, and the writer reads its claim again
 *           before it counts a site. Without it: guarded stores refuse what is not of their epoch.
 * -DSTALLED begins where a writer has looked at sites that others have claimed since.
 * Each of these breaks the protocol and must be found by the checker:
 * -DBUG_NO_GUARD, -DBUG_NO_REREAD, -DBUG_NO_FLOOR, -DBUG_EARLY_REPLY, -DBUG_TRIM_FIRST,
 * -DBUG_READ_FIRST (the logs are read before the promise),
 * -DBUG_OLD_ENTRY  (an entry of an earlier epoch counts as committed by its copies alone).
 *
 * A log is kept once for each epoch (hist): a leader never changes what it has written. A site keeps
 * how much of each epoch's log it has; the highest epoch it has any of is its visible log.
 */
#define S 3
#ifndef EPOCHS
#define EPOCHS 2
#endif
#ifndef LEN
#define LEN 2
#endif
#define E1 4
#define L1 5

typedef Log { byte e[L1]; byte last };
typedef Site {
  byte claims;     /* claims given so far; their names are 1 to claims */
  byte claim[E1];  /* the epoch of each name */
  byte ghost[E1];  /* the epoch of a name that was collected and then made once more */
  byte floor;      /* no name below it counts; durable before any of them is collected */
  byte collected;  /* names up to this one are gone */
  byte begun[E1];  /* 1 and the entries of hist[epoch] it has; 0: none of that epoch */
  byte trimmed     /* entries up to this sequence are deleted */
};
/* Appends on their way, by epoch and site: 1 and the entries sent, 1 and those answered to a writer
 * that is there to hear it. */
typedef Wire { byte sent[S]; byte answered[S]; bit heard };

Log hist[E1];
Site site[S];
Wire wire[E1];
byte epochs;         /* given out; nonces make them unique */
byte acked[L1];      /* the epoch of the entry that was acknowledged under a sequence; 0: none */
byte acked_by[L1];   /* the epoch that acknowledged it */
byte root;           /* the checkpoint holds entries up to this one */

#define STANDS(s, n, e) \
  ((n == site[s].claims && n > site[s].collected) || (n != 0 && site[s].ghost[n] == e))

inline land(e, s) {
#if defined(REREAD) || defined(BUG_NO_GUARD)
  if :: wire[e].sent[s] > site[s].begun[e] -> site[s].begun[e] = wire[e].sent[s] :: else fi;
  if :: wire[e].heard -> wire[e].answered[s] = wire[e].sent[s] :: else fi;
#else
  if
  :: site[s].claim[site[s].claims] == e ->
     if :: wire[e].sent[s] > site[s].begun[e] -> site[s].begun[e] = wire[e].sent[s] :: else fi;
     if :: wire[e].heard -> wire[e].answered[s] = wire[e].sent[s] :: else fi
  :: else
  fi;
#endif
  wire[e].sent[s] = 0
}

#define OUT(a, b) :: wire[a].sent[b] -> e = a; s = b

/* What was sent lands at any later time. One that never does is lost, and so is an answer that the
 * writer does not look at. */
active proctype Network() {
  byte e, s;
end:
  do
  :: atomic {
       if
       OUT(1, 0) OUT(1, 1) OUT(1, 2) OUT(2, 0) OUT(2, 1) OUT(2, 2)
#if EPOCHS > 2
       OUT(3, 0) OUT(3, 1) OUT(3, 2)
#endif
       fi;
       land(e, s);
       e = 0; s = 0
     }
  od
}

/* A claim by the next name the writer knows of. A name that exists is looked at and the next one
 * tried; one that succeeds below the floor had been collected and says nothing. */
inline try_claim(s) {
  n = seen[s] + 1;
  if
  :: n > site[s].claims && site[s].claim[site[s].claims] < e ->
     site[s].claims++; site[s].claim[n] = e; name[s] = n; promises++
  :: n > site[s].claims && site[s].claim[site[s].claims] >= e -> lost = 1
  :: n <= site[s].claims && n <= site[s].collected ->
#ifdef REREAD
     if
#ifdef BUG_NO_FLOOR
     :: true -> site[s].ghost[n] = e; name[s] = n; promises++
#else
     :: n < site[s].floor -> lost = 1
     :: else -> site[s].ghost[n] = e; name[s] = n; promises++
#endif
     fi
#else
     seen[s] = site[s].claims
#endif
  :: n <= site[s].claims && n > site[s].collected -> seen[s] = site[s].claims
  fi;
  n = 0
}

/* The visible log of a site, kept if it ends later than the best so far. */
inline read_log(s) {
  b = EPOCHS;
  do :: b > 0 && site[s].begun[b] == 0 -> b-- :: else -> break od;
  if
  :: b > 0 ->
     n = site[s].begun[b] - 1;
     if
     :: hist[b].e[n] > hist[best].e[bestlen] || (hist[b].e[n] == hist[best].e[bestlen] && n > bestlen) ->
        best = b; bestlen = n; gone = site[s].trimmed
     :: else
     fi
  :: else
  fi;
  b = 0; n = 0
}

inline adopt() {
  assert(gone <= root);  /* what is deleted is in the checkpoint */
  i = 1;
  do
  :: i <= LEN ->
     assert(acked[i] == 0 || acked_by[i] > e || (i <= bestlen && hist[best].e[i] == acked[i]));
     if :: i <= bestlen -> hist[e].e[i] = hist[best].e[i] :: else fi;
     i++
  :: else -> break
  od;
  hist[e].last = bestlen;
  if :: bestlen < LEN -> hist[e].last++; hist[e].e[hist[e].last] = e :: else fi;
  i = 0
}

/* The log so far to all sites it has claimed. What stays unsent for long is one that lands late. */
inline send() {
  s = 0;
  do
  :: s < S -> if :: name[s] -> wire[e].sent[s] = hist[e].last + 1 :: else fi; s++
  :: else -> break
  od;
  s = 0
}

/* The next request, once the epoch's first entry is committed. */
inline next_entry() {
  if
  :: commit == hist[e].last && commit > bestlen && hist[e].last < LEN ->
     hist[e].last++; hist[e].e[hist[e].last] = e; send()
  :: else
  fi
}

/* 1 and the entries that enough sites have: the middle one of three, two being a quorum. */
#if defined(REREAD) && !defined(BUG_NO_REREAD)
#define HAS(s) counted[s]
#else
#define HAS(s) wire[e].answered[s]
#endif
#define MORE(a, b) ((a) > (b) -> (a) : (b))
#define LESS(a, b) ((a) < (b) -> (a) : (b))
#ifdef BUG_EARLY_REPLY
#define ENOUGH MORE(MORE(HAS(0), HAS(1)), HAS(2))
#else
#define ENOUGH MORE(LESS(HAS(0), HAS(1)), LESS(MORE(HAS(0), HAS(1)), HAS(2)))
#endif

inline acknowledge() {
  i = commit + 1;
  do
  :: i <= n ->
     assert(acked[i] == 0 || acked[i] == hist[e].e[i]);  /* one history */
     if :: acked[i] == 0 -> acked[i] = hist[e].e[i]; acked_by[i] = e :: else fi;
     b = e + 1;
     do  /* who leads by now has it */
     :: b <= EPOCHS ->
        assert(hist[b].last == 0 || (hist[b].last >= i && hist[b].e[i] == acked[i]));
        b++
     :: else -> break
     od;
     i++
  :: else -> break
  od;
  commit = n; i = 0; b = 0
}

proctype Writer() {
  byte e, n, i, b, s;
  byte seen[S];      /* the last name of a claim it knows of */
  byte name[S];      /* of its own claim; 0: none */
  byte counted[S];   /* 1 and the entries it may count at the site */
  byte promises, commit, best, bestlen, gone, trimming;
  bit lost;

again: skip;
  d_step {  /* a crash forgets all of it */
    s = 0;
    wire[e].heard = 0;
    do
    :: s < S -> wire[e].answered[s] = 0; seen[s] = 0; name[s] = 0; counted[s] = 0; s++
    :: else -> break
    od;
    s = 0; e = 0;
    promises = 0; commit = 0; best = 0; bestlen = 0; gone = 0; lost = 0; trimming = 0
  }
  if
  :: atomic { epochs < EPOCHS ->
       epochs++; e = epochs;
#ifdef STALLED
       if
       :: e > 2 -> seen[0] = site[0].claims; seen[1] = site[1].claims; seen[2] = site[2].claims
       :: else
       fi
#else
       seen[0] = site[0].claims; seen[1] = site[1].claims; seen[2] = site[2].claims
#endif
     }
  :: epochs == EPOCHS -> goto finish
  fi;
#ifdef BUG_READ_FIRST
  skip;
  d_step { read_log(0); read_log(1); read_log(2) };
#endif
  do
  :: promises >= 2 -> break
  :: lost || promises == 1 -> goto again
  :: !lost && name[0] == 0 -> d_step { try_claim(0) }
  :: !lost && name[1] == 0 -> d_step { try_claim(1) }
  :: !lost && name[2] == 0 -> d_step { try_claim(2) }
  od;
  skip;
  d_step {
#ifndef BUG_READ_FIRST
    if :: name[0] -> read_log(0) :: else fi;
    if :: name[1] -> read_log(1) :: else fi;
    if :: name[2] -> read_log(2) :: else fi;
#endif
    adopt(); wire[e].heard = 1; send()
  };
  do
  :: goto again  /* a crash, or it has heard of another leader */
  :: lost -> goto again
#if defined(REREAD) && !defined(BUG_NO_REREAD)
  /* an answer counts only if the claim, read after the write, still stands */
  :: atomic {
       if
       :: wire[e].answered[0] > counted[0] -> s = 0
       :: wire[e].answered[1] > counted[1] -> s = 1
       :: wire[e].answered[2] > counted[2] -> s = 2
       fi;
       if :: STANDS(s, name[s], e) -> counted[s] = wire[e].answered[s] :: else -> lost = 1 fi;
       s = 0
     }
#endif
#ifdef BUG_OLD_ENTRY
  :: d_step { ENOUGH > commit + 1 -> n = ENOUGH - 1; acknowledge(); n = 0; next_entry() }
#else
  :: d_step { ENOUGH > commit + 1 && ENOUGH > bestlen + 1 -> n = ENOUGH - 1; acknowledge(); n = 0; next_entry() }
#endif
  /* the checkpoint, then the floor, then the deletion */
  :: d_step { trimming == 0 && HAS(0) > commit && commit > site[0].trimmed && STANDS(0, name[0], e) ->
#ifndef BUG_TRIM_FIRST
              if :: commit > root -> root = commit :: else fi;
#endif
              site[0].floor = name[0]; trimming = commit }
  :: d_step { trimming != 0 ->
       if :: trimming > site[0].trimmed -> site[0].trimmed = trimming :: else fi;
       if :: name[0] > site[0].collected + 1 -> site[0].collected = name[0] - 1 :: else fi;
       trimming = 0 }
  od;
finish:
  skip
}

#ifdef STALLED
/* Epoch 1 has claimed two sites and died. Who takes epoch 2 looked at the sites before that. */
#define BEFORE { site[0].claims = 1; site[0].claim[1] = 1; site[1].claims = 1; site[1].claim[1] = 1; epochs = 1 }
#define GIVEN 1
#else
#define BEFORE skip
#define GIVEN 0
#endif
/* The second starts when the first has an epoch: they are alike. */
init { atomic { BEFORE; run Writer(); epochs > GIVEN -> run Writer() } }
