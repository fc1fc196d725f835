"""Programs people use, inside the mount: git, make, tar, rsync, sqlite, fio, an image tool."""

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import SLOWNESS, Cloud, sha256_tree  # noqa: E402
from harness import check, check_equal, note  # noqa: E402

ENVIRONMENT = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null",
               "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org",
               "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org", "LC_ALL": "C"}


def run(*command, cwd=None, seconds=120):
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True,
                          timeout=seconds * SLOWNESS, env=ENVIRONMENT, check=False)
    if done.returncode != 0:
        raise harness.CheckFailed(f"{' '.join(map(str, command))}: status {done.returncode}: "
                                  f"{(done.stderr + done.stdout)[-2000:]}")
    return done.stdout


def git(cloud, mount, rng):
    source = cloud.root / "repository"
    source.mkdir()
    run("git", "init", "-q", "-b", "main", cwd=source)
    for commit in range(4):
        for i in range(80):
            trees.write_file(source / f"d{i % 7}" / f"file{i}.txt",
                             trees.text_like(rng, rng.randint(10, 20_000)))
        run("git", "add", "-A", cwd=source)
        run("git", "commit", "-q", "-m", f"commit {commit}", cwd=source)
    clone = mount / "clone"
    run("git", "clone", "-q", "--no-hardlinks", source, clone)
    run("git", "fsck", "--full", "--strict", cwd=clone)
    check_equal(run("git", "status", "--porcelain", cwd=clone), "", "git clone: clean and fsck'd")
    run("git", "checkout", "-q", "HEAD~3", cwd=clone)
    run("git", "checkout", "-q", "main", cwd=clone)
    run("git", "gc", "-q", "--prune=now", cwd=clone)
    run("git", "fsck", "--full", cwd=clone)
    mount.remount()
    run("git", "fsck", "--full", cwd=clone)
    check_equal(run("git", "status", "--porcelain", cwd=clone), "",
                "git checkout, gc and a remount: clean and fsck'd")


def c_build(mount):
    """A library of 24 sources, a program, make -j2; then an incremental make does nothing."""
    root = mount / "c"
    functions = range(24)
    trees.write_file(root / "all.h", b"".join(b"int f%d(int);\n" % i for i in functions))
    for i in functions:
        trees.write_file(root / f"f{i}.c", b'#include "all.h"\nint f%d(int x) { return %s; }\n' % (
            i, b"f%d(x) + 1" % (i - 1) if i else b"x"))
    trees.write_file(root / "main.c", b'#include <stdio.h>\n#include "all.h"\n'
                     b'int main(void) { printf("%d\\n", f23(100)); return 0; }\n')
    trees.write_file(root / "Makefile", b"CFLAGS = -O1 -MMD\nSRC = $(wildcard f*.c)\n"
                     b"all: prog\nlibf.a: $(SRC:.c=.o)\n\t$(AR) rcs $@ $^\n"
                     b"prog: main.o libf.a\n\t$(CC) -o $@ main.o -L. -lf\n-include $(wildcard *.d)\n")
    run("make", "-j2", cwd=root)
    check_equal(run(root / "prog"), "123\n", "make -j2: the program runs from the mount")
    check("Nothing to be done" in run("make", cwd=root), "make again: nothing to be done")
    time.sleep(0.02)
    os.utime(root / "f5.c")
    check("f5.c" in run("make", cwd=root), "make after touching a source: that one is compiled")


def tar_and_rsync(cloud, mount, rng):
    local = trees.make_tree(cloud.root / "tree", rng, small=150, large=(3 << 20,))
    (local / "empty-directory").mkdir()
    os.link(local / "large" / "large-0.bin", local / "hard-link")
    os.chmod(local / "dir0", 0o2750)
    os.mkfifo(local / "fifo")
    os.setxattr(local / "hard-link", "user.note", b"kept")
    expected = sha256_tree(local)
    (mount / "untarred").mkdir()
    run("bash", "-c", f"tar -C {local} --xattrs -cf - . | tar -C {mount.point}/untarred --xattrs -xpf -")
    check_equal(sha256_tree(mount / "untarred"), expected, "tar | tar: exact")
    run("tar", "-C", local, "-cf", mount / "archive.tar", ".")
    run("tar", "-C", mount / "untarred", "--compare", "-f", mount / "archive.tar")
    note("ok: tar --compare finds no difference")
    target = mount / "synced"
    run("rsync", "-aHAX", f"{local}/", f"{target}/")
    check_equal(sha256_tree(target), expected, "rsync -aHAX: exact")
    check_equal(run("rsync", "-aHAXi", f"{local}/", f"{target}/"), "",
                "rsync again: nothing to transfer")
    mount.remount()
    check_equal(run("rsync", "-aHAXci", f"{local}/", f"{target}/"), "",
                "rsync after a remount, comparing contents: nothing to transfer")


SQLITE_WRITER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
db.execute("pragma synchronous=full")
db.execute("create table if not exists t (worker int, n int, body blob)")
worker = int(sys.argv[2])
n = db.execute("select coalesce(max(n), 0) from t where worker = ?", (worker,)).fetchone()[0]
while True:
    n += 1
    db.execute("begin immediate")
    db.executemany("insert into t values (?, ?, zeroblob(700))", [(worker, n)] * 5)
    if n % 10 == 0:
        db.execute("delete from t where worker = ? and n < ?", (worker, n - 20))
    db.execute("commit")
    print(n, flush=True)
"""


def sqlite_survives_kills(cloud, mount, mode):
    """Two writers on one database are killed, later with the mount; what they committed is there."""
    path = mount / f"{mode}.db"
    # Once: sqlite's busy handler does not cover two connections that change the mode together.
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f"pragma journal_mode={mode}")
        db.execute("create table t (worker int, n int, body blob)")
    for victim in ("writers", "mount", "writers", "mount"):
        writers = [subprocess.Popen([sys.executable, "-c", SQLITE_WRITER, path, str(i)],
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                   for i in range(2)]
        time.sleep(1.2 * min(SLOWNESS, 3))
        if victim == "mount":
            mount.kill()
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
        committed = []
        for writer in writers:
            out, err = writer.communicate(timeout=30)
            numbers = out.split()
            committed.append(int(numbers[-1]) if numbers else 0)
            if victim == "writers" and "Error" in err:
                check(False, f"sqlite {mode}: no errors", err)
        if victim == "mount":
            mount = cloud.mount()
        with sqlite3.connect(path, timeout=30) as db:
            check_equal(db.execute("pragma integrity_check").fetchall(), [("ok",)],
                        f"sqlite {mode}, {victim} killed: integrity_check")
            for worker, number in enumerate(committed):
                seen = db.execute("select coalesce(max(n), 0) from t where worker = ?",
                                  (worker,)).fetchone()[0]
                check(seen >= number, f"writer {worker}: commit {number} is there", seen)
                torn = db.execute("select count(*) from (select count(*) c from t where worker = ? "
                                  "group by n having c != 5)", (worker,)).fetchone()[0]
                check(torn == 0, f"writer {worker}: no transaction is half there")
        db.close()
        check(max(committed) > 0, f"commits were made: {committed}")
    return mount


def fio_verifies(mount):
    jobs = [
        ("psync, small blocks", ["--ioengine=psync", "--rw=randrw", "--bs=4k", "--size=16m",
                                 "--numjobs=3", "--fsync=64"]),
        ("psync, odd sizes", ["--ioengine=psync", "--rw=randwrite", "--bsrange=512-200k",
                              "--bs_unaligned", "--size=16m", "--numjobs=2"]),
        ("mmap", ["--ioengine=mmap", "--rw=randwrite", "--bs=4k", "--size=8m", "--numjobs=2"]),
        ("sequential, direct", ["--ioengine=psync", "--rw=write", "--bs=256k", "--size=64m",
                                "--direct=1"]),
        ("libaio", ["--ioengine=libaio", "--iodepth=16", "--rw=randwrite", "--bs=16k",
                    "--size=32m"]),
    ]
    directory = mount / "fio"
    directory.mkdir()
    for what, words in jobs:
        words = [w if SLOWNESS == 1 or not w.startswith("--size") else "--size=2m" for w in words]
        run("fio", "--name=job", f"--directory={directory}", "--verify=crc32c", "--do_verify=1",
            "--verify_fatal=1", "--verify_state_save=0", "--randrepeat=0", "--group_reporting",
            *words)
        note(f"ok: fio verify: {what}")
        for file in directory.iterdir():
            file.unlink()


def image_tool_in_a_chroot(cloud, mount):
    """Pictures made on the local disk are read and made from the mount inside a chroot."""
    pictures = cloud.root / "pictures"
    pictures.mkdir()
    for i, kind in enumerate(["jpg", "png", "tif"]):
        run("convert", "-seed", i, "-size", "700x500", "plasma:fractal", pictures / f"p{i}.{kind}")
    trees.copy_into(pictures, mount / "pictures")
    mount.remount()
    script = f"""
      set -e
      root={cloud.root}/jail
      mkdir -p $root/data
      for d in bin lib lib64 usr etc sbin proc dev tmp; do
        [ -e /$d ] || continue
        mkdir -p $root/$d && mount --bind /$d $root/$d
      done
      mount --bind {mount.point} $root/data
      chroot $root /bin/sh -c '
        cd /data/pictures
        for p in p0.jpg p1.png p2.tif; do
          identify -format "%m %w %h %#\\n" $p
          convert $p -resize 50% small-$p
          identify -format "%m %w %h\\n" small-$p
        done'
    """
    out = run("unshare", "-m", "--propagation", "private", "bash", "-c", script)
    signatures = run("identify", "-format", "%m %w %h %#\n",
                     *(pictures / n for n in ("p0.jpg", "p1.png", "p2.tif"))).split("\n")
    lines = out.split("\n")
    check_equal(lines[0:6:2], signatures[:3], "identify in a chroot: pixels are exact")
    check(all(" 350 250" in line for line in lines[1:6:2]), "convert in a chroot writes", lines)


def copy_tools(cloud, mount, rng):
    """cp with its modern system calls, dd, sort with temporary files, cmp."""
    source = cloud.root / "blob"
    source.write_bytes(rng.randbytes(9_000_001))
    run("cp", "--preserve=all", source, mount / "cp")
    run("cp", "--sparse=always", mount / "cp", mount / "cp-again")
    run("dd", f"if={mount.point}/cp", f"of={mount.point}/dd", "bs=37777", "conv=fsync")
    for name in ("cp", "cp-again", "dd"):
        run("cmp", source, mount / name)
    shutil.copyfile(mount / "cp", mount / "python")  # copy_file_range or sendfile
    run("cmp", source, mount / "python")
    note("ok: cp, cp --sparse, dd, copyfile: exact")
    trees.write_file(mount / "lines", b"\n".join(b"%d" % rng.randrange(10**9)
                                                 for _ in range(200_000)))
    run("sort", "-n", "-S", "1M", "-T", mount.point, "-o", mount / "sorted", mount / "lines")
    run("sort", "-n", "-c", mount / "sorted")
    note("ok: sort with temporary files in the mount")


def test(options):
    rng = random.Random(options.seed)
    with Cloud() as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        git(cloud, mount, rng)
        c_build(mount)
        tar_and_rsync(cloud, mount, rng)
        copy_tools(cloud, mount, rng)
        fio_verifies(mount)
        image_tool_in_a_chroot(cloud, mount)
        mount = sqlite_survives_kills(cloud, mount, "delete")
        mount = sqlite_survives_kills(cloud, mount, "wal")
        mount.unmount()


if __name__ == "__main__":
    harness.main(test, 300)
