"""Times of files far in the past and the future: held from 1901 to 2446, as ext4 does, in a cloud with
the feature "times", and from 1677 to 2262 in one without; clamped beyond. Programs that copy times keep
them. A cloud gets the feature while it is mounted."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import Cloud, wait_for  # noqa: E402
from harness import check, check_equal, note  # noqa: E402

SECOND = 10**9
NARROW_LAST = 9_223_372_036  # of 64 bits of nanoseconds
WIDE_FIRST, WIDE_LAST = -2**31, 2**34 - 1 - 2**31
YEAR_1600, YEAR_1800, YEAR_1902 = -11_676_096_000, -5_364_662_400, -2_145_916_800
YEAR_2300, YEAR_2446, YEAR_2500 = 10_413_792_000, 15_021_158_400, 16_725_225_600


def clamped(ns, first, last):
    """As the kernel does: the first and the last second have no nanoseconds."""
    seconds = ns // SECOND
    return first * SECOND if seconds <= first else last * SECOND if seconds >= last else ns


def narrow(ns):
    return clamped(ns, -NARROW_LAST, NARROW_LAST)


def wide(ns):
    return clamped(ns, WIDE_FIRST, WIDE_LAST)


def interesting(rng):
    borders = [0, NARROW_LAST, NARROW_LAST + 1, -NARROW_LAST, -NARROW_LAST - 1, WIDE_FIRST,
               WIDE_FIRST + 1, WIDE_LAST, WIDE_LAST - 1, YEAR_1600, YEAR_1800, YEAR_1902, YEAR_2300,
               YEAR_2446, YEAR_2500, 253_402_300_799]
    times = [b * SECOND + ns for b in borders for ns in (0, -1, 1, SECOND - 1)]
    times += [2**63 - 1, 2**63, -2**63, -2**63 - 1]
    return times + [rng.randrange(-2**65, 2**65) for _ in range(20)] + \
        [rng.randrange(NARROW_LAST * SECOND, WIDE_LAST * SECOND) for _ in range(20)]


def make_objects(top):
    (top / "file").write_bytes(b"x")
    (top / "directory").mkdir()
    os.symlink("nowhere", top / "link")


def shown(path):
    seen = os.lstat(path)
    return seen.st_atime_ns, seen.st_mtime_ns


def are_kept(one, two, times, kept, what):
    """Set at one mount, seen at once at both: also while writes wait that the time goes with."""
    with open(one / "dirty", "ab", buffering=0) as dirty:
        for ns in times:
            for name in ("file", "directory", "link", "dirty"):
                dirty.write(b"not yet stored")
                os.utime(one / name, ns=(ns, ns), follow_symlinks=False)
                for mount in (one, two):
                    if shown(mount / name) != (kept(ns), kept(ns)):
                        check(False, f"the time {ns} of {name}", (shown(mount / name), kept(ns)))
    note(f"ok: times far in the past and the future are kept {what}")


def touched(top, dates, kept):
    """By programs, with the dates' first seconds expected."""
    for name, (date, seconds) in dates.items():
        subprocess.run(["touch", "-d", date + " UTC", top / name], check=True)
        check_equal(os.stat(top / name).st_mtime_ns, kept(seconds * SECOND), f"touch -d {date}")


DATES = {"t1600": ("1600-01-01", YEAR_1600), "t1800": ("1800-01-01", YEAR_1800),
         "t1902": ("1902-01-01", YEAR_1902), "t2300": ("2300-01-01", YEAR_2300),
         "t2446": ("2446-01-01", YEAR_2446), "t2500": ("2500-01-01", YEAR_2500)}


def outlive_everything(cloud, one, two, kept):
    """Remounts and a daemon that was killed."""
    os.sync()
    one.remount()
    expected = {name: kept(seconds * SECOND) for name, (_, seconds) in DATES.items()}
    for mount in (one, two):
        check_equal({n: os.stat(mount / n).st_mtime_ns for n in DATES}, expected, "after a remount")
    cloud.kill_daemon()
    cloud.start_daemon()
    two.remount()
    for mount in (one, two):
        check_equal({n: os.stat(mount / n).st_mtime_ns for n in DATES}, expected,
                    "after the daemon was killed")


def are_copied(one, two, root):
    """Times between the files of `one` and what programs make of them, exactly: nanoseconds too."""
    source = one / "source"
    source.mkdir()
    times = {f"f{i}": seconds * SECOND + 123_456_789 for i, seconds in
             enumerate([YEAR_1902, -1, 0, YEAR_2300, YEAR_2446, NARROW_LAST])}
    for name, ns in times.items():
        (source / name).write_text(name)
        os.utime(source / name, ns=(ns, ns))

    def kept_at(place):
        return {name: os.stat(place / name).st_mtime_ns for name in times}

    subprocess.run(["cp", "-p", "-r", source, one / "cp"], check=True)
    check_equal(kept_at(two / "cp"), times, "cp -p keeps the times")
    subprocess.run(["cp", "-p", "-r", one / "cp", two / "cp2"], check=True)
    check_equal(kept_at(one / "cp2"), times, "and back from the other mount")
    archive = root / "times.tar"
    subprocess.run(["tar", "--format=posix", "-C", source, "-cf", archive, "."], check=True)
    (two / "tar").mkdir()
    subprocess.run(["tar", "-C", two / "tar", "-xf", archive], check=True)
    check_equal(kept_at(one / "tar"), times, "tar keeps the times")
    if subprocess.run(["which", "rsync"], capture_output=True).returncode == 0:
        subprocess.run(["rsync", "-rt", f"{source}/", two / "rsync"], check=True)
        check_equal(kept_at(one / "rsync"), times, "rsync -t keeps the times")
        again = subprocess.run(["rsync", "-rti", f"{source}/", two / "rsync"], check=True,
                               capture_output=True, text=True).stdout
        check_equal(again, "", "and then finds nothing to copy")
    else:
        note("rsync is not installed: not tried")


def with_the_feature(rng):
    with Cloud() as cloud:
        cloud.start_daemon()
        one, two = cloud.mount(name="one"), cloud.mount(name="two")
        make_objects(one)
        are_kept(one, two, interesting(rng), wide, "as ext4 keeps them")
        touched(one, DATES, wide)
        outlive_everything(cloud, one, two, wide)
        are_copied(one, two, cloud.root)
        one.unmount()
        two.unmount()
        check_equal(cloud.run_tool("fsck", "-n").returncode, 0, "the records are sound")


def without_it_and_then_with(rng):
    with Cloud(features="none") as cloud:
        cloud.start_daemon()
        one, two = cloud.mount(name="one"), cloud.mount(name="two")
        make_objects(one)
        are_kept(one, two, interesting(rng), narrow, "as far as they fit 64 bits")
        touched(one, DATES, narrow)
        outlive_everything(cloud, one, two, narrow)
        before = {name: shown(one / name) for name in os.listdir(one)}
        cloud.tool("feature", "enable", "times")

        def wide_now(mount):
            os.utime(mount / "file", ns=(YEAR_2300 * SECOND + 7,) * 2)
            return os.stat(mount / "file").st_mtime_ns == YEAR_2300 * SECOND + 7

        began = time.monotonic()
        for mount in (one, two):
            wait_for(lambda: wide_now(mount), 30, "the mount to hear of the feature")
        note(f"ok: both mounts have heard of the feature after {time.monotonic() - began:.1f} s")
        check_equal({name: shown(two / name) for name in before if name != "file"},
                    {name: times for name, times in before.items() if name != "file"},
                    "what was there is shown as before")
        are_kept(one, two, interesting(rng), wide, "as ext4 keeps them, from then on")
        touched(one, DATES, wide)
        outlive_everything(cloud, one, two, wide)
        one.unmount()
        two.unmount()
        check_equal(cloud.run_tool("fsck", "-n").returncode, 0, "the records are sound")


def test(options):
    rng = random.Random(options.seed)
    with_the_feature(rng)
    without_it_and_then_with(rng)


if __name__ == "__main__":
    harness.main(test, 240)
