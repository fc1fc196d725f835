"""Clouds made by earlier programs (golden/format*.tar.xz: one of the first format, one with features) are
read, written and sound; one of the first format stays that until its features are switched on, and then
gets them while it is mounted. Metadata, sites and keys of a format that nobody knows yet are refused by
name, and left as they are.

`golden_test.py --make FILE` makes such an archive with the programs of this build, with all features
that have something to show in FEATURE_FILLS. Once per release: what a release wrote stays, and a feature
that comes later gets an archive of its own.
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
from cloud import BUILD, Cloud, CloudError, wait_for  # noqa: E402
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
                   "gid": stat.st_gid, "mtime_ns": stat.st_mtime_ns,
                   "atime_ns": stat.st_atime_ns}
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


def as_recorded(found, recorded):
    """The same without what was not recorded then."""
    return {path: {what: value for what, value in one.items()
                   if what in recorded.get(path, {"": None})}
            for path, one in found.items()}


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


TIMES = {"1901": -2_147_483_648, "1902": -2_145_916_800, "1969": -1, "2262": 9_223_372_036,
         "2263": 9_223_372_037, "2300": 10_413_792_000, "2446": 15_032_385_535}


def fill_times(top, _cloud):
    """Times in both forms and at their borders, of every kind of inode."""
    place = top / "times"
    place.mkdir()
    for name, seconds in TIMES.items():
        ns = seconds * 10**9 + (0 if name in ("1901", "2446") else 123_456_789)
        (place / name).write_text(name)
        (place / f"directory {name}").mkdir()
        (place / f"link {name}").symlink_to(name)
        for path in (name, f"directory {name}", f"link {name}"):
            os.utime(place / path, ns=(ns, ns), follow_symlinks=False)


def fill_trees(top, cloud):
    """One tree in another, both with contents."""
    outer = top / "trees" / "outer"
    (outer / "inner").mkdir(parents=True)
    for place in (outer, outer / "inner"):
        for i in range(5):
            (place / f"file{i}").write_text(f"{place.name} {i}\n" * 500)
    os.link(outer / "file0", outer / "second name")
    cloud.tool("tree", "create", outer)
    cloud.tool("tree", "create", outer / "inner")
    (outer / "later").write_text("made in the tree\n")


def fill_clones(top, cloud):
    """A file, its clone, and a clone of that which was overwritten in part."""
    place = top / "clones"
    place.mkdir()
    (place / "original").write_bytes(random.Random(3).randbytes(18_000))
    os.sync()
    cloud.tool("clone", place / "original", place / "clone")
    cloud.tool("clone", place / "clone", place / "changed")
    with open(place / "changed", "r+b") as file:
        file.seek(9_000)
        file.write(b"of its own" * 300)
    os.sync()


# What shows a feature: a function of the mount point and the cloud, run after `fill`. A feature that
# gets one is in the next archive that is made.
FEATURE_FILLS = {"shared-slots": fill_clones, "times": fill_times, "trees": fill_trees}


def features_of(cloud):
    """{name: whether it is in use}"""
    return {feature["name"]: feature["enabled"]
            for feature in json.loads(cloud.tool("feature", "list", "--json"))["features"]}


def make(archive):
    rng = random.Random(1)
    with Cloud(cloud={"block_bytes": 4096},
               daemon={"fold": "manual", "audit_cycle_ms": 0}) as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        fill(mount.point, rng)
        for feature in sorted(features_of(cloud)):
            if feature in FEATURE_FILLS:
                FEATURE_FILLS[feature](mount.point, cloud)
            else:
                print(f"note: nothing shows the feature {feature}", file=sys.stderr)
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


def shows_features(cloud, mount):
    """What the files by themselves do not tell of the archive with features."""
    trees = json.loads(cloud.tool("tree", "list", "--json"))["trees"]
    check_equal([(t["state"], t["path"]) for t in trees],
                [("ready", "/trees/outer"), ("ready", "/trees/outer/inner")], "the trees are there")
    outer = mount / "trees" / "outer"
    harness.expect_errno(18, "and have their borders", os.rename, outer / "file1",
                         outer / "inner" / "moved")


def reads_golden_data(cloud, archive):
    unpack(cloud, archive)
    expected = json.loads((cloud.root / "manifest.json").read_text())
    with_features = archive.name != "format1.tar.xz"
    check_equal(any(key[:1] == b"J" for key in records(cloud)), with_features,
                f"{archive.name}: blocks are shared just where there are clones")
    done = cloud.run_tool("fsck", "-n")
    check_equal(done.returncode, 0, f"{archive.name}: records are sound" + done.stdout)
    cloud.tool("key", "verify")
    cloud.start_daemon()
    mount = cloud.mount()
    check_equal(as_recorded(describe(mount.point), expected), expected,
                f"{archive.name}: every file is as it was")
    check_equal(any(features_of(cloud).values()), with_features,
                "it uses the features it was made with")
    if with_features:
        shows_features(cloud, mount)
    (mount / "new").write_text("written by a later version\n")
    os.sync()
    mount.remount()
    check_equal((mount / "new").read_text(), "written by a later version\n", "and it can be written")
    cloud.tool("repair", "--wait")
    check_equal(cloud.run_tool("fsck", "-n").returncode, 0, "records and sites are sound")
    mount.unmount()
    cloud.stop_daemon()


def records(cloud):
    """{key: value} of the metadata, while no daemon runs."""
    done = subprocess.run([BUILD / "tests" / "dump_records", cloud.root / "state" / "metadata"],
                          capture_output=True, text=True, check=True)
    return {bytes.fromhex(key): bytes.fromhex(value) for key, value in
            (line.split(" ") for line in done.stdout.splitlines())}


def fields(message):
    """Numbers of the fields of a protobuf message, of its highest level."""
    def varint(at):
        value = shift = 0
        while True:
            byte = message[at]
            value |= (byte & 127) << shift
            at, shift = at + 1, shift + 7
            if byte < 128:
                return value, at

    found, at = set(), 0
    while at < len(message):
        tag, at = varint(at)
        found.add(tag >> 3)
        kind = tag & 7
        if kind == 0:
            _, at = varint(at)
        elif kind == 2:
            size, at = varint(at)
            at += size
        else:
            at += {1: 8, 5: 4}[kind]
    return found


# The last field that format 1 has, by the letter of the key.
FORMAT_1_FIELDS = {b"I": 19, b"E": 4, b"M": 5, b"S": 12, b"L": 2, b"R": 4, b"F": 4, b"B": 6, b"P": 5}
FORMAT_1_LETTERS = b"AIEDXMNSLRFOBPCQKYZG"


def stays_format_1(cloud, archive):
    """Used by these programs, without anybody having switched a feature on."""
    unpack(cloud, archive)
    before = records(cloud)
    cloud.start_daemon()
    mount = cloud.mount()
    check(not any(features_of(cloud).values()), "the cloud of format 1 uses no feature")
    place = mount / "by a later version"
    place.mkdir()
    fill(place, random.Random(2))
    os.utime(place / "text", ns=(2**65, 2**65))
    (place / "hole").unlink()
    os.sync()
    mount.unmount()
    cloud.collect()
    cloud.stop_daemon()
    after = records(cloud)
    check(b"Afeatures" not in after, "it has no record of features")
    check_equal(after[b"Acloud"], before[b"Acloud"], "its own record is byte for byte as it was")
    check(all(key[:1] in FORMAT_1_LETTERS for key in after), "all kinds of records are of format 1",
          {key[:1] for key in after})
    beyond = {key: fields(value) for key, value in after.items()
              if key[:1] in FORMAT_1_FIELDS
              and max(fields(value), default=0) > FORMAT_1_FIELDS[key[:1]]}
    check_equal(beyond, {}, "and all of their fields")
    root = b"I" + (1).to_bytes(8, "big")  # it got an entry
    touched = {key for key, value in before.items() if key[:1] in b"IEDXMR" and key != root
               and after.get(key) != value}
    check_equal(touched, set(), "what nobody changed is byte for byte as it was (stripes may have been repaired)")
    check(any(key[:1] == b"I" and key not in before for key in after), "and there are new records")
    cloud.start_daemon()
    mount = cloud.mount()
    check_equal(os.stat(mount / "by a later version" / "text").st_mtime, 9_223_372_036,
                "times are clamped as before")
    mount.unmount()
    cloud.stop_daemon()


def off_features(cloud):
    return [name for name, on in features_of(cloud).items() if not on]


def gets_features_while_mounted(cloud, archive):
    unpack(cloud, archive)
    expected = json.loads((cloud.root / "manifest.json").read_text())
    cloud.start_daemon()
    mount = cloud.mount()
    open_file = open(mount / "text", "rb")
    cloud.tool("feature", "enable", "--all")
    # All that a cloud without a journal can have.
    check(off_features(cloud) == ["inline"], "all features are on, with a mount", off_features(cloud))
    cloud.tool("feature", "enable", "--all")

    def everything_is_there(when):
        check_equal(as_recorded(describe(mount.point), expected), expected,
                    f"every file is as it was, {when}")

    everything_is_there("through the mount from before")
    check_equal(open_file.read(), (mount / "text").read_bytes(), "also through an open file")
    open_file.close()
    wanted = TIMES["2300"] * 10**9 + 5
    probe = mount / "times of the new format"

    def holds_wide_times():
        os.utime(probe, ns=(wanted, wanted))
        return os.stat(probe).st_mtime_ns == wanted

    probe.write_text("x")
    wait_for(holds_wide_times, 30, "the mount to hear of the features")
    check(True, "wide times work without a new mount")
    os.sync()
    cloud.kill_daemon()
    cloud.start_daemon()
    check(off_features(cloud) == ["inline"], "the features survive the daemon's end", off_features(cloud))
    check_equal(os.stat(probe).st_mtime_ns, wanted, "and so does the time")
    mount.remount()
    check_equal((os.stat(probe).st_mtime_ns, probe.read_text()), (wanted, "x"), "in a new mount too")
    probe.unlink()
    everything_is_there("in a new mount")
    mount.unmount()
    cloud.stop_daemon()
    check_equal(cloud.run_tool("fsck", "-n").returncode, 0, "the records are sound")
    check(b"Afeatures" in records(cloud), "and the record of features is there")


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
    for upgrade in (stays_format_1, gets_features_while_mounted):
        with Cloud(create=False, daemon={"audit_cycle_ms": 0}) as cloud:
            upgrade(cloud, GOLDEN / "format1.tar.xz")


if __name__ == "__main__":
    if "--make" in sys.argv:
        parser = argparse.ArgumentParser()
        parser.add_argument("--make", type=Path)
        make(parser.parse_args().make)
    else:
        harness.main(test, 240)
