"""A cloud made by the first format (golden/format1.tar.xz) is read, written and sound; metadata, sites
and keys of a format that nobody knows yet are refused by name, and left as they are.

`golden_test.py --make FILE` makes such an archive with the programs of this build: once per format,
never again for the same one.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import Cloud, CloudError, wait_for  # noqa: E402
from harness import check, check_equal  # noqa: E402

GOLDEN = Path(__file__).resolve().parent / "golden"
PARTS = ["data.key", "service.key", "state", "sites", "manifest.json"]


def describe(top):
    """What a program can see of a tree."""
    found = {}
    for directory, names, files in os.walk(top):
        for name in names + files:
            path = Path(directory) / name
            stat = path.lstat()
            one = {"mode": stat.st_mode, "links": stat.st_nlink, "uid": stat.st_uid,
                   "gid": stat.st_gid, "mtime_ns": stat.st_mtime_ns}
            if path.is_symlink():
                one["target"] = os.readlink(path)
            elif path.is_file():
                data = path.read_bytes()
                one["bytes"] = len(data)
                one["sha256"] = hashlib.sha256(data).hexdigest()
                one["attributes"] = {a: os.getxattr(path, a).decode() for a in os.listxattr(path)
                                     if a.startswith("user.")}
            found[str(path.relative_to(top))] = one
    return found


def fill(top, rng):
    """A little of everything the metadata has."""
    (top / "directory" / "below").mkdir(parents=True)
    for size in (0, 1, 4095, 4096, 4097, 30_000):
        (top / f"random{size}").write_bytes(rng.randbytes(size))
    (top / "text").write_text("Data Cloud\n" * 2_000)
    with open(top / "hole", "wb") as file:
        file.write(b"begin")
        file.seek(50_000)
        file.write(b"end")
    os.sync()
    os.link(top / "text", top / "directory" / "second name")
    (top / "directory" / "link").symlink_to("../text")
    os.mkfifo(top / "directory" / "fifo")
    os.setxattr(top / "text", "user.origin", b"golden")
    os.chmod(top / "random1", 0o4751)
    os.chown(top / "random1", 1000, 1001)
    for i in range(30):
        (top / "directory" / "below" / f"small{i}").write_text(f"number {i}\n" * i)
    os.sync()
    with open(top / "random30000", "r+b") as file:  # overwritten: a stripe with dead slots
        file.seek(10_000)
        file.write(rng.randbytes(7_000))
    (top / "random4095").unlink()
    os.rename(top / "random4097", top / "directory" / "renamed \u00e4\n\udcff")
    os.sync()


def make(archive):
    rng = random.Random(1)
    with Cloud(cloud={"block_bytes": 4096},
               daemon={"fold": "manual", "audit_cycle_ms": 0}) as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        fill(mount.point, rng)
        cloud.take_away(cloud.names[4])  # stand-ins and missing shards
        (mount / "written while a site was away").write_bytes(rng.randbytes(10_000))
        subprocess.run(["sync", mount.point], check=True)
        cloud.stop_daemon()  # before the site returns, and all is repaired
        cloud.put_back(cloud.names[4])
        cloud.start_daemon()
        mount.remount()
        manifest = describe(mount.point)
        mount.unmount()
        cloud.collect()
        cloud.stop_daemon()
        (cloud.root / "manifest.json").write_text(json.dumps(manifest, sort_keys=True, indent=1))
        for log in (cloud.root / "state").glob("*.log"):
            log.unlink()
        with tarfile.open(archive, "w:xz", preset=9) as out:
            for part in PARTS:
                out.add(cloud.root / part, part, filter=lambda info: None if info.name.endswith(
                    (".pid", ".sock")) else info)


def unpack(cloud, archive):
    for part in PARTS:  # what the empty cloud has made of them
        path = cloud.root / part
        if path.is_dir():
            shutil.rmtree(path)
    with tarfile.open(archive) as given:
        given.extractall(cloud.root, numeric_owner=True)


def reads_golden_data(cloud, archive):
    unpack(cloud, archive)
    expected = json.loads((cloud.root / "manifest.json").read_text())
    done = cloud.run_tool("fsck", "-n")
    check_equal(done.returncode, 0, f"{archive.name}: records are sound" + done.stdout)
    cloud.tool("key", "verify")
    cloud.start_daemon()
    mount = cloud.mount()
    check_equal(describe(mount.point), expected, f"{archive.name}: every file is as it was")
    (mount / "new").write_text("written by a later version\n")
    os.sync()
    mount.remount()
    check_equal((mount / "new").read_text(), "written by a later version\n", "and it can be written")
    cloud.tool("repair", "--wait")
    check_equal(cloud.run_tool("fsck", "-n").returncode, 0, "records and sites are sound")
    mount.unmount()
    cloud.stop_daemon()


def changed(path):
    """The file's first line of another format, and what it was before."""
    before = path.read_bytes()
    first, rest = before.split(b"\n", 1)
    check(b"1" in first, f"{path.name} says which format it has", first)
    path.write_bytes(first.replace(b"1", b"7") + b"\n" + rest)
    return before


def refuses_other_formats(cloud):
    """(Other formats of the metadata: tests/daemon/metadata/metadata_store_test.cc.)"""
    key = cloud.root / "service.key"
    before = changed(key)
    log = cloud.root / "daemon.log"
    start = log.stat().st_size
    try:
        cloud.start_daemon()
        raise harness.CheckFailed("the daemon took a key of another format")
    except CloudError:
        check("format this version does not know" in log.read_bytes()[start:].decode(),
              "a key file of another format is refused by name")
    key.write_bytes(before)
    site = cloud.site(cloud.names[0])
    marker = site / "datacloud-site"
    before = changed(marker)
    cloud.start_daemon()
    problems = " ".join(cloud.status()["problems"])
    check("format 7" in problems, "a site of another format is not used, and status says why",
          problems)
    marker.write_bytes(before)
    wait_for(lambda: cloud.status()["health"] == "ok", 15, "the site with its own format")


def test(_options):
    archives = sorted(GOLDEN.glob("format*.tar.xz"))
    check(archives, "there is golden data")
    for archive in archives:
        with Cloud(create=False, daemon={"audit_cycle_ms": 0}) as cloud:
            reads_golden_data(cloud, archive)
            refuses_other_formats(cloud)


if __name__ == "__main__":
    if "--make" in sys.argv:
        parser = argparse.ArgumentParser()
        parser.add_argument("--make", type=Path)
        make(parser.parse_args().make)
    else:
        harness.main(test, 120)
