/* A change of the sites that hold the journal, while others claim (docs/journal.md, "Change of the
 * journal set").
 *
 * The journal moves from site 0 to site 1, one site at a time: {0}, then {0, 1}, then {1}. A log's
 * set is told by the changes in it. Two writers; each knows at first the set it was configured with,
 * which may be any older one. An entry is committed when a quorum of the set before and of the set
 * after it hold it. A claim that finds a newer set starts over with that one. A site that has left
 * is sealed. Sets of one and two sites have quorums of all their sites, so the old and the new one
 * share nothing but what the rules give them.
 * Each of these must be found:
 * -DBUG_KEEP_OLD_SET     a claim goes on with the set it began with
 * -DBUG_BOTH_AT_ONCE     {0} becomes {1} in one step, under the new set's quorum
 */
#ifndef EPOCHS
#define EPOCHS 3
#endif
#define LEN 4
#define E1 4
#define L1 5

/* e: epoch of each entry; set: the set in force behind it. Bit 0: site 0, bit 1: site 1. */
typedef Log { byte e[L1]; byte set[L1]; byte last };
typedef Site { byte promised; bit sealed; byte begun[E1] };

Log hist[E1];
Site site[2];
byte epochs, acked[L1], acked_by[L1];

inline read_log(s) {
  b = EPOCHS;
  do :: b > 0 && site[s].begun[b] == 0 -> b-- :: else -> break od;
  if
  :: b > 0 ->
     n = site[s].begun[b] - 1;
     if
     :: hist[b].e[n] > hist[best].e[bestlen] || (hist[b].e[n] == hist[best].e[bestlen] && n > bestlen) ->
        best = b; bestlen = n
     :: else
     fi
  :: else
  fi;
  b = 0; n = 0
}

#define IN(set, s) (((set) >> (s)) & 1)
#define HELD(s, n) (counted[s] > (n))
/* Every site of the set has the first n entries. */
#define QUORUM(set, n) ((!IN(set, 0) || HELD(0, n)) && (!IN(set, 1) || HELD(1, n)))
#ifdef BUG_BOTH_AT_ONCE
#define COMMITTED(n) QUORUM(hist[e].set[n], n)
#else
#define COMMITTED(n) (QUORUM(hist[e].set[n], n) && QUORUM(hist[e].set[n - 1], n))
#endif

proctype Writer() {
  byte e, b, n, i, best, bestlen, set, commit, own;
  byte counted[2];
  bit claimed[2];
  bit lost;

again: skip;
  d_step {
    e = 0; best = 0; bestlen = 0; commit = 0; own = 0; lost = 0;
    counted[0] = 0; counted[1] = 0; claimed[0] = 0; claimed[1] = 0; set = 0
  }
  if
  :: atomic { epochs < EPOCHS -> epochs++; e = epochs }
  :: epochs == EPOCHS -> goto finish
  fi;
  /* A configuration may be old; it names sites that were in the set once. */
  set = 1;
  do
  :: lost -> goto again
  :: !lost && IN(set, 0) && !claimed[0] ->
     d_step { if :: site[0].promised < e && !site[0].sealed -> site[0].promised = e; claimed[0] = 1
                 :: site[0].sealed -> set = 2  /* it says that the journal has moved */
                 :: else -> lost = 1 fi }
  :: !lost && IN(set, 1) && !claimed[1] ->
     d_step { if :: site[1].promised < e && !site[1].sealed -> site[1].promised = e; claimed[1] = 1
                 :: else -> lost = 1 fi }
  :: !lost && (!IN(set, 0) || claimed[0]) && (!IN(set, 1) || claimed[1]) ->
     d_step {
       best = 0; bestlen = 0;
       if :: IN(set, 0) -> read_log(0) :: else fi;
       if :: IN(set, 1) -> read_log(1) :: else fi
     };
#ifdef BUG_KEEP_OLD_SET
     break
#else
     if
     :: hist[best].set[bestlen] == set -> break
     :: else -> set = hist[best].set[bestlen]  /* a newer one: its sites are claimed too */
     fi
#endif
  od;
  skip;
  d_step {
    i = 1;
    do
    :: i <= LEN ->
       assert(acked[i] == 0 || acked_by[i] > e || (i <= bestlen && hist[best].e[i] == acked[i]));
       if :: i <= bestlen -> hist[e].e[i] = hist[best].e[i]; hist[e].set[i] = hist[best].set[i] :: else fi;
       i++
    :: else -> break
    od;
    i = 0;
    hist[e].set[0] = 1;
    hist[e].last = bestlen;
    if
    :: bestlen < LEN ->
       hist[e].last++; hist[e].e[hist[e].last] = e;
       hist[e].set[hist[e].last] = hist[e].set[bestlen]; own = hist[e].last
    :: else -> lost = 1
    fi
  };
  do
  :: goto again
  :: lost -> goto again
  :: !claimed[1] && IN(hist[e].set[hist[e].last], 1) ->  /* a site that joins is claimed first */
     d_step { if :: site[1].promised < e -> site[1].promised = e; claimed[1] = 1 :: else -> lost = 1 fi }
  /* an append arrives: the guard lets in what is of the promised epoch */
  :: d_step { claimed[0] && counted[0] < hist[e].last + 1 ->
       if :: site[0].promised == e && !site[0].sealed -> site[0].begun[e] = hist[e].last + 1; counted[0] = hist[e].last + 1
          :: else -> lost = 1 fi }
  :: d_step { claimed[1] && counted[1] < hist[e].last + 1 ->
       if :: site[1].promised == e && !site[1].sealed -> site[1].begun[e] = hist[e].last + 1; counted[1] = hist[e].last + 1
          :: else -> lost = 1 fi }
  :: d_step { !lost && own > 0 && commit < hist[e].last && COMMITTED(hist[e].last) ->
       n = hist[e].last;
       i = commit + 1;
       do
       :: i <= n ->
          assert(acked[i] == 0 || acked[i] == hist[e].e[i]);
          if :: acked[i] == 0 -> acked[i] = hist[e].e[i]; acked_by[i] = e :: else fi;
          b = e + 1;
          do
          :: b <= EPOCHS ->
             assert(hist[b].last == 0 || (hist[b].last >= i && hist[b].e[i] == acked[i]));
             b++
          :: else -> break
          od;
          i++
       :: else -> break
       od;
       commit = n; n = 0; i = 0; b = 0 }
  /* the next entry: an ordinary one, or the next step of the move */
  :: d_step { !lost && commit == hist[e].last && hist[e].last < LEN ->
       hist[e].last++; hist[e].e[hist[e].last] = e; hist[e].set[hist[e].last] = hist[e].set[hist[e].last - 1] }
  :: d_step { !lost && commit == hist[e].last && hist[e].last < LEN && hist[e].set[hist[e].last] < 3 &&
              hist[e].set[hist[e].last] != 2 ->
       hist[e].last++; hist[e].e[hist[e].last] = e;
#ifdef BUG_BOTH_AT_ONCE
       hist[e].set[hist[e].last] = 2 }
#else
       hist[e].set[hist[e].last] = 3 }
#endif
  :: d_step { !lost && commit == hist[e].last && hist[e].last < LEN && hist[e].set[hist[e].last] == 3 ->
       hist[e].last++; hist[e].e[hist[e].last] = e; hist[e].set[hist[e].last] = 2 }
  /* the move is committed: the site that left is sealed */
  :: d_step { commit > 0 && hist[e].set[commit] == 2 && !site[0].sealed && site[0].promised == e ->
       site[0].sealed = 1 }
  od;
finish:
  skip
}

init {
  atomic {
    byte z;
    for (z : 0 .. EPOCHS) { hist[z].set[0] = 1 }
    run Writer(); epochs > 0 -> run Writer()
  }
}
