"""What rots at the sites of the journal is found by reading it back, and repaired from the other sites.

A byte of an entry, a whole segment and columns of a checkpoint are damaged or deleted at two sites, beside a
program that writes. After one audit all is as it was: the metadata comes back from the repaired sites alone.
"""

import json
import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import Cloud, wait_for  # noqa: E402
from harness import check, check_equal, note  # noqa: E402


def write(path, contents):
    with open(path, "wb") as file:
        file.write(contents)
        file.flush()
        os.fsync(file.fileno())


def audit(cloud, expected=0):
    done = cloud.run_tool("journal", "audit", "--json")
    check_equal(done.returncode, expected, f"journal audit ends so: {done.stderr}")
    return json.loads(done.stdout)["audit"]


def segments(cloud, site):
    return sorted((cloud.site(site) / "journal").glob("segment-*"))


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 0x40]))


def columns(cloud, site):
    return sorted(cloud.site(site).glob("objects/*/.checkpoint-*"))


def test(options):
    with Cloud(create=False) as cloud:
        with open(cloud.config, "a") as config:
            config.write('\n[journal]\nsegment_bytes = "1MiB"\nbytes_max = "64MiB"\n')
        cloud.tool("create", "--journal")
        cloud.start_daemon()
        mount = cloud.mount()
        first = mount.point / "first"
        first.mkdir()
        for i in range(40):
            write(first / f"file{i}", f"contents {i}".encode() * 100)
        cloud.tool("journal", "checkpoint")
        for i in range(40, 80):
            write(first / f"file{i}", f"contents {i}".encode() * 100)
        sound = audit(cloud)
        check(sound["entries"] > 0 and sound["columns"] >= 5 and sound["passed_over"] == 0,
              "entries and columns of all sites are read", sound)
        check_equal((sound["findings"], sound["problems"]), (0, []), "nothing is wrong")

        segment = segments(cloud, "site2")[0]
        bytes_there = segment.read_bytes()
        entries = [i for i in range(4096, len(bytes_there), 512) if bytes_there[i:i + 4] == b"DCJE"]
        flip(segment, entries[len(entries) // 2] + 100)
        for file in segments(cloud, "site3"):
            file.unlink()
        damaged, gone = columns(cloud, "site2")[0], columns(cloud, "site4")[0]
        original = {path: path.read_bytes() for path in (damaged, gone)}
        flip(damaged, damaged.stat().st_size // 3)
        gone.unlink()
        write(first / "beside", b"while it is damaged")
        found = audit(cloud)
        check_equal((found["findings"], found["repaired"], found["unrepaired"]), (4, 4, 0),
                    f"two logs and two columns are found and repaired: {found}")
        for path, contents in original.items():
            check(path.read_bytes() == contents, f"{path.name} is what it was")
        again = audit(cloud)
        check_equal((again["findings"], again["passed_over"]), (4, 0), "and are sound from then on")
        sites = json.loads(cloud.tool("journal", "status", "--json"))["sites"]
        check_equal({s["state"] for s in sites}, {"ok"}, "all sites are at work")

        write(first / "last", b"after the repair")
        wait_for(lambda: all(s["behind"] == 0 for s in json.loads(
            cloud.tool("journal", "status", "--json"))["sites"]), 30, "all sites to have all of it")
        cloud.kill_daemon()
        mount.kill()
        shutil.rmtree(cloud.root / "state")
        # The repaired logs alone, with a third: the quorum needs them.
        cloud.take_away("site1", "site5")
        done = cloud.run_tool("recover", "--json")
        check_equal(done.returncode, 0, f"the repaired sites give the metadata back: {done.stderr}")
        cloud.put_back("site1", "site5")
        cloud.start_daemon()
        mount = cloud.mount()
        check_equal(sorted(p.name for p in (mount.point / "first").iterdir()),
                    sorted([f"file{i}" for i in range(80)] + ["beside", "last"]), "every name is there")
        check_equal((mount.point / "first" / "last").read_bytes(), b"after the repair", "the last bytes too")
        note("audited, damaged, repaired and recovered")


if __name__ == "__main__":
    harness.main(test, 120)
