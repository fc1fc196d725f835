"""File handles: they open the same file after umount and mount, on other mounts and after the daemon's
end; ESTALE once it is removed, and never another file. A mount of a directory opens none from outside."""

import errno
import os
import random
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import Cloud, drop_caches, is_mounted, wait_for  # noqa: E402
from file_handles import handle_of, open_handle  # noqa: E402
from harness import check, check_equal, note  # noqa: E402


def outcome(point, handle, flags=os.O_RDONLY):
    """The inode number it opens, or an errno's name."""
    try:
        fd = open_handle(point, handle, flags)
    except OSError as error:
        return errno.errorcode[error.errno]
    try:
        return os.fstat(fd).st_ino
    finally:
        os.close(fd)


def read(point, handle):
    fd = open_handle(point, handle)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


def make_tree(top):
    (top / "d" / "deep" / "er").mkdir(parents=True)
    (top / "out").mkdir()
    (top / "d" / "f").write_bytes(b"in d")
    (top / "d" / "deep" / "er" / "g").write_bytes(b"deep down")
    (top / "out" / "h").write_bytes(b"outside")
    os.symlink("f", top / "d" / "link")
    return {name: handle_of(top / name) for name in
            ("d", "d/f", "d/deep", "d/deep/er", "d/deep/er/g", "d/link", "out", "out/h")}


def test(options):
    rng = random.Random(options.seed)
    with Cloud(sites=3, code="rs-2-1") as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        handles = make_tree(mount.point)
        numbers = {name: os.lstat(mount / name).st_ino for name in handles}
        root = handle_of(mount.point)

        def all_open(point, when):
            seen = {name: outcome(point, handle, os.O_PATH if name == "d/link" else os.O_RDONLY)
                    for name, handle in handles.items()}
            check_equal(seen, numbers, f"every handle opens what it was made of, {when}")
            check_equal((read(point, handles["d/f"]), read(point, handles["d/deep/er/g"])),
                        (b"in d", b"deep down"), "with its contents")

        all_open(mount.point, "in the same mount")
        mount.remount()
        all_open(mount.point, "after umount and mount")
        check_equal(outcome(mount.point, root), 1, "the root's too")
        drop_caches()
        all_open(mount.point, "when the kernel has forgotten")
        mount.remount()
        fd = open_handle(mount.point, handles["d/deep/er"])
        check_equal(os.readlink(f"/proc/self/fd/{fd}"), str(mount / "d" / "deep" / "er"), "a directory is at its place")
        check_equal(os.stat("..", dir_fd=fd).st_ino, numbers["d/deep"], "and has a way up")
        os.close(fd)
        other = cloud.mount(name="other")
        all_open(other.point, "on another mount")
        cloud.kill_daemon()
        cloud.start_daemon()
        mount.remount()
        all_open(mount.point, "after the daemon's end")

        os.rename(other / "d" / "deep" / "er" / "g", other / "moved")
        mount.remount()
        check_equal(read(mount.point, handles["d/deep/er/g"]), b"deep down", "a renamed file keeps its handle")
        os.link(other / "d" / "f", other / "second")
        os.unlink(other / "d" / "f")
        check_equal(read(mount.point, handles["d/f"]), b"in d", "one of two names is enough")
        os.unlink(other / "second")
        os.unlink(other / "d" / "link")
        os.rename(other / "d" / "deep" / "er", other / "er")
        os.rmdir(other / "d" / "deep")
        for i in range(50):  # numbers are not given out again
            (other / f"new{i}").write_bytes(b"another file")
        for when in ("at once", "after umount and mount"):
            check_equal([outcome(mount.point, handles[name], os.O_PATH) for name in ("d/f", "d/link", "d/deep")],
                        ["ESTALE"] * 3, f"what is removed is ESTALE, {when}")
            mount.remount()

        # The first eight bytes are the number, then the generation.
        kind, content = handles["out/h"]
        number = struct.unpack_from("=Q", struct.pack("=II", *reversed(struct.unpack_from("=II", content))))[0]
        check_equal(number, numbers["out/h"], "a handle is a number and a generation")
        wrong = bytearray(content)
        wrong[8] ^= 1
        check_equal(outcome(mount.point, (kind, bytes(wrong))), "ESTALE", "another generation is another file")
        known = set(numbers.values()) | {1}
        for _ in range(200):
            noise = bytearray(content)
            for _ in range(rng.randrange(1, 4)):
                noise[rng.randrange(len(noise))] = rng.randrange(256)
            if bytes(noise) == content:
                continue
            seen = outcome(mount.point, (kind, bytes(noise)), os.O_PATH)
            if seen not in ("ESTALE", "EINVAL") and seen not in known:
                check(False, "damaged handles open nothing else", (bytes(noise).hex(), seen))
        note("ok: damaged handles open nothing else")
        mount.unmount()

        part = cloud.root / "part"
        part.mkdir()
        for _ in range(2):
            process = start_part(cloud, part)
            check_equal([outcome(part, handles[name]) for name in ("out", "out/h", "d/deep/er")], ["ESTALE"] * 3,
                        "a mount of /d opens nothing from outside, not even by ..")
            check_equal([outcome(part, handles["d"]), outcome(part, handle_of(part))], ["ESTALE", numbers["d"]],
                        "its own root has a handle of its own")
            (part / "below" / "more").mkdir(parents=True, exist_ok=True)
            below = handle_of(part / "below" / "more")
            number = os.stat(part / "below" / "more").st_ino
            stop_part(part, process)
            process = start_part(cloud, part)
            check_equal(outcome(part, below), number, "directories below it open after umount and mount")
            fd = open_handle(part, below)
            check_equal(os.readlink(f"/proc/self/fd/{fd}"), str(part / "below" / "more"), "at their place")
            os.close(fd)
            stop_part(part, process)
        other.unmount()


def start_part(cloud, part):
    mount = cloud.mount("subdir=/d", name=part.name)
    return mount


def stop_part(part, mount):
    mount.unmount()
    wait_for(lambda: not is_mounted(part), 10, "the mount to go")
    drop_caches()


if __name__ == "__main__":
    harness.main(test, 120)
