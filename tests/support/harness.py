"""How a test script is run: `harness.main(test, seconds)`.

Prints the seed and each check as it passes, stops at the first that does not, and never hangs: a
watchdog prints where every thread stands, cuts the kernel's connection of each mount (which ends
calls stuck in it) and fails the test.
"""

import argparse
import faulthandler
import os
import random
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import cloud as cloud_module  # noqa: E402


class CheckFailed(Exception):
    pass


_started = time.monotonic()


def note(text):
    print(f"[{time.monotonic() - _started:6.1f}s] {text}", flush=True)


def check(condition, what, detail=""):
    """A statement about the system that must hold."""
    if not condition:
        raise CheckFailed(f"{what}{': ' if detail != '' else ''}{detail}")
    note(f"ok: {what}")


def check_equal(seen, expected, what):
    """Equality, with a readable difference of dictionaries and sets."""
    if seen == expected:
        note(f"ok: {what}")
        return
    if isinstance(seen, dict) and isinstance(expected, dict):
        keys = [k for k in sorted(set(seen) | set(expected), key=str)
                if seen.get(k) != expected.get(k)]
        detail = "; ".join(f"{k}: {seen.get(k)!r} instead of {expected.get(k)!r}"
                           for k in keys[:5]) + f" ({len(keys)} differ)"
    elif isinstance(seen, (set, frozenset)):
        detail = f"too many {sorted(seen - expected)[:5]}, missing {sorted(expected - seen)[:5]}"
    else:
        detail = f"{seen!r} instead of {expected!r}"
    raise CheckFailed(f"{what}: {detail}")


def expect_errno(expected, what, call, *arguments, **named):
    """The call must fail with this errno."""
    try:
        call(*arguments, **named)
    except OSError as error:
        if error.errno == expected:
            note(f"ok: {what}: {os.strerror(expected)}")
            return error
        raise CheckFailed(f"{what}: {error} instead of {os.strerror(expected)}") from error
    raise CheckFailed(f"{what}: succeeded instead of {os.strerror(expected)}")


def _watch(seconds):
    time.sleep(seconds)
    print(f"FAILED: not finished after {seconds:.0f} s; where the threads stand:", file=sys.stderr)
    faulthandler.dump_traceback(all_threads=True)
    own = cloud_module.BASE / f"{cloud_module.PREFIX}{os.getpid()}-"
    for root in cloud_module.BASE.glob(own.name + "*"):
        for log in sorted(root.glob("*.log")):
            print(f"--- last lines of {log.name}\n{cloud_module.tail(log, 40)}", file=sys.stderr)
        for point in cloud_module.mounts_below(root):
            cloud_module.fuse_abort(point)
    sys.stderr.flush()
    time.sleep(2)
    for root in cloud_module.BASE.glob(own.name + "*"):
        cloud_module.remove_tree(root)
    os.kill(os.getpid(), signal.SIGKILL)


def main(test, seconds):
    """Runs test(options) with `seconds` to live (times $DATACLOUD_SLOWNESS)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=None, help="of randomised tests")
    parser.add_argument("--seconds", type=float, default=seconds, help="time to live")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 32)
    note(f"seed {options.seed}")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda n, frame: sys.exit(128 + n))
    threading.Thread(target=_watch, args=(options.seconds * cloud_module.SLOWNESS,),
                     daemon=True).start()
    try:
        test(options)
    except CheckFailed as failure:
        traceback.print_exc(file=sys.stderr)
        print(f"FAILED: {failure} (seed {options.seed})", file=sys.stderr)
        sys.exit(1)
    except Exception as failure:  # whatever else: the seed must be in the output
        traceback.print_exc(file=sys.stderr)
        print(f"FAILED: {type(failure).__name__}: {failure} (seed {options.seed})", file=sys.stderr)
        sys.exit(1)
    note("all checks passed")
