"""fsck: a sound cloud is clean while mounted and while nobody serves it; missing shards and damaged
records are found, told without a change, and mended; exit codes are those of fsck(8)."""

import errno
import json
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import BUILD, Cloud, sha256_tree, wait_for  # noqa: E402
from crc32c import crc32c  # noqa: E402
from harness import check, check_equal  # noqa: E402


def fsck(cloud, *arguments, seconds=120):
    done = cloud.run_tool("fsck", *arguments, "--json", seconds=seconds)
    return done.returncode, json.loads(done.stdout) if done.stdout else {}


def cut(path, count):
    """The object with `count` bytes less of data, and whole otherwise (docs/format-sites.md)."""
    data = path.read_bytes()
    _, attributes, length = struct.unpack("<4sIQ", data[-24:-8])
    footer = data[-24:-16] + struct.pack("<Q", length - count) + data[-8:-4]
    footer += struct.pack("<I", crc32c(footer))
    path.write_bytes(data[:length - count] + data[length:length + attributes] + footer * 2)


def directories(cloud):
    """Two sites whose objects are files; pools may be beside them."""
    return [name for name in cloud.names if cloud.sites[name].kind == "directory"][:2]


def damage_at_sites(cloud, mount, rng):
    """Each kind of wrong object at a site is found by its kind and mended."""
    expected = sha256_tree(mount / "data")
    (mount / "short lived").write_bytes(rng.randbytes(200_000))
    subprocess.run(["sync", mount.point], check=True)
    shards = cloud.shards(mount / "short lived")
    orphan = Path(next(s["location"] for s in shards
                       if s["state"] == "present" and s["site"] in directories(cloud)))
    kept = orphan.read_bytes()
    (mount / "short lived").unlink()
    os.sync()
    mount.remount()  # a session's ids may still be committed: not an orphan's while it lives
    cloud.collect()
    check(not orphan.exists(), "a deleted file's shards are collected")

    objects = sorted({Path(at) for name in directories(cloud)
                      for _, at in cloud.object_locations(name)})
    short, torn, one, other = rng.sample(objects, 4)
    cut(short, 1)
    torn.write_bytes(torn.read_bytes()[:-30])
    swapped = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(swapped)
    orphan.write_bytes(kept)
    code, report = fsck(cloud, "-n")
    kinds = sorted(f["kind"] for f in report["findings"])
    check_equal((code, kinds), (4, ["damaged", "instance", "instance", "length", "orphan"]),
                "wrong length, wrong instances, a torn object and an orphan are found")
    code, report = fsck(cloud, "-y")
    check_equal((code, report["mended_total"]), (1, 5), "and mended")
    wait_for(lambda: not orphan.exists(), 30, "the orphan to be collected")
    check_equal(fsck(cloud, "-n", "--deep")[0], 0, "and then all is clean, every byte of it")
    mount.remount()
    check_equal(sha256_tree(mount / "data"), expected, "no file has changed")


def asks_before_it_mends(cloud):
    """On a terminal each finding is explained and asked about; without one nothing is mended."""
    files = [Path(at) for _, at in sorted(cloud.object_locations(directories(cloud)[0]))]
    for path in files[:2]:
        path.unlink()
    check_equal(cloud.run_tool("fsck").returncode, 4, "without a terminal and -y nothing is mended")
    terminal, theirs = os.openpty()
    program = subprocess.Popen([BUILD / "bin" / "datacloud", "--config", cloud.config, "fsck"],
                               stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    os.write(terminal, b"y\nn\n")
    output = program.communicate(timeout=60)[0].decode()
    os.close(theirs)
    os.close(terminal)
    check_equal((program.returncode, output.count("Do it? [y/N/a]")), (4, 2), "both are asked about")
    check("it is rebuilt from the others. Do it?" in output, "with what would be done", output)
    check_equal(fsck(cloud, "-n")[1]["findings_total"], 1, "one was mended, one was not")
    check_equal(fsck(cloud, "-y")[0], 1, "-y mends the rest")


def record_key(kind, *numbers):
    return (kind.encode() + b"".join(struct.pack(">Q", n) for n in numbers)).hex()


def damage_records(cloud, rng):
    """Records of stripes are lost and garbled: their blocks are errors, never zeros; nothing else
    changes, and what the sites hold stays there. The files can be written anew and removed."""
    mount = cloud.mount()
    victims = [mount / "data" / f"victim{i}" for i in range(2)]
    for path in victims:
        trees.write_file(path, rng.randbytes(1 << 20), sync=True)  # in a stripe of its own
    expected = sha256_tree(mount / "data")
    stripes = [json.loads(cloud.tool("locate", path, "--json"))["stripes"][0]["id"]
               for path in victims]
    mount.unmount()
    cloud.collect()
    held = sorted(at for name in cloud.names for at in cloud.object_locations(name))
    cloud.stop_daemon()
    for stripe, value in zip(stripes, ([], [rng.randbytes(60).hex()])):
        subprocess.run([BUILD / "tests" / "damage_record", cloud.root / "state" / "metadata",
                        record_key("S", stripe), *value], check=True)
    code, report = fsck(cloud, "-n")
    check_equal((code, report["blocks_lost"]), (4, 0), "both are found")
    check(any(f"stripe {stripes[0]}, which does not exist" in f["text"] for f in report["findings"])
          and any(f"stripe {stripes[1]}" in f["text"] for f in report["findings"]),
          "and named", report)
    code, report = fsck(cloud, "-y")
    check_equal(code, 1, "and all is mended")
    check(report["blocks_lost"] >= 2, "the blocks are told as lost", report)
    check_equal(fsck(cloud, "-n")[0], 0, "for good")

    cloud.start_daemon()
    mount = cloud.mount()
    for path in victims:
        path = mount / "data" / path.name
        try:
            path.read_bytes()
            check(False, "a lost block is an error")
        except OSError as error:
            check_equal(error.errno, errno.EIO, "a lost block is an error")
        check("are lost" in cloud.tool("locate", path), "locate tells")
    for path in victims:
        del expected[path.name]
    (mount / "data" / "victim0").write_bytes(b"new")
    (mount / "data" / "victim1").unlink()
    os.sync()
    check_equal((mount / "data" / "victim0").read_bytes(), b"new", "it can be written anew")
    (mount / "data" / "victim0").unlink()
    mount.remount()
    check_equal(sha256_tree(mount / "data"), expected, "nothing else has changed")
    cloud.collect()
    check_equal(fsck(cloud, "-n", "--deep")[0], 0, "all is sound")
    now = {at for name in cloud.names for at in cloud.object_locations(name)}
    check_equal([at for at in held if at not in now], [], "what the sites hold has stayed there")
    empty_quarantine(cloud, stripes, now)
    check_equal(fsck(cloud, "-n", "--deep")[0], 0, "all is sound without the quarantine")
    mount.remount()
    check_equal(sha256_tree(mount / "data"), expected, "and no file has changed")
    mount.unmount()


def empty_quarantine(cloud, stripes, held):
    """The quarantine tells what it keeps; what is dropped is collected, and nothing else."""
    listed = json.loads(cloud.tool("quarantine", "list", "--json"))
    kept = {r["stripe"]: r for r in listed["records"] if r["stripe"] is not None}
    check_equal((set(kept), listed["stripes"]), (set(stripes), 2), "both stripes are kept")
    check(all(r["since_ns"] > 0 and r["why"] for r in listed["records"]), "with when and why", listed)
    refused = cloud.run_tool("quarantine", "drop", "--all")
    check_equal((refused.returncode, "--yes" in refused.stderr), (1, True), "asks before it drops")
    check_equal(cloud.run_tool("quarantine", "drop").returncode, 2, "says what it wants")
    check("is not in quarantine" in cloud.run_tool("quarantine", "show", "00").stderr, "unknown ids")
    first = kept[stripes[1]]
    shown = cloud.tool("quarantine", "show", first["id"])
    check(f"stripe {stripes[1]}" in shown and first["why"] in shown, "one of them is shown", shown)
    dropped = json.loads(cloud.tool("quarantine", "drop", first["id"], "--yes", "--json"))
    check_equal(dropped, {"records": 1, "stripes": 1}, "one of them is dropped")
    cloud.collect()
    between = {at for name in cloud.names for at in cloud.object_locations(name)}
    check(between < held, "its objects are collected")
    cloud.tool("quarantine", "drop", "--all", "--yes")
    cloud.collect()
    after = {at for name in cloud.names for at in cloud.object_locations(name)}
    check(after < between, "and then the others")
    check_equal(json.loads(cloud.tool("quarantine", "list", "--json"))["records"], [],
                "nothing is in quarantine")


def test(options):
    rng = random.Random(options.seed)
    # Nothing but fsck looks at the objects.
    quiet = {"audit_cycle_ms": 0, "scrub_cycle_ms": 0, "fold": "manual"}
    with Cloud(daemon=quiet) as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        trees.make_tree(mount / "data", rng, small=60, large=(5 << 20,))
        for i in range(4):  # each in a stripe of its own: every site has some objects
            trees.write_file(mount / "data" / f"alone{i}", rng.randbytes(200_000), sync=True)
        os.sync()
        mount.remount()
        expected = sha256_tree(mount / "data")
        code, report = fsck(cloud, "-n", "--deep")
        check_equal((code, report["findings_total"], report["shards_bad"]), (0, 0, 0),
                    "a sound cloud is clean while it is mounted")
        check(report["objects_checked"] > 10, "its sites were looked at", report)

        for site, location in rng.sample(sorted(cloud.object_locations(rng.choice(cloud.names))), 3):
            cloud.sites[site].lose(location)
        code, report = fsck(cloud, "-n")
        check_equal((code, report["findings_total"]), (4, 3), "missing shards are found")
        check_equal(fsck(cloud, "-n")[0], 4, "-n has changed nothing")
        code, report = fsck(cloud, "-y")
        check_equal((code, report["mended_total"]), (1, 3), "-y mends them")
        check_equal(fsck(cloud, "-n")[0], 0, "and then it is clean")

        damage_at_sites(cloud, mount, rng)
        asks_before_it_mends(cloud)

        mount.unmount()
        cloud.stop_daemon()
        code, report = fsck(cloud, "-n")
        check_equal((code, report["online"]), (0, False), "without a daemon the records are checked")
        link = cloud.root / "fsck.datacloud"
        link.symlink_to(BUILD / "bin" / "datacloud")
        done = subprocess.run([link, "-n", cloud.config], capture_output=True, text=True, timeout=60)
        check_equal(done.returncode, 0, "as fsck.datacloud")
        check_equal(cloud.run_tool("fsck", "--nonsense").returncode, 16, "usage is exit code 16")
        cloud.start_daemon()
        mount = cloud.mount()
        check_equal(sha256_tree(mount / "data"), expected, "everything is as it was")
        mount.unmount()
        damage_records(cloud, rng)


if __name__ == "__main__":
    harness.main(test, 200)
