"""Clones: copy_file_range by shared blocks and `datacloud clone`. Their bytes, holes, sizes and times
are right at once and on every mount, whatever is done to either file afterwards; folds, fsck and
collection know them; deaths of daemon and mounts make nothing twice; no data move."""

import concurrent.futures
import errno
import fcntl
import json
import mmap
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import SLOWNESS, Cloud, sha256_tree, wait_for  # noqa: E402
from harness import check, check_equal, expect_errno, note  # noqa: E402

BLOCK = 64 << 10
PAGE = 4096


def sync(mount):
    """Everything of the mount is committed."""
    fd = os.open(mount, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def live_bytes(cloud):
    for mount in cloud.mounts:
        if mount.process.poll() is None:
            sync(mount)
    return cloud.status()["capacity"]["live_bytes"]


def copy_range(source, target, length, at=0, to=0):
    """All of it, as programs do: by as many calls as it takes."""
    done = 0
    while done < length:
        n = os.copy_file_range(source, target, length - done, at + done, to + done)
        if n == 0:
            break
        done += n
    return done


def copy_file(source, target):
    with open(source, "rb") as one, open(target, "r+b" if target.exists() else "wb") as two:
        size = os.fstat(one.fileno()).st_size
        check_equal(copy_range(one.fileno(), two.fileno(), size), size, f"{target.name} is copied")


def holes(path):
    """[(begin, end)] of the data, as SEEK_DATA and SEEK_HOLE tell."""
    found, at = [], 0
    with open(path, "rb") as file:
        while True:
            try:
                begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return found
            at = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            found.append((begin, at))


def fsck_is_clean(cloud, what):
    done = cloud.run_tool("fsck", "-n", "--json", seconds=120)
    check(done.returncode == 0, f"fsck finds nothing wrong {what}", done.stdout[-1500:])


def no_data_move(cloud, one, two, rng):
    source, size = one / "big", 96 << 20
    source.write_bytes(rng.randbytes(size))
    before = live_bytes(cloud)
    start = time.monotonic()
    copy_file(source, one / "big copy")
    note(f"copy_file_range of {size >> 20} MiB took {time.monotonic() - start:.3f} s")
    st = os.stat(one / "big copy")
    check_equal((st.st_size, st.st_blocks * 512), (size, size), "size and blocks are there at once")
    st = os.stat(two / "big copy")
    check_equal((st.st_size, st.st_blocks * 512), (size, size), "on the other mount as well")
    check_equal(live_bytes(cloud), before, "nothing was stored for it")
    check((one / "big copy").read_bytes() == source.read_bytes(), "the bytes are the source's")
    check((two / "big copy").read_bytes() == source.read_bytes(), "on the other mount as well")
    for command in (["cp", source, one / "by cp"],
                    ["cp", "--reflink=auto", "--sparse=never", source, one / "by reflink"],
                    ["datacloud"]):
        if command[0] == "datacloud":
            told = json.loads(cloud.tool("clone", source, one / "by tool", "--json"))
            check_equal((told["bytes_shared"], told["bytes_copied"]), (size, 0), "the tool tells")
            check(told["seconds"] < SLOWNESS, "it takes less than a second", told)
        else:
            subprocess.run(command, check=True)
    for name in ("by cp", "by reflink", "by tool"):
        check((one / name).read_bytes() == source.read_bytes(), f"{name}: the bytes")
        os.unlink(one / name)
    check_equal(live_bytes(cloud), before, "nothing was stored for any of them")
    cloud.collect()
    os.unlink(source)
    cloud.collect()
    one.remount()
    check_equal(len((one / "big copy").read_bytes()), size, "the copy outlives the source")
    os.unlink(one / "big copy")


def holes_and_tails(one, two, rng):
    source = one / "sparse"
    with open(source, "wb") as file:
        file.write(rng.randbytes(BLOCK))
        file.seek(5 * BLOCK + 10)
        file.write(rng.randbytes(2 * BLOCK))
        file.truncate(40 * BLOCK + 77)
    sync(one)
    target = one / "sparse copy"
    target.write_bytes(rng.randbytes(12 * BLOCK))
    sync(one)
    with open(source, "rb") as a, open(target, "r+b") as b:
        size = os.fstat(a.fileno()).st_size
        check_equal(copy_range(a.fileno(), b.fileno(), size), size, "a sparse file is copied")
        os.copy_file_range(a.fileno(), b.fileno(), 0)
    for mount in (one, two):
        copy = mount / "sparse copy"
        check_equal(holes(copy), holes(mount / "sparse"), "holes are holes")
        check_equal(copy.read_bytes(), source.read_bytes(), "the bytes")
        check_equal(os.stat(copy).st_blocks, os.stat(source).st_blocks, "st_blocks")
    content = bytearray(source.read_bytes())
    with open(target, "r+b", buffering=0) as file:
        file.truncate(41 * BLOCK + 5)
        file.seek(40 * BLOCK + 70)
        file.write(b"x" * 20)
    content[40 * BLOCK + 70:] = b"x" * 20
    content += bytes(41 * BLOCK + 5 - len(content))
    check_equal((two / "sparse copy").read_bytes(), bytes(content), "a shared tail is written past")


def attributes_and_errors(one, rng):
    source, target = one / "attr source", one / "attr target"
    source.write_bytes(rng.randbytes(4 * BLOCK))
    target.write_bytes(b"old")
    sync(one)
    os.chmod(target, 0o6775)
    os.utime(target, (1, 1))
    before = os.stat(target)

    child = os.fork()
    if child == 0:  # not as root, who keeps them
        try:
            with open(source, "rb") as a, open(target, "r+b") as b:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                os._exit(0 if os.copy_file_range(a.fileno(), b.fileno(), 4 * BLOCK) == 4 * BLOCK else 1)
        finally:
            os._exit(2)
    check_equal(os.waitpid(child, 0)[1], 0, "copied as another user")
    after = os.stat(target)
    check_equal(stat.S_IMODE(after.st_mode), 0o775, "set-user-id and set-group-id go")
    check(after.st_mtime > 1 and after.st_ctime >= before.st_ctime, "mtime and ctime are now")
    with open(source, "r+b") as a, open(target, "r+b") as b, open(target, "ab") as append:
        f, t = a.fileno(), b.fileno()
        expect_errno(errno.EBADF, "an append-only target", os.copy_file_range, f,
                     append.fileno(), BLOCK)
        expect_errno(errno.EINVAL, "overlapping ranges", os.copy_file_range, f, f, 2 * BLOCK, 0,
                     BLOCK)
        check_equal(os.copy_file_range(f, t, BLOCK, 100 * BLOCK, 0), 0, "beyond the source's end")
        check_equal(os.copy_file_range(f, f, 2 * BLOCK, 0, 2 * BLOCK), 2 * BLOCK, "within a file")
    content = source.read_bytes()
    check_equal(content[:2 * BLOCK], content[2 * BLOCK:], "gives its bytes")
    (one / "a directory").mkdir(exist_ok=True)
    fd = os.open(one / "a directory", os.O_RDONLY)
    try:
        expect_errno(errno.ENOTTY, "the ioctl of clones, of a directory", fcntl.ioctl, fd,
                     0x4004DC01, b"\1\0\0\0")
    finally:
        os.close(fd)


def pages_of_mappings(one, rng):
    """What mappings of the target show, and what those of the source hold unwritten."""
    source, target = one / "mapped source", one / "mapped target"
    source.write_bytes(rng.randbytes(8 * BLOCK))
    target.write_bytes(rng.randbytes(8 * BLOCK))
    sync(one)
    with open(source, "r+b") as a, open(target, "r+b") as b:
        with mmap.mmap(a.fileno(), 0) as from_map, mmap.mmap(b.fileno(), 0) as to_map:
            for turn in range(30):
                page = rng.randrange(8 * BLOCK // PAGE) * PAGE
                from_map[page:page + PAGE] = rng.randbytes(PAGE)
                mine = rng.randrange(8 * BLOCK // PAGE) * PAGE
                to_map[mine:mine + PAGE] = rng.randbytes(PAGE)
                expected = bytearray(to_map[:])
                first = rng.randrange(8) * BLOCK
                length = rng.choice([BLOCK, 8 * BLOCK - first, PAGE])
                length = min(length, 8 * BLOCK - first)
                expected[first:first + length] = from_map[first:first + length]
                copy_range(a.fileno(), b.fileno(), length, first, first)
                if to_map[:] != bytes(expected):
                    check(False, "a mapping shows what was copied", f"turn {turn}")
                if os.pread(b.fileno(), 8 * BLOCK, 0) != bytes(expected):
                    check(False, "read shows what was copied", f"turn {turn}")
    note("ok: mappings of both files and reads agree, 30 times")


def between_mounts(one, two, rng):
    data = rng.randbytes(8 * BLOCK + 5)
    (one / "theirs").write_bytes(data)  # dirty there
    copy_file(two / "theirs", two / "mine")
    check_equal((two / "mine").read_bytes(), data, "what another mount had not written yet")
    with open(one / "theirs", "r+b") as file:
        file.write(b"changed afterwards")
    check_equal((two / "mine").read_bytes(), data, "its later changes do not show")
    check_equal((one / "mine").read_bytes(), data, "nor there")
    (one / "mine").write_bytes(b"short")
    check_equal((two / "mine").read_bytes(), b"short", "the copy is changed by the other mount")

    # Both clone the other's file at once, again and again: nobody waits for ever.
    for name in ("x", "y"):
        (one / name).write_bytes(rng.randbytes(4 * BLOCK))
    sync(one)

    def cross(mount, source, target):
        for _ in range(20):
            with open(mount / source, "rb") as a, open(mount / target, "r+b") as b:
                copy_range(a.fileno(), b.fileno(), 4 * BLOCK)
    threads = [threading.Thread(target=cross, args=(one, "x", "y")),
               threading.Thread(target=cross, args=(two, "y", "x"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check_equal((one / "x").read_bytes(), (two / "x").read_bytes(), "both mounts agree afterwards")


def the_command(cloud, one, two, rng):
    source, target = one / "original", one / "cloned"
    source.write_bytes(rng.randbytes(3 * BLOCK + 9))
    os.chmod(source, 0o640)
    told = cloud.tool("clone", source, target)
    check("shared in" in told, "the tool says what it did", told)
    check_equal((target.read_bytes(), stat.S_IMODE(os.stat(target).st_mode)),
                (source.read_bytes(), 0o640), "bytes and mode")

    def refused(what, words, *arguments):
        done = cloud.run_tool("clone", *arguments)
        check(done.returncode == 1 and words in done.stderr, what, done)
    refused("a target that exists", "--force", source, target)
    refused("another mount", "not below one mount", source, two / "elsewhere")
    refused("a file of another file system", "not below a mount", cloud.config, one / "x")
    refused("a directory", "not a regular file", one / "a directory", one / "y")
    os.mkfifo(one / "a pipe")
    refused("a pipe that nobody writes to", "not a regular file", one / "a pipe", one / "y")
    os.unlink(one / "a pipe")
    refused("itself", "one file", source, source, "--force")
    source.write_bytes(b"new")
    cloud.tool("clone", source, target, "--force")
    check_equal(target.read_bytes(), b"new", "--force replaces")
    (one / "empty").write_bytes(b"")
    cloud.tool("clone", one / "empty", one / "empty copy")
    check_equal(os.stat(one / "empty copy").st_size, 0, "an empty file")
    other = one / "other blocks"
    other.mkdir()
    cloud.tool("policy", "set", other, "--block", "4KiB")
    source.write_bytes(rng.randbytes(3 * BLOCK))
    refused("blocks of another size", "its blocks are of 64.0 KiB", source, other / "copy")
    told = json.loads(cloud.tool("clone", source, other / "copy", "--copy-allowed", "--json"))
    check_equal((told["bytes_shared"], told["bytes_copied"]), (0, 3 * BLOCK), "copied when allowed")
    check_equal((other / "copy").read_bytes(), source.read_bytes(), "with its bytes")
    check([n for n in os.listdir(one) if ".clone-" in n] == [], "nothing is left of refused ones")


def programs(one, rng):
    """Programs that copy by copy_file_range, and what reads the copies."""
    source = one / "tree"
    trees.make_tree(source, rng)
    expected = sha256_tree(source)
    sync(one)
    subprocess.run(["cp", "-a", source, one / "tree cp"], check=True)
    check_equal(sha256_tree(one / "tree cp"), expected, "cp -a")
    for command in (["rsync", "-a", f"{source}/", f"{one / 'tree rsync'}/"],
                    ["sh", "-c", f"mkdir '{one.point}/tree tar' && tar -C '{source}' -c . | "
                                 f"tar -C '{one.point}/tree tar' -x"]):
        if subprocess.run(["which", command[0]], capture_output=True, check=False).returncode:
            note(f"{command[0]} is not installed")
            continue
        subprocess.run(command, check=True)
    check_equal(sha256_tree(one / "tree tar"), expected, "tar")
    repository = one / "repository"
    run = ["git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@x"]
    subprocess.run(["git", "init", "-q", repository], check=True)
    subprocess.run(["cp", "-r", one / "tree cp", repository / "files"], check=True)
    for command in (["add", "."], ["commit", "-qm", "x"], ["gc", "-q"], ["fsck", "--full"]):
        subprocess.run(run + command, check=True, capture_output=True)
    note("ok: git over copied files")


class Model:
    """Files of a mount beside their bytes."""

    def __init__(self, mount, rng):
        self.mount, self.rng, self.files = mount, rng, {}
        (mount / "model").mkdir(exist_ok=True)

    def path(self, name):
        return self.mount / "model" / name

    def step(self):
        rng, name = self.rng, f"f{self.rng.randrange(8)}"
        kind = rng.random()
        if name not in self.files:
            self.files[name] = bytearray(rng.randbytes(rng.randrange(1, 20 * BLOCK)))
            self.path(name).write_bytes(self.files[name])
        elif kind < 0.25:
            content = self.files[name]
            at = rng.randrange(len(content) + 1)
            data = rng.randbytes(rng.randrange(1, 2 * BLOCK))
            with open(self.path(name), "r+b") as file:
                file.seek(at)
                file.write(data)
            content[at:at + len(data)] = data
        elif kind < 0.35:
            size = rng.randrange(22 * BLOCK)
            os.truncate(self.path(name), size)
            content = self.files[name]
            self.files[name] = content[:size] + bytes(max(0, size - len(content)))
        elif kind < 0.40:
            os.unlink(self.path(name))
            del self.files[name]
        elif kind < 0.5:
            if bytes(self.files[name]) != self.path(name).read_bytes():
                check(False, "the bytes of the model", name)
        else:
            self.clone(name, rng.choice(sorted(self.files)))

    def clone(self, name, other):
        rng, source, target = self.rng, self.files[name], self.files[other]
        shift = rng.choice([0, 0, 0, rng.randrange(BLOCK)])
        at = rng.randrange(len(source) // BLOCK + 1) * BLOCK + shift
        to = rng.randrange(20) * BLOCK + shift
        length = rng.choice([len(source), rng.randrange(1, 8 * BLOCK)])
        length = max(0, min(length, len(source) - at))
        if name == other and at < to + length and to < at + length:
            return
        with open(self.path(name), "rb") as a, open(self.path(other), "r+b") as b:
            done = copy_range(a.fileno(), b.fileno(), length, at, to)
        if done != length:
            check(False, "all of a range is copied", (done, length))
        part = bytes(source[at:at + length])
        if length and len(target) < to:
            target += bytes(to - len(target))
        target[to:to + length] = part

    def compare(self, what):
        for name, content in sorted(self.files.items()):
            if self.path(name).read_bytes() != bytes(content):
                check(False, what, name)
        check(True, f"{what}: the bytes of {len(self.files)} files")


def folds_and_deaths(cloud, one, rng):
    model = Model(one, rng)
    for turn in range(6):
        for _ in range(60):
            model.step()
        sync(one)
        if turn % 2 == 0:
            cloud.tool("fold", "--wait", seconds=180)
            model.compare("folded")
        if turn == 1:
            fsck_is_clean(cloud, "while mounted")
        if turn == 3:  # in the middle of clones
            end = time.monotonic() + 8

            def work():
                while time.monotonic() < end:
                    model.step()
            # The daemon is this thread's child: it would die with another one.
            with concurrent.futures.ThreadPoolExecutor() as pool:
                working = pool.submit(work)
                while not working.done():
                    time.sleep(rng.random() * 0.5)
                    cloud.kill_daemon()
                    cloud.start_daemon()
                working.result()
            model.compare("deaths of the daemon")
        if turn == 4:
            sync(one)
            one.kill()
            one.process = cloud.start_mount_process(one.point, one.log, one.options)
            model.compare("death of the mount")
    sync(one)
    one.remount()
    model.compare("mounted anew")
    fsck_is_clean(cloud, "after folds and deaths")
    check_equal(json.loads(cloud.tool("audit", "--json", seconds=120))["bad"], [], "all is proven")
    for name in list(model.files):
        os.unlink(model.path(name))


def killed_while_the_daemon_is_silent(cloud, one, rng):
    (one / "silent").write_bytes(rng.randbytes(8 * BLOCK))
    (one / "silent copy").write_bytes(b"")
    sync(one)
    program = ("import os,sys; a=os.open(sys.argv[1],os.O_RDONLY); "
               "b=os.open(sys.argv[2],os.O_RDWR); print(flush=True); "
               "os.copy_file_range(a,b,8*65536)")
    with subprocess.Popen([sys.executable, "-c", program, one / "silent", one / "silent copy"],
                          stdout=subprocess.PIPE) as process:
        cloud.daemon.send_signal(signal.SIGSTOP)
        try:
            process.stdout.readline()
            time.sleep(0.5)
            process.kill()
            start = time.monotonic()
            process.wait()
            check(time.monotonic() - start < 5, "a killed program ends at once")
        finally:
            cloud.daemon.send_signal(signal.SIGCONT)
    data = (one / "silent copy").read_bytes()
    check(data in (b"", (one / "silent").read_bytes()), "it has happened or not", len(data))
    copy_file(one / "silent", one / "silent copy")
    check_equal((one / "silent copy").read_bytes(), (one / "silent").read_bytes(), "and works again")


def without_the_feature(rng):
    with Cloud(create=False, daemon={"lease_ms": 2000}) as cloud:
        cloud.tool("create", "--features", "none")
        cloud.start_daemon()
        mount = cloud.mount()
        (mount / "a").write_bytes(rng.randbytes(6 * BLOCK))
        before = live_bytes(cloud)
        copy_file(mount / "a", mount / "b")
        check(live_bytes(cloud) >= 2 * before, "without the feature data are copied")
        check_equal((mount / "b").read_bytes(), (mount / "a").read_bytes(), "to the same bytes")
        done = cloud.run_tool("clone", mount / "a", mount / "c")
        check(done.returncode == 1 and "feature enable shared-slots" in done.stderr,
              "the tool names the feature", done)
        check(not (mount / "c").exists(), "and leaves nothing")
        cloud.tool("feature", "enable", "shared-slots")
        wait_for(lambda: cloud.run_tool("clone", mount / "a", mount / "c").returncode == 0, 20,
                 "the mount to hear of it")
        before = live_bytes(cloud)
        copy_file(mount / "a", mount / "d")
        check_equal(live_bytes(cloud), before, "switched on, the same mount shares")
        mount.unmount()


def test(options):
    rng = random.Random(options.seed)
    with Cloud() as cloud:
        cloud.start_daemon()
        one, two = cloud.mount(), cloud.mount(name="two")
        no_data_move(cloud, one, two, rng)
        holes_and_tails(one, two, rng)
        attributes_and_errors(one, rng)
        pages_of_mappings(one, rng)
        between_mounts(one, two, rng)
        the_command(cloud, one, two, rng)
        programs(one, rng)
        killed_while_the_daemon_is_silent(cloud, one, rng)
        fsck_is_clean(cloud, "after all that")
        two.unmount()
        folds_and_deaths(cloud, one, rng)
        for name in os.listdir(one):
            subprocess.run(["rm", "-r", one / name], check=True)
        cloud.wait_until_empty()
        check_equal(cloud.status()["capacity"]["live_bytes"], 0, "no byte is left of anything")
        one.unmount()
        fsck_is_clean(cloud, "at the end")
    without_the_feature(rng)


if __name__ == "__main__":
    harness.main(test, 400)
