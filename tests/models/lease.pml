/* Step 12 of docs/journal.md, with time: a leader's lease, and a daemon that takes over from it.
 *
 * Three sites, commits at two, claims at two. Time is counted in tenths of T. The clock of the one that
 * leads may be slower than the claimer's: T on it lasts up to LEASE_MAX on the other one. Either may do
 * nothing for any time, and the leader then wakes up as one of the past.
 *
 * What must hold: once the claimer has answered a change, the one before it answers no read.
 *
 * Bounds: two sites are asked, one question is under way at each at a time, and
 * lost when another one is; questions, claims and releases at every fifth tick, in any order, all else
 * at any time; 18 ticks; one claimer, which knows at once that a site has promised (later is safer).
 */
#define QUORUM 2
#define END 18

#define T 10
#ifdef BUG_SLOW_CLOCK       /* slower than what is allowed for */
#define LEASE_MAX 12
#else
#define LEASE_MAX 11
#endif

#ifdef BUG_NO_WAIT
#define PATIENCE 0
#else
#ifdef BUG_SHORT_WAIT       /* T by the claimer's clock, no allowance for the other one's */
#define PATIENCE 10
#else
#define PATIENCE 11
#endif
#endif

byte now = 0;
byte lease = T;             /* how long it lasts, by the claimer's clock: fixed for a run */

/* Sites. */
bool promised[3];           /* to the claimer */
bool has_release;           /* the log of the first ends in a release of the leader */

/* Questions of the leader: under way, then answered, then known. */
byte asked_at[2];
bool asks[2];
bool is_answered[2];
byte confirmed[3];          /* moments, as the leader counts them */
bool releases = false;      /* the leader answers nobody any more */
bool asleep = false;        /* its machine is suspended */
byte stood = 0;             /* how long its clock has stood */

/* The claimer. */
bool stands = false;        /* its promise, at a quorum */
byte stood_at = 0;
bool sees_release = false;
bool serves = false;        /* it has answered a change */

#define LEADERS_NOW (now - stood)
#define LASTS(i) (LEADERS_NOW < confirmed[i] + lease)
#ifdef BUG_ONE_SITE_FEWER   /* the lease lasts as long as any one site has confirmed it */
#define HOLDS (LASTS(0) || LASTS(1) || LASTS(2))
#else
#define HOLDS ((LASTS(0) && LASTS(1)) || (LASTS(0) && LASTS(2)) || (LASTS(1) && LASTS(2)))
#endif

/* A moment that says nothing any more. */
#define FORGET(i) if :: !LASTS(i) -> confirmed[i] = 0 :: else fi

active proctype clock() {
  if
  :: lease = T
  :: lease = LEASE_MAX
  fi;
end:  do
  :: d_step { now < END -> now++;
#ifdef BUG_CLOCK_STANDS     /* it does not count while its machine is suspended */
       if
       :: asleep -> stood++
       :: else
       fi;
#endif
       FORGET(0); FORGET(1); FORGET(2) }
  od
}

inline ask(i) {
  asks[i] = true; asked_at[i] = LEADERS_NOW
}

inline hear(i) {
  asks[i] = false; is_answered[i] = false;
#ifdef BUG_FROM_ANSWER
  asked_at[i] = LEADERS_NOW;
#endif
  if
  :: asked_at[i] > confirmed[i] -> confirmed[i] = asked_at[i]
  :: else
  fi;
  asked_at[i] = 0
}

/* Somebody takes over, and may find that there is nothing to be waited for. */
inline hand_over() {
#ifndef BUG_ANSWERS_ON
  releases = true;
#endif
  has_release = true
}

active proctype leader() {
end:  do
#ifdef BUG_CLOCK_STANDS
  :: asleep = !asleep
#endif
  :: d_step { !asleep && !is_answered[0] && now % 5 == 0 -> ask(0) }
  :: d_step { !asleep && !is_answered[1] && now % 5 == 0 -> ask(1) }
  :: d_step { !asleep && is_answered[0] -> hear(0) }   /* however late it is */
  :: d_step { !asleep && is_answered[1] -> hear(1) }
  :: d_step { !asleep && serves && HOLDS && !releases -> assert(false) }   /* answer a read */
#ifdef RELEASES
  :: d_step { !asleep && !has_release && !promised[0] && !stands && now % 5 == 0 -> hand_over() }
#endif
  od
}

#define CLAIMS (!stands && now % 5 == 0)
#define HEARD(i) (asks[i] && !is_answered[i])

active proctype sites() {
end:  do
  :: d_step { HEARD(0) && !promised[0] -> is_answered[0] = true }
  :: d_step { HEARD(1) && !promised[1] -> is_answered[1] = true }
  :: d_step { CLAIMS && !promised[0] -> promised[0] = true }   /* the claim arrives */
  :: d_step { CLAIMS && !promised[1] -> promised[1] = true }
  :: d_step { CLAIMS && !promised[2] -> promised[2] = true }
  od
}

active proctype claimer() {
end:  do
  :: d_step { !stands && promised[0] + promised[1] + promised[2] >= QUORUM ->
       stands = true; stood_at = now;
       sees_release = promised[0] && has_release }
  :: d_step { stands && (sees_release || now >= stood_at + PATIENCE) -> serves = true }
       break
  od
}
