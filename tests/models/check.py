"""The models of the journal's protocol, checked by spin: `check.py [NAME...]`.

The protocol as it is must hold in every state that can be reached; each broken variant must be found. A
broken one is searched breadth first, which finds the shortest way into the error. Two run at a time.
Packages: tools/install-deps.sh --test.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
SECONDS = 240  # for one; together they take some 60 s on two free processors

# name: model, what it is defined with, and what an error says where one must be found
VARIANTS = {
    "guard": ("journal", ["GUARD"], None),
    "reread": ("journal", ["REREAD"], None),
    "set": ("journal_set", [], None),
    "guard.no_guard": ("journal", ["BUG_NO_GUARD"], "assertion"),
    "reread.no_reread": ("journal", ["REREAD", "BUG_NO_REREAD"], "assertion"),
    "guard.early_reply": ("journal", ["BUG_EARLY_REPLY"], "assertion"),
    "reread.early_reply": ("journal", ["REREAD", "BUG_EARLY_REPLY"], "assertion"),
    "guard.trim_first": ("journal", ["BUG_TRIM_FIRST"], "gone<=root"),
    "guard.read_first": ("journal", ["BUG_READ_FIRST"], "assertion"),
    "reread.no_floor": ("journal", ["REREAD", "STALLED", "EPOCHS=3", "BUG_NO_FLOOR"], "assertion"),
    "set.keep_old": ("journal_set", ["BUG_KEEP_OLD_SET"], "assertion"),
    "set.both_at_once": ("journal_set", ["BUG_BOTH_AT_ONCE"], "assertion"),
    "lease": ("lease", [], None),
    "lease.releases": ("lease", ["RELEASES"], None),
    "lease.no_wait": ("lease", ["BUG_NO_WAIT"], "assertion"),
    "lease.short_wait": ("lease", ["BUG_SHORT_WAIT"], "assertion"),
    "lease.slow_clock": ("lease", ["BUG_SLOW_CLOCK"], "assertion"),
    "lease.from_answer": ("lease", ["BUG_FROM_ANSWER"], "assertion"),
    "lease.clock_stands": ("lease", ["BUG_CLOCK_STANDS"], "assertion"),
    "lease.one_site_fewer": ("lease", ["BUG_ONE_SITE_FEWER"], "assertion"),
    "lease.answers_on": ("lease", ["RELEASES", "BUG_ANSWERS_ON"], "assertion"),
}


def run(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS)
    return done.returncode, done.stdout + done.stderr


def check(name):
    model, defines, error = VARIANTS[name]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        code, text = run(["cpp", "-P", *(f"-D{word}" for word in defines), HERE / f"{model}.pml", "m.pml"], folder)
        if code == 0:
            code, text = run(["spin", "-a", "m.pml"], folder)
        search = ["-DBFS"] if error else []
        if code == 0:
            code, text = run(["gcc", "-O1", "-w", "-DSAFETY", "-DCOLLAPSE", "-DVECTORSZ=4096", "-DMEMLIM=3000",
                              *search, "-o", "pan", "pan.c"], folder)
        if code != 0:
            return name, f"cannot be built:\n{text[-2000:]}", 0
        _, text = run(["./pan", "-m100000", "-n"], folder)
    states = int(float((re.search(r"([0-9.e+]+) states, stored", text) or [0, 0])[1]))
    errors = re.search(r"errors: (\d+)", text)
    if errors is None or "max search depth too small" in text or "out of memory" in text.lower():
        return name, f"the search did not end:\n{text[-2000:]}", states
    if error is None and errors[1] != "0":
        return name, f"an invariant is broken:\n{text[:2000]}", states
    if error is not None and not (errors[1] != "0" and error in text):
        return name, "this breaks the protocol and was not found: the model has become blind", states
    print(f"{name}: {states:,} states, {time.monotonic() - start:.1f} s, "
          f"{'found' if error else 'holds'}", flush=True)
    return name, None, states


def main():
    names = sys.argv[1:] or list(VARIANTS)
    if unknown := set(names) - set(VARIANTS):
        sys.exit(f"{', '.join(unknown)}: there are {', '.join(VARIANTS)}")
    for program in ("spin", "cpp", "gcc"):
        if not shutil.which(program):
            sys.exit(f"{program} is not here: tools/install-deps.sh --test")
    with ThreadPoolExecutor(2) as pool:
        wrong = [(name, text) for name, text, _ in pool.map(check, names) if text]
    for name, text in wrong:
        print(f"{name}: {text}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
