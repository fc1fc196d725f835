"""Owners of one cloud on machines with other users: `-o uidmap=FILE` and `-o squash=UID:GID`. What one
mount makes is seen by another without the option, as the cloud keeps it; ids without a mapping behave as
on an idmapped mount, of which the same is expected; random operations are the same as on the local file
system."""

import errno
import os
import random
import shutil
import stat
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import BUILD, SLOWNESS, Cloud  # noqa: E402
from harness import check, check_equal, expect_errno, note  # noqa: E402
from idmapped import mount_idmapped  # noqa: E402
from posix_test import hand_written_cases, random_scripts  # noqa: E402

MAP = """# cloud local count
uid 0 0
uid 1000 2000
uid 5000 6000 100
gid 0 0
gid 1000 2000
gid 5000 6000 100
"""
SHIFT = 100_000
SHIFTED = f"uid {SHIFT} 0 65534\ngid {SHIFT} 0 65534\n"
OVERFLOW_ID = 65534


def as_user(uid, gid, call, groups=()):
    """Runs call() as this user in a process of its own; its errno, 0 when it succeeded."""
    child = os.fork()
    if child == 0:
        status = 255
        try:
            os.setgroups(list(groups))
            os.setgid(gid)
            os.setuid(uid)
            call()
            status = 0
        except OSError as error:
            status = error.errno
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def owner(path):
    seen = os.lstat(path)
    return seen.st_uid, seen.st_gid


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def append(path, data=b"more"):
    with open(path, "ab", buffering=0) as file:
        file.write(data)


def open_directory(raw, name, bits=0o777, ids=(0, 0)):
    (raw / name).mkdir()
    os.chown(raw / name, *ids)
    os.chmod(raw / name, bits)


def make_one_of_each(top):
    (top / "file").write_bytes(b"x")
    (top / "directory").mkdir()
    os.symlink("file", top / "link")
    os.mkfifo(top / "fifo")
    os.link(top / "file", top / "second name")


EACH = ("file", "directory", "link", "fifo", "second name")


def ids_are_mapped_both_ways(raw, mapped):
    open_directory(raw, "both")
    check_equal(as_user(2000, 2000, lambda: make_one_of_each(mapped / "both")), 0, "a mapped user creates")
    check_equal({n: owner(raw / "both" / n) for n in EACH}, dict.fromkeys(EACH, (1000, 1000)),
                "the cloud has the cloud's ids")
    check_equal({n: owner(mapped / "both" / n) for n in EACH}, dict.fromkeys(EACH, (2000, 2000)),
                "the mapped mount shows local ones")
    with os.scandir(mapped / "both") as listing:
        check_equal({(e.stat(follow_symlinks=False).st_uid, e.stat(follow_symlinks=False).st_gid)
                     for e in listing}, {(2000, 2000)}, "listings too")
    for name in EACH[:4]:
        os.chown(mapped / "both" / name, 6005, 6099, follow_symlinks=False)
        check_equal((owner(raw / "both" / name), owner(mapped / "both" / name)),
                    ((5005, 5099), (6005, 6099)), f"chown of a {name} through the mapped mount")
    os.chown(raw / "both" / "file", 1000, -1)
    check_equal(owner(mapped / "both" / "file"), (2000, 6099), "chown through the other is seen at once")
    os.chown(mapped / "both" / "file", -1, 0)
    check_equal(owner(raw / "both" / "file"), (1000, 0), "chgrp alone")
    os.chmod(raw / "both" / "file", 0o600)
    file = mapped / "both" / "file"
    check_equal(as_user(2000, 2000, lambda: append(file)), 0, "the owner, as known here, may write")
    check_equal(as_user(1000, 1000, lambda: append(file)), errno.EACCES, "the cloud's number is another")
    check_equal(as_user(2000, 2000, lambda: os.chmod(file, 0o640)), 0, "the owner may chmod")
    check_equal(as_user(6005, 6005, lambda: os.chmod(file, 0o666)), errno.EPERM, "others may not")
    check_equal(mode(raw / "both" / "file"), 0o640, "as the cloud shows")


def what_has_no_id_here(raw, mapped):
    """As on an idmapped mount: shown as the overflow id, owned by nobody, changed by nobody."""
    open_directory(raw, "foreign")
    for name, ids, bits in (("open", (777, 777), 0o666), ("closed", (777, 777), 0o600),
                            ("group", (1000, 777), 0o666), ("adopted", (777, 777), 0o644)):
        (raw / "foreign" / name).write_bytes(b"foreign")
        os.chown(raw / "foreign" / name, *ids)
        os.chmod(raw / "foreign" / name, bits)
    there = mapped / "foreign"
    check_equal(owner(there / "open"), (OVERFLOW_ID, OVERFLOW_ID), "an id without mapping is nobody's")
    check_equal(owner(there / "group"), (2000, OVERFLOW_ID), "a group alone")
    check_equal((there / "open").read_bytes(), b"foreign", "what others may read is read")
    for user in (0, OVERFLOW_ID, 2000):
        check_equal(as_user(user, user, lambda: append(there / "open")), errno.EACCES,
                    f"user {user} cannot write it")
        check_equal(as_user(user, user, lambda: os.close(os.open(there / "closed", os.O_RDONLY))),
                    errno.EACCES, f"nor read what only its owner may, user {user}")
    for what, call in (("chmod", lambda: os.chmod(there / "open", 0o777)),
                       ("utimes", lambda: os.utime(there / "open", (1, 1))),
                       ("unlink", lambda: os.unlink(there / "open")),
                       ("rename", lambda: os.rename(there / "open", there / "renamed"))):
        expect_errno(errno.EOVERFLOW, f"{what} by root", call)
    os.chown(there / "adopted", 2000, 6000)
    check_equal(owner(raw / "foreign" / "adopted"), (1000, 5000), "root may give it to users known here")
    for ids in ((1000, -1), (-1, 1000), (2000, 1000), (6100, 0)):
        expect_errno(errno.EOVERFLOW, f"chown to {ids}, which the cloud has no id for", os.chown,
                     there / "adopted", *ids)
    check_equal(owner(raw / "foreign" / "adopted"), (1000, 5000), "nothing has changed")


def who_has_no_id_in_the_cloud(raw, mapped):
    open_directory(raw, "strangers")
    there = mapped / "strangers"
    calls = {"open": lambda: (there / "f").touch(), "mkdir": lambda: (there / "d").mkdir(),
             "symlink": lambda: os.symlink("x", there / "l"), "mknod": lambda: os.mkfifo(there / "p")}
    for ids in ((1000, 1000), (2000, 1000), (1000, 2000), (OVERFLOW_ID, OVERFLOW_ID)):
        for what, call in calls.items():
            check_equal(as_user(*ids, call), errno.EOVERFLOW, f"{what} by {ids}, unknown to the cloud")
    check_equal(os.listdir(raw / "strangers"), [], "nothing was made")
    (raw / "strangers" / "there").write_bytes(b"")
    os.chmod(raw / "strangers" / "there", 0o666)
    check_equal(as_user(1000, 1000, lambda: append(there / "there")), 0, "what is there may be written")
    check_equal(as_user(1000, 1000, lambda: (there / "there").touch()), 0, "and opened with O_CREAT")


def groups_are_inherited(raw, mapped):
    open_directory(raw, "team", 0o2777, (0, 1000))
    top = mapped / "team"
    check_equal(as_user(6001, 6001, lambda: make_one_of_each(top)), 0, "below a set-group-id directory")
    for name in EACH:
        check_equal((owner(raw / "team" / name), owner(top / name)), ((5001, 1000), (6001, 2000)),
                    f"the group of {name} is the directory's")
    check_equal(mode(top / "directory") & stat.S_ISGID, stat.S_ISGID, "directories pass it on")
    check_equal(as_user(6001, 6001, lambda: (top / "directory" / "below").touch()), 0, "one deeper")
    check_equal(owner(raw / "team" / "directory" / "below"), (5001, 1000), "as well")
    # Set-group-id of a file its group may not execute: kept for members, as known here, only.
    for group, kept in ((2000, True), (1000, False)):
        (raw / "team" / "set").write_bytes(b"x")
        os.chown(raw / "team" / "set", 0, 1000)
        os.chmod(raw / "team" / "set", 0o2666)
        check_equal(as_user(6002, 6002, lambda: append(top / "set"), [group]), 0, f"as a member of {group}")
        check_equal(bool(mode(raw / "team" / "set") & stat.S_ISGID), kept, f"set-group-id kept: {kept}")


def owners_below(top):
    return {str(p.relative_to(top)): owner(p) for p in sorted(top.rglob("*"))}


def run_as(uid, gid, *command):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, user=uid, group=gid,
                          extra_groups=[], timeout=60)


def programs_keep_owners(cloud, raw, mapped):
    """cp -a and tar -p between the local disk and the mapped mount."""
    source = cloud.root / "source"
    (source / "sub").mkdir(parents=True)
    for name, ids in (("a", (2000, 2000)), ("sub/b", (6001, 6002)), ("sub/c", (0, 0))):
        (source / name).write_text(name)
        os.chown(source / name, *ids)
        os.chmod(source / name, 0o640)
    os.chown(source / "sub", 2000, 6050)
    in_cloud = {"a": (1000, 1000), "sub": (1000, 5050), "sub/b": (5001, 5002), "sub/c": (0, 0)}
    done = run_as(0, 0, "cp", "-a", source, mapped / "cp")
    check(done.returncode == 0, "cp -a as root", done.stderr)
    check_equal(owners_below(raw / "cp"), in_cloud, "cp -a: the owners in the cloud")
    check_equal(owners_below(mapped / "cp"), owners_below(source), "and here")
    archive = cloud.root / "archive.tar"
    done = run_as(0, 0, "tar", "-C", mapped / "cp", "--numeric-owner", "-cf", archive, ".")
    check(done.returncode == 0, "tar -c", done.stderr)
    (mapped / "tar").mkdir()
    done = run_as(0, 0, "tar", "-C", mapped / "tar", "--numeric-owner", "-xpf", archive)
    check(done.returncode == 0, "tar -xp as root", done.stderr)
    check_equal(owners_below(raw / "tar"), in_cloud, "tar -p: the owners in the cloud")
    check_equal({p: mode(mapped / "tar" / p) for p in in_cloud}, {p: mode(source / p) for p in in_cloud},
                "and the modes")
    # Users see their own as theirs, and cp -a of theirs works.
    open_directory(raw, "user")
    done = run_as(2000, 2000, "cp", "-a", mapped / "cp" / "a", mapped / "user" / "a")
    check(done.returncode == 0 and not done.stderr, "cp -a as a user", done.stderr)
    check_equal(owner(raw / "user" / "a"), (1000, 1000), "its copy is its own")
    # Owners that the cloud does not know are told, not changed into something else.
    os.chown(source / "a", 1000, 1000)
    done = run_as(0, 0, "cp", "-a", source / "a", mapped / "unknown")
    check(done.returncode != 0 and os.strerror(errno.EOVERFLOW) in done.stderr,
          "cp -a of an owner without an id in the cloud says so", done.stderr)
    check_equal(owner(raw / "unknown"), (0, 0), "and the copy is root's")


def maps_outlive_remounts(cloud, raw, mapped, file):
    before = owners_below(mapped.point)
    mapped.remount()
    check_equal(owners_below(mapped.point), before, "the same owners after umount and mount")

    def remount(options):
        return subprocess.run([BUILD / "bin" / "mount.datacloud", cloud.config, mapped.point, "-o",
                               "remount," + options], capture_output=True, text=True, timeout=60)

    for options in ("ro", f"rw,uidmap={file}"):
        done = remount(options)
        check(done.returncode == 0, f"remount,{options}", done.stderr)
        check_equal(owners_below(mapped.point), before, "keeps the map")
    for options in (f"uidmap={file}.other", "squash=1:1"):
        done = remount(options)
        check(done.returncode == 1 and f"-o {options}: cannot change" in done.stderr,
              f"remount,{options} is refused", done.stderr)
    os.chown(raw / "both" / "file", 5001, 1000)
    check_equal(owner(mapped / "both" / "file"), (6001, 2000), "and goes on")


def squashed(cloud, raw):
    """As all_squash of NFS: what is created belongs to one user; owners are shown as they are."""
    mount = cloud.mount("squash=1000:1001", name="squashed")
    open_directory(raw, "squash")
    open_directory(raw, "squash-team", 0o2777, (0, 5050))
    top = mount / "squash"
    make_one_of_each(top)
    check_equal({n: owner(raw / "squash" / n) for n in EACH}, dict.fromkeys(EACH, (1000, 1001)),
                "what root creates belongs to the user")
    check_equal(owners_below(top), owners_below(raw / "squash"), "and is shown so")
    check_equal(as_user(4711, 4711, lambda: (top / "theirs").write_bytes(b"x")), 0, "another user creates")
    check_equal(owner(raw / "squash" / "theirs"), (1000, 1001), "for the same user")
    check_equal(as_user(4711, 4711, lambda: append(top / "theirs")), errno.EACCES,
                "permissions are checked here, by what is shown")
    check_equal(as_user(1000, 1001, lambda: append(top / "theirs")), 0, "the user of that number owns it")
    (mount / "squash-team" / "file").touch()
    check_equal(owner(raw / "squash-team" / "file"), (1000, 5050), "set-group-id gives the group")
    os.chown(raw / "squash" / "theirs", 0, 0)
    for what, path, ids in (("another owner", "file", (0, -1)), ("a foreign group", "file", (-1, 0)),
                            ("to the user", "theirs", (1000, -1)), ("to its group", "theirs", (-1, 1001))):
        expect_errno(errno.EPERM, f"chown: {what}", os.chown, top / path, *ids)
    os.chown(top / "file", 1000, 1001)
    os.chown(top / "theirs", 0, 0)
    os.chown(mount / "squash-team" / "file", -1, 1001)
    check_equal([owner(raw / n) for n in ("squash/file", "squash/theirs", "squash-team/file")],
                [(1000, 1001), (0, 0), (1000, 1001)], "what changes nothing, and its own group, are taken")
    os.chmod(top / "theirs", 0o600)
    check_equal(mode(raw / "squash" / "theirs"), 0o600, "root has its rights here")
    archive = cloud.root / "archive.tar"
    (top / "tar").mkdir()
    done = run_as(0, 0, "tar", "-C", top / "tar", "--no-same-owner", "-xf", archive)
    check(done.returncode == 0, "tar -x --no-same-owner as root", done.stderr)
    check_equal(set(owners_below(raw / "squash" / "tar").values()), {(1000, 1001)}, "all the user's")
    done = run_as(0, 0, "tar", "-C", top / "tar", "--numeric-owner", "-xf", archive)
    check(done.returncode != 0 and os.strerror(errno.EPERM) in done.stderr,
          "with the archive's owners it fails, as on NFS", done.stderr)
    mount.unmount()


def like_an_idmapped_mount(cloud):
    """The same expectations, of the local file system behind a map of the kernel."""
    disk, shown = cloud.root / "disk", cloud.root / "idmapped"
    disk.mkdir()
    shown.mkdir()
    lines = {kind: "".join(" ".join((line.split() + ["1"])[1:4]) + "\n" for line in MAP.splitlines()
                           if line.startswith(kind)) for kind in ("uid", "gid")}
    try:
        mount_idmapped(disk, shown, lines["uid"], lines["gid"])
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        return note(f"not compared with an idmapped mount, which cannot be had here: {error}")
    try:
        ids_are_mapped_both_ways(disk, shown)
        what_has_no_id_here(disk, shown)
        who_has_no_id_in_the_cloud(disk, shown)
        groups_are_inherited(disk, shown)
    finally:
        subprocess.run(["umount", shown], check=True, timeout=60)


def like_the_local_file_system(cloud, raw, rng, rounds):
    """Every id shifted: whatever programs do is as on ext4, and the cloud has the shifted ids."""
    file = cloud.root / "shifted.map"
    file.write_text(SHIFTED)
    open_directory(raw, "shifted", 0o777, (SHIFT, SHIFT))
    local = cloud.root / "local"
    local.mkdir()
    mount = cloud.mount(f"uidmap={file}", name="shift")

    class Below:
        point = mount / "shifted"

    check_equal(owner(Below.point), (0, 0), "shown as root's")
    hand_written_cases(Below, local)
    random_scripts(Below, local, rng, rounds, 400, times=False)
    run_as(0, 0, "cp", "-a", "/etc/default", Below.point / "copy")
    ids = set(owners_below(raw / "shifted").values())
    check(ids and all(uid >= SHIFT and gid >= SHIFT for uid, gid in ids), "all ids are shifted", ids)
    shutil.rmtree(Below.point / "copy")
    mount.unmount()


def errors_are_a_line(cloud):
    file = cloud.root / "wrong.map"
    point = cloud.root / "nowhere"
    point.mkdir()
    for text, options, status, words in (
            ("uid 0 0\nuid x 1\n", f"uidmap={file}", 32, [f"{file}:2:", "uid CLOUD LOCAL [COUNT]"]),
            ("uid 0 0\nuid 0 1\n", f"uidmap={file}", 32, [f"{file}:2:", "mapped already"]),
            ("uid 0 0\n", f"uidmap={file}", 32, [f"{file}: no line begins with gid", "gid 0 0 4294967295"]),
            ("", f"uidmap={file}.none", 32, [f"-o uidmap={file}.none", "No such file"]),
            ("", f"uidmap={point}", 32, ["not a regular file"]),
            ("", "squash=nobody:nogroup", 1, ["-o squash=nobody:nogroup", "squash=1000:1000"]),
            (MAP, f"squash=1:1,uidmap={file}", 1, ["-o squash", "-o uidmap"])):
        file.write_text(text)
        done = subprocess.run([BUILD / "bin" / "mount.datacloud", cloud.config, point, "-o", options],
                              capture_output=True, text=True, timeout=60)
        check(done.returncode == status and done.stderr.strip().count("\n") == 0
              and all(w in done.stderr for w in words), f"-o {options}: a line with the remedy",
              f"status {done.returncode}: {done.stderr}")


def test(options):
    rng = random.Random(options.seed)
    os.umask(0o022)
    with Cloud() as cloud:
        cloud.start_daemon()
        file = cloud.root / "map"
        file.write_text(MAP)
        raw, mapped = cloud.mount(name="raw"), cloud.mount(f"uidmap={file}", name="mapped")
        ids_are_mapped_both_ways(raw, mapped)
        what_has_no_id_here(raw, mapped)
        who_has_no_id_in_the_cloud(raw, mapped)
        groups_are_inherited(raw, mapped)
        programs_keep_owners(cloud, raw, mapped)
        like_an_idmapped_mount(cloud)
        maps_outlive_remounts(cloud, raw, mapped, file)
        squashed(cloud, raw)
        errors_are_a_line(cloud)
        like_the_local_file_system(cloud, raw, rng, options.rounds or (10 if SLOWNESS == 1 else 3))
        for mount in (raw, mapped):
            mount.unmount()
        check_equal(cloud.run_tool("fsck", "-n").returncode, 0, "the records are sound")


if __name__ == "__main__":
    harness.main(test, 300)
