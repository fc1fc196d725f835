"""fsyncs of little data in a cloud with `inline`: one round trip and no shard; read by every mount, after kill
-9 of mount and daemon; into stripes when files are quiet; seeded changes of two mounts against a model; O_DIRECT,
holes, clones; requests that are sent again; recovery from the sites; what a dead mount leaves is moved."""

import json
import mmap
import os
import random
import shutil
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import Cloud, wait_for  # noqa: E402
from harness import check, check_equal, note  # noqa: E402

BLOCK = 65536


def write_synced(path, offset, data, flags=0):
    fd = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o644)
    try:
        os.pwrite(fd, data, offset)
        os.fsync(fd)
    finally:
        os.close(fd)


def in_metadata(cloud, path):
    told = cloud.locate(path)
    return told["blocks_in_metadata"], told["blocks_patched"]


def switched_on(cloud):
    refused = cloud.run_tool("feature", "enable", "inline")
    check(refused.returncode != 0 and "datacloud journal enable" in refused.stderr,
          "without a journal it cannot be switched on", refused.stderr)
    cloud.tool("journal", "enable")
    cloud.tool("feature", "enable", "inline")


def little_data_needs_no_shard(cloud, mount):
    path = mount / "small"
    before = cloud.status()["stripes"]
    write_synced(path, 0, b"hello")
    check_equal(in_metadata(cloud, path), (1, 0), "a small file is in the metadata")
    check_equal(cloud.status()["stripes"], before, "and in no stripe")
    check_equal((os.stat(path).st_size, os.stat(path).st_blocks > 0), (5, True), "as stat sees it")
    text = cloud.tool("locate", str(path))
    check("are in the metadata" in text, "locate says so", text)
    large = mount / "large"
    write_synced(large, 0, random.Random(1).randbytes(4 * BLOCK))
    write_synced(large, 2 * BLOCK + 100, b"patch")
    check_equal(in_metadata(cloud, large), (0, 1), "a small change of a large file is a patch")
    fd = os.open(large, os.O_RDONLY)
    check_equal((os.lseek(fd, 0, os.SEEK_HOLE), os.lseek(fd, 0, os.SEEK_DATA)), (4 * BLOCK, 0), "no hole")
    os.close(fd)


def killed_programs_lose_nothing(cloud, mount):
    path, data = mount / "log", b""
    for i in range(12):
        line = f"line {i}\n".encode() * (i + 1)
        write_synced(path, len(data), line)
        data += line
    cloud.kill_daemon()
    write = data + b"after"
    cloud.start_daemon()
    write_synced(path, len(data), b"after")
    mount.kill()
    other = cloud.mount(name="other")
    check_equal((other / "log").read_bytes(), write, "what a dead mount has synced")
    check(in_metadata(cloud, other / "log")[0] > 0, "is in the metadata still")
    (other / "log").write_bytes(write[:10])
    other.unmount()
    again = cloud.mount("inline_quiet_ms=60s", name="mnt")
    check_equal((again / "log").read_bytes(), write[:10], "written again")
    return again


def holes_and_clones(cloud, mount):
    path = mount / "holes"
    write_synced(path, 0, b"begin")
    write_synced(path, 5 * BLOCK + 7, b"end")
    check_equal(in_metadata(cloud, path)[0], 2, "two blocks in the metadata")
    fd = os.open(path, os.O_RDWR)
    check_equal([os.lseek(fd, at, how) for at, how in ((0, os.SEEK_DATA), (0, os.SEEK_HOLE), (BLOCK, os.SEEK_DATA))],
                [0, BLOCK, 5 * BLOCK], "data and holes")
    check_equal(os.stat(path).st_blocks * 512, 2 * BLOCK, "st_blocks counts them")
    os.ftruncate(fd, 5 * BLOCK + 9)
    os.fsync(fd)
    os.close(fd)
    copy = mount / "copy"
    shutil.copyfile(path, copy)
    cloud.tool("clone", path, mount / "clone")
    want = b"begin".ljust(5 * BLOCK + 7, b"\0") + b"en"
    check_equal([p.read_bytes() == want for p in (path, copy, mount / "clone")], [True] * 3, "copied and cloned")
    check_equal(in_metadata(cloud, path), (0, 0), "what was cloned is in stripes")
    os.truncate(mount / "clone", 2)
    write_synced(mount / "clone", 2, b"X")
    check_equal((mount / "clone").read_bytes() + path.read_bytes()[:5], b"beXbegin", "each its own")


def direct(cloud, mount, other):
    """O_DIRECT goes past the kernel's pages, and its fsync the same way as others."""
    path, page = mount / "direct", mmap.mmap(-1, 4096)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o644)
    want = bytearray()
    for i in range(6):
        page[:] = bytes([65 + i]) * 4096
        os.pwrite(fd, page, 4096 * (i % 4))
        os.fsync(fd)
        want[4096 * (i % 4):4096 * (i % 4) + 4096] = page[:]
    check_equal(in_metadata(cloud, path)[0], 1, "direct writes are in the metadata")
    check_equal((path.read_bytes() == want, (other / "direct").read_bytes() == want), (True, True), "and read")
    back = mmap.mmap(-1, 16384)
    os.preadv(fd, [back], 0)
    os.close(fd)
    check(back[:] == bytes(want), "also directly")


def daemons_end_while_lines_are_appended(cloud, mount):
    """Each line is there once, in order, whatever of its commit was answered before the daemon died."""
    lines, stop = {"a": 0, "b": 0}, threading.Event()

    def append(name):
        fd = os.open(mount / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        while not stop.is_set():
            os.write(fd, f"{name} {lines[name]}\n".encode())
            os.fsync(fd)
            lines[name] += 1
        os.close(fd)

    threads = [threading.Thread(target=append, args=(name,)) for name in lines]
    for thread in threads:
        thread.start()
    for _ in range(3):
        before = dict(lines)
        wait_for(lambda: all(lines[n] > before[n] + 3 for n in lines), 60, "more lines")
        cloud.kill_daemon()
        cloud.start_daemon()
    stop.set()
    for thread in threads:
        thread.join()
    for name, count in lines.items():
        want = "".join(f"{name} {i}\n" for i in range(count))
        check((mount / name).read_text() == want, f"{count} lines of {name}, each once")


def quiet_files_go_into_stripes(cloud, mount):
    for i in range(20):
        write_synced(mount / f"quiet{i}", 0, b"q" * (i + 1))
    paths = [mount / f"quiet{i}" for i in range(20)]
    times = [os.stat(path).st_mtime_ns for path in paths]
    wait_for(lambda: all(in_metadata(cloud, path) == (0, 0) for path in paths), 60, "stripes")
    check_equal([os.stat(path).st_mtime_ns for path in paths], times, "their times stay")
    check_equal([path.read_bytes() for path in paths], [b"q" * (i + 1) for i in range(20)], "contents")
    check(len({str(cloud.locate(p)["stripes"]) for p in paths}) < 20, "they share stripes")


class Model:
    """One file as it has to be, changed through two mounts in turn."""

    def __init__(self, mounts, name, rng):
        self.mounts, self.name, self.rng, self.data = mounts, name, rng, bytearray()
        (mounts[0] / name).touch()

    def step(self):
        rng = self.rng
        path = rng.choice(self.mounts) / self.name
        kind = rng.randrange(8)
        at = rng.randrange(3 * BLOCK)
        if kind == 0:
            os.truncate(path, at)
            self.data = self.data[:at].ljust(at, b"\0")
        elif kind == 1 and len(self.data) > 4096:
            with open(path, "r+b") as file, mmap.mmap(file.fileno(), len(self.data)) as memory:
                at %= len(self.data) - 10
                memory[at:at + 10] = bytes(10)
                memory.flush()
                self.data[at:at + 10] = bytes(10)
        elif kind == 2:
            self.write(path, at // 4096 * 4096, rng.randbytes(4096), os.O_SYNC)
        elif kind == 3:
            self.write(path, at, rng.randbytes(rng.randrange(1, 2 * BLOCK)), 0)
        elif kind == 4:
            self.write(path, len(self.data), rng.randbytes(rng.randrange(1, 500)), 0)
        else:
            self.write(path, at, rng.randbytes(rng.randrange(1, 5000)), 0)

    def write(self, path, at, data, flags):
        write_synced(path, at, data, flags)
        if len(self.data) < at + len(data):
            self.data = self.data.ljust(at + len(data), b"\0")
        self.data[at:at + len(data)] = data

    def check(self, what):
        for mount in self.mounts:
            if (mount / self.name).read_bytes() != self.data:
                check(False, f"{self.name} is as the model", what)


def two_mounts_against_a_model(cloud, mount, rng):
    other = cloud.mount(name="other")
    models = [Model((mount, other), f"model{i}", rng) for i in range(3)]
    for step in range(150):
        model = rng.choice(models)
        model.step()
        if step % 10 == 0:
            model.check(f"step {step}")
        if step == 75:
            cloud.kill_daemon()
            cloud.start_daemon()
    for model in models:
        model.check("at the end")
    note("ok: two mounts see the same, 150 changes")
    other.unmount()


def machine_is_lost(cloud, mount):
    """The metadata comes back from the sites, with checkpoint and journal, blocks and patches; a dead mount has
    left these, and they go into stripes."""
    rng, want = random.Random(3), {}
    for i in range(12):
        path = mount / f"lost{i}"
        data = bytearray(rng.randbytes(rng.choice((10, 3000, 2 * BLOCK))))
        write_synced(path, 0, data)
        at = rng.randrange(len(data))
        write_synced(path, at, b"a patch")
        data[at:at + 7] = b"a patch"
        want[path.name] = bytes(data)
        if i == 5:
            cloud.tool("journal", "checkpoint")
    before = [in_metadata(cloud, mount / name) for name in want]
    check(sum(b for b, _ in before) > 0 and sum(p for _, p in before) > 0, "blocks and patches", before)
    cloud.kill_daemon()
    mount.kill()
    shutil.rmtree(cloud.root / "state")
    told = json.loads(cloud.tool("recover", "--json", seconds=120))
    check(told["recovered"], "the metadata is rebuilt from the sites")
    cloud.start_daemon()
    found = cloud.run_tool("fsck", "-n", seconds=120)
    check(found.returncode == 0, "fsck finds nothing", found.stdout + found.stderr)

    def inline_blocks():
        cloud.run_tool("fold", "--wait", seconds=120)
        return cloud.status()["inline_blocks"]

    wait_for(lambda: inline_blocks() == 0, 120, "the daemon to move what the dead mount has left")
    reader = cloud.mount("inline_quiet_ms=200ms", name="mnt")
    check_equal({name: (reader / name).read_bytes() for name in want}, want, "all that was fsynced")
    wait_for(lambda: all(in_metadata(cloud, reader / name) == (0, 0) for name in want), 60,
             "the reader to move the patches")
    reader.unmount()
    reader = cloud.mount("inline_quiet_ms=60s", name="mnt")
    check_equal({name: (reader / name).read_bytes() for name in want}, want, "still, from stripes")
    return reader


def records_are_whole(cloud, mount):
    write_synced(mount / "last", 0, b"last")
    mount.unmount()
    cloud.stop_daemon()
    found = cloud.run_tool("fsck", seconds=120)
    check(found.returncode == 0, "fsck finds nothing", found.stdout + found.stderr)


def test(options):
    with Cloud() as cloud:
        cloud.start_daemon()
        mount = cloud.mount("inline_quiet_ms=60s")
        switched_on(cloud)
        mount.unmount()
        mount = cloud.mount("inline_quiet_ms=60s")
        little_data_needs_no_shard(cloud, mount)
        holes_and_clones(cloud, mount)
        other = cloud.mount(name="other")
        direct(cloud, mount, other)
        other.unmount()
        daemons_end_while_lines_are_appended(cloud, mount)
        mount = killed_programs_lose_nothing(cloud, mount)
        mount.unmount()
        mount = cloud.mount("inline_quiet_ms=500ms")
        quiet_files_go_into_stripes(cloud, mount)
        two_mounts_against_a_model(cloud, mount, random.Random(options.seed))
        mount.unmount()
        mount = machine_is_lost(cloud, cloud.mount("inline_quiet_ms=60s", name="mnt"))
        records_are_whole(cloud, mount)


if __name__ == "__main__":
    harness.main(test, 120)
