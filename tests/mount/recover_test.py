"""The metadata rebuilt from the sites: the daemon's machine is lost, and all that was fsynced is there.

With all sites, with damaged columns of the newest checkpoint, back to an earlier entry, and with as
many sites lost as the code allows. What recover must refuse, it refuses, with the remedy.
"""

import json
import os
import random
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import Cloud, wait_for  # noqa: E402
from harness import check, check_equal, note  # noqa: E402

CODE, SITES, LOSSES = "rs-3-2", 5, 2


def journal(cloud):
    return json.loads(cloud.tool("journal", "status", "--json"))


def write(path, contents):
    with open(path, "wb") as file:
        file.write(contents)
        file.flush()
        os.fsync(file.fileno())


def sync(directory):
    handle = os.open(directory, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def picture(root):
    """All that can be seen below a directory."""
    seen = {}
    for path in sorted(Path(root).rglob("*")):
        stat = path.lstat()
        facts = {"mode": stat.st_mode, "uid": stat.st_uid, "gid": stat.st_gid,
                 "links": stat.st_nlink, "mtime": stat.st_mtime_ns}
        if path.is_symlink():
            facts["target"] = os.readlink(path)
        elif path.is_file():
            facts["contents"] = path.read_bytes()
            facts["attributes"] = {name: os.getxattr(path, name) for name in os.listxattr(path)}
        seen[str(path.relative_to(root))] = facts
    return seen


def fill(mount, name, rng):
    """A directory with some of everything; fsynced when it returns."""
    top = mount / name
    top.mkdir()
    for i in range(20):
        write(top / f"file{i}", rng.randbytes(rng.choice((0, 10, 5000, 300_000))))
    os.setxattr(top / "file1", "user.colour", b"blue")
    os.link(top / "file2", top / "link")
    os.symlink("file3", top / "symlink")
    (top / "below").mkdir(mode=0o750)
    os.chown(top / "file4", 1, 2)
    os.truncate(top / "file5", 123_456)
    os.rename(top / "file6", top / "below" / "renamed")
    os.unlink(top / "file7")
    for file in (top / "file1", top / "file4", top / "file5", top, top / "below"):
        sync(file)


def lose_machine(cloud, mount):
    cloud.kill_daemon()
    mount.kill()
    shutil.rmtree(cloud.root / "state")


def come_back(cloud, mount):
    cloud.start_daemon()
    mount.process = cloud.start_mount_process(mount.point, mount.log, mount.options)


def recover(cloud, *options):
    done = cloud.run_tool("recover", "--json", *options)
    check(done.returncode == 0, f"recover {' '.join(options)}", done.stderr + done.stdout)
    return json.loads(done.stdout)


def refused(cloud, word, what, *options):
    done = cloud.run_tool("recover", *options)
    check(done.returncode == 1 and word in done.stderr, what, done.stderr + done.stdout)


def damage(cloud, number, sites):
    """Every column of a checkpoint at these sites."""
    count = 0
    for site in sites:
        for column in cloud.site(site).glob(f"objects/*/.checkpoint-{number}-*"):
            with open(column, "r+b") as file:
                file.seek(column.stat().st_size // 3)
                byte = file.read(1)
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte[0] ^ 0x40]))
            count += 1
    return count


def plain(cloud, mount, rng):
    fill(mount, "before", rng)
    made = json.loads(cloud.tool("journal", "checkpoint", "--json"))
    check(made["checkpoint"] > 0, "a checkpoint is made")
    fill(mount, "behind", rng)
    wanted = picture(mount.point)
    refused(cloud, "is there", "recover leaves metadata that is there alone")
    told = recover(cloud, "--dry-run")
    check(told["possible"] and not told["recovered"], "a dry run beside the daemon says yes")
    check_equal((told["checkpoint"]["columns_missing"], told["checkpoint"]["columns_damaged"],
                 told["checkpoint"]["losses_survived"]), (0, 0, LOSSES), "the checkpoint is whole")
    lose_machine(cloud, mount)
    told = recover(cloud)
    check(told["recovered"] and told["entry"] == told["last"], "the metadata is rebuilt")
    come_back(cloud, mount)
    check_equal(picture(mount.point), wanted, "all that was fsynced")
    done = cloud.run_tool("fsck", "-n")
    check(done.returncode == 0, "fsck finds nothing", done.stdout + done.stderr)
    listed = json.loads(cloud.tool("gc", "--json", "--wait"))
    check_equal(listed.get("unknown_objects", 0), 0, "checkpoints are nobody's garbage")
    return wanted


def damaged(cloud, mount, wanted):
    lose_machine(cloud, mount)
    told = recover(cloud, "--dry-run")
    count = damage(cloud, told["checkpoint"]["number"], ("site1", "site4"))
    check(count > 0, "columns at two sites are damaged")
    told = recover(cloud, "--dry-run")
    check_equal((told["possible"], told["checkpoint"]["columns_damaged"],
                 told["checkpoint"]["losses_survived"]), (True, count, 0),
                "the dry run finds each of them")
    check_equal(len(recover(cloud)["problems"]) > 0, True, "recover tells what it did without")
    come_back(cloud, mount)
    check_equal(picture(mount.point), wanted, "all that was fsynced, without these columns")


def by_itself(cloud, mount, wanted):
    """A daemon that has lost its metadata, or finds it damaged, does the same at its start."""
    lose_machine(cloud, mount)
    come_back(cloud, mount)
    check_equal(picture(mount.point), wanted, "all that was fsynced, without a command")
    check("the metadata was rebuilt from the sites" in (cloud.root / "daemon.log").read_text(), "the log says so")
    write(mount / "rebuilt", b"written by a daemon that was rebuilt")
    wanted = picture(mount.point)
    cloud.kill_daemon()
    mount.kill()
    metadata = cloud.root / "state" / "metadata"
    (metadata / "CURRENT").write_text("no manifest")
    come_back(cloud, mount)
    check_equal(picture(mount.point), wanted, "all that was fsynced, beside damaged metadata")
    check_equal(len(list((cloud.root / "state").glob("metadata.replaced-*"))), 1,
                "what was there is kept")
    return wanted


def earlier(cloud, mount, wanted):
    then = journal(cloud)["committed"]
    write(mount / "later", b"to be forgotten")
    sync(mount.point)
    check(journal(cloud)["committed"] > then, "something comes later")
    cloud.stop_daemon()
    old = cloud.root / "state of another history"
    shutil.copytree(cloud.root / "state", old)
    cloud.start_daemon()
    lose_machine(cloud, mount)
    refused(cloud, "cannot be recovered", "an entry that does not exist", "--to", "99999999")
    told = recover(cloud, "--to", str(then))
    check(told["entry"] <= then, "back to the earlier entry", told["entry"])
    come_back(cloud, mount)
    check_equal(picture(mount.point), wanted, "as it was then")
    write(mount / "instead", b"another future")
    wanted = picture(mount.point)
    # It stays so: the later entries are in no log any more.
    lose_machine(cloud, mount)
    recover(cloud)
    come_back(cloud, mount)
    check_equal(picture(mount.point), wanted, "the other future has not come back")
    # Nor by a state that is no part of the journal any more.
    lose_machine(cloud, mount)
    shutil.copytree(old, cloud.root / "state")
    come_back(cloud, mount)
    check_equal(picture(mount.point), wanted, "a state of the other future is replaced")
    return wanted


def sites_lost(cloud, mount, rng, wanted):
    cloud.kill_daemon()
    mount.kill()
    shutil.rmtree(cloud.root / "state")
    lost = rng.sample(cloud.names, LOSSES)
    note(f"lost with the machine: {lost}")
    for name in lost:
        shutil.rmtree(cloud.site(name))
    third = next(name for name in cloud.names if name not in lost)
    cloud.take_away(third)
    done = cloud.run_tool("recover", "--dry-run", "--json")
    check(done.returncode == 1, "one more is one too many", done.stdout)
    refused(cloud, lost[0], "recover names the sites that are missing")
    cloud.put_back(third)
    told = recover(cloud, "--dry-run")
    check_equal((told["sites_answered"], told["possible"]), (SITES - LOSSES, True),
                "the others are enough")
    recover(cloud)
    come_back(cloud, mount)
    check_equal(picture(mount.point), wanted, "all that was fsynced, without the lost sites")
    write(mount / "after", b"life goes on")
    return [name for name in cloud.names if name not in lost]


def journals_lost(cloud, mount, rest):
    """Of the sites that are left one has its journal still."""
    wanted = picture(mount.point)
    lose_machine(cloud, mount)
    for name in rest[1:]:
        shutil.rmtree(cloud.site(name) / "journal")
    refused(cloud, f"--surviving {rest[0]}", "too few sites to be sure: recover names the way out")
    done = cloud.run_tool("recover", "--surviving", rest[0])
    check(done.returncode == 1 and "--i-know" in done.stderr, "which wants to be known",
          done.stderr)
    refused(cloud, rest[1], "a site without a journal cannot be taken", "--i-know", "--surviving",
            rest[1])
    told = recover(cloud, "--surviving", rest[0], "--i-know")
    check(any("may be lost" in warning for warning in told["warnings"]), "what may be lost is told")
    come_back(cloud, mount)
    check_equal(picture(mount.point), wanted, "all that was fsynced, from one site's journal")
    write(mount / "at last", b"one site commits")


def test(options):
    rng = random.Random(options.seed)
    with Cloud(sites=SITES, code=CODE, create=False) as cloud:
        cloud.tool("create", "--journal")
        cloud.start_daemon()
        mount = cloud.mount()
        wait_for(lambda: journal(cloud)["checkpoint"], 60, "the first checkpoint")
        wanted = plain(cloud, mount, rng)
        damaged(cloud, mount, wanted)
        wanted = by_itself(cloud, mount, wanted)
        wanted = earlier(cloud, mount, wanted)
        rest = sites_lost(cloud, mount, rng, wanted)
        journals_lost(cloud, mount, rest)


if __name__ == "__main__":
    harness.main(test, 180)
