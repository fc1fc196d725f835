"""Trees through real mounts: mv falls back to copying across a border, ln fails, df is the tree's own;
populated directories become trees and stop being ones beside programs at work, hard links within
them included, while the daemon is killed; what stands in the way is told with both names."""

import errno
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import Cloud, sha256_tree, wait_for  # noqa: E402
from harness import check, check_equal, expect_errno, note  # noqa: E402

BLOCK = 65536


def tree(cloud, command, *arguments):
    done = cloud.run_tool("tree", command, *arguments, "--json", seconds=120)
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


def listed(cloud):
    code, reply, error = tree(cloud, "list")
    check(code == 0, "trees are listed", error)
    return {t["path"]: t for t in reply["trees"]}


def df(path):
    space = os.statvfs(path)
    return {"used": (space.f_blocks - space.f_bfree) * space.f_frsize,
            "files": space.f_files - space.f_ffree}


def populate(top, rng, files):
    """Directories of several depths, files with data, and further names of some within."""
    directories = [top]
    for i in range(files // 20):
        directory = rng.choice(directories[-30:]) / f"d{i}"
        directory.mkdir()
        directories.append(directory)
    names = []
    for i in range(files):
        path = rng.choice(directories) / f"f{i}"
        path.write_bytes(rng.randbytes(rng.choice((0, 10, 100))))
        names.append(path)
    for i in range(files // 10):
        os.link(rng.choice(names), rng.choice(directories) / f"l{i}")
    return directories


def inodes_below(top):
    found = {os.lstat(top).st_ino}
    for directory, below, files in os.walk(top):
        found |= {os.lstat(os.path.join(directory, name)).st_ino for name in below + files}
    return len(found)


def borders(cloud, mount):
    """An empty directory is a tree at once."""
    (mount / "proj").mkdir()
    (mount / "out").mkdir()
    code, made, error = tree(cloud, "create", mount / "proj")
    check_equal((code, made.get("state"), made.get("path")), (0, "ready", "/proj"),
                f"a tree is made {error}")
    (mount / "proj" / "sub").mkdir()
    (mount / "proj" / "f").write_bytes(b"inside")
    (mount / "out" / "f").write_bytes(b"outside")
    expect_errno(errno.EXDEV, "no hard link into the tree",
                 os.link, mount / "out" / "f", mount / "proj" / "g")
    expect_errno(errno.EXDEV, "nor out of it",
                 os.link, mount / "proj" / "f", mount / "out" / "g")
    expect_errno(errno.EXDEV, "nor rename",
                 os.rename, mount / "proj" / "f", mount / "out" / "g")
    expect_errno(errno.EXDEV, "nor of a directory",
                 os.rename, mount / "proj" / "sub", mount / "sub")
    check_equal(os.stat(mount / "proj").st_dev, os.stat(mount.point).st_dev, "st_dev is one")
    os.link(mount / "proj" / "f", mount / "proj" / "sub" / "g")
    subprocess.run(["mv", mount / "proj" / "sub", mount / "out" / "sub"], check=True)
    check_equal((mount / "out" / "sub" / "g").read_bytes(), b"inside", "mv copies instead")
    subprocess.run(["mv", mount / "out" / "f", mount / "proj" / "from outside"], check=True)
    check_equal((mount / "proj" / "from outside").read_bytes(), b"outside", "in both directions")
    done = subprocess.run(["ln", mount / "proj" / "f", mount / "out" / "x"], capture_output=True)
    check(done.returncode != 0 and b"cross-device" in done.stderr, "ln says why", done.stderr)
    os.rename(mount / "proj", mount / "out" / "moved")
    check_equal(listed(cloud).keys(), {"/out/moved"}, "the tree itself moves within the one around")
    os.rename(mount / "out" / "moved", mount / "proj")
    expect_errno(errno.ENOTEMPTY, "it is no more removable than any directory",
                 os.rmdir, mount / "proj")


def sizes(cloud, mount):
    """df within the tree is its own, du and find stay what they are."""
    trees.write_file(mount / "out" / "big", os.urandom(20 * BLOCK), sync=True)
    trees.fsync_tree(mount / "proj")
    before, cloud_before = df(mount / "proj"), df(mount.point)
    trees.write_file(mount / "proj" / "data", os.urandom(10 * BLOCK), sync=True)
    inside, whole = df(mount / "proj" / "data"), df(mount.point)
    check_equal(inside["used"] - before["used"], 10 * BLOCK, "df counts what the tree holds")
    check_equal(inside["files"], inodes_below(mount / "proj"), "and its inodes")
    check_equal(whole["files"] - cloud_before["files"], 1, "df of the cloud counts all")
    check(whole["used"] > inside["used"], "and more data", (whole, inside))
    shown = listed(cloud)["/proj"]
    check_equal((shown["inodes"], shown["logical_bytes"] // 8192), (inside["files"],
                inside["used"] // 8192), "the list says the same")
    out = subprocess.run(["df", "--output=used", "-B1", mount / "proj"], check=True,
                         capture_output=True).stdout
    check_equal(int(out.split()[-1]), inside["used"], "df(1) too")
    du = subprocess.run(["du", "-sx", "--apparent-size", "-B1", mount.point], check=True,
                        capture_output=True).stdout
    check(int(du.split()[0]) > 30 * BLOCK, "du -x crosses no device", du)


def refusals(cloud, mount):
    for arguments, text in ((("create", mount / "proj"), "already"),
                            (("create", mount / "proj" / "f"), "is no directory"),
                            (("create", mount.point), "cloud's root"),
                            (("create", "/nothing"), "nothing"),
                            (("remove", mount / "out"), "not the root of a tree"),
                            (("show", mount / "out"), "is in no tree")):
        code, _, error = tree(cloud, *arguments)
        check(code == 1 and text in error, f"tree {arguments[0]}: {text}", error)
    check_equal(tree(cloud, "show", mount / "proj" / "f")[1]["path"], "/proj", "show says which")


class Worker(threading.Thread):
    """Renames, links and creates in two directories all the time; only EXDEV may come between."""

    def __init__(self, inside, outside, seed):
        super().__init__(daemon=True)
        self.inside, self.outside = inside, outside
        self.rng = random.Random(seed)
        self.stop = False
        self.errors, self.done, self.refused = [], 0, 0

    def run(self):
        i = 0
        while not self.stop:
            i += 1
            home = self.rng.choice((self.inside, self.outside))
            other = self.outside if home is self.inside else self.inside
            try:
                mine = home[0] / f"w{i}"
                mine.write_bytes(b"w")
                for target in (home[1], other[1]):
                    try:
                        os.link(mine, target / f"l{i}")
                        os.rename(mine, target / f"w{i}")
                        mine = target / f"w{i}"
                        self.done += 1
                    except OSError as error:
                        if error.errno != errno.EXDEV:
                            raise
                        self.refused += 1
            except OSError as error:
                self.errors.append(error)


def populated(cloud, mount, rng):
    """Thousands of files become a tree beside work in it, and the daemon is killed twice."""
    top = mount / "many"
    top.mkdir()
    directories = populate(top, rng, 4000)
    subprocess.run(["sync", mount.point], check=True)
    expected = sha256_tree(top)
    (mount / "away").mkdir()
    work_in, work_out = [top / "w1", top / "w2"], [mount / "away" / "w1", mount / "away" / "w2"]
    for directory in work_in + work_out:
        directory.mkdir()

    worker = Worker(work_in, work_out, rng.random())
    command = threading.Thread(target=lambda: tree(cloud, "create", top))
    command.start()
    # Not before the border is there: two names on both sides would be an obstacle.
    wait_for(lambda: "/many" in listed_now(cloud), 30, "the conversion to begin")
    worker.start()
    for _ in range(2):
        cloud.kill_daemon()
        cloud.start_daemon()
    wait_for(lambda: listed_now(cloud).get("/many", {}).get("state") == "ready", 120,
             "the tree to be ready")
    wait_for(lambda: worker.done >= 100 and worker.refused >= 100 or worker.errors, 60,
             "work to be done meanwhile and after")
    worker.stop = True
    worker.join()
    command.join()
    check_equal(worker.errors, [], f"{worker.done} renames and links, "
                                   f"{worker.refused} refused")
    shown = listed(cloud)["/many"]
    check_equal(shown["inodes"], inodes_below(top), "every inode is counted in the tree")
    check(os.stat(directories[5]).st_ino > 0 and df(directories[-1])["files"] == shown["inodes"],
          "at every depth")
    for directory in work_in:
        subprocess.run(["rm", "-r", directory], check=True)
    check_equal(sha256_tree(top), expected, "and no file has changed")


def listed_now(cloud):
    done = cloud.run_tool("tree", "list", "--json")
    return {t["path"]: t for t in json.loads(done.stdout)["trees"]} if done.returncode == 0 else {}


def nested(cloud, mount):
    inner = mount / "many" / "inner"
    inner.mkdir()
    (inner / "f").write_bytes(b"f")
    (inner / "deep").mkdir()
    check_equal(tree(cloud, "create", inner)[0], 0, "a tree within a tree")
    all_trees = listed(cloud)
    check_equal(all_trees["/many/inner"]["parent"], all_trees["/many"]["id"], "knows the one around")
    expect_errno(errno.EXDEV, "and has a border of its own",
                 os.rename, inner / "f", mount / "many" / "f")
    code, _, error = tree(cloud, "remove", mount / "many")
    check(code == 1 and "/many/inner" in error, "the outer one is removed last", error)
    (mount / "many" / "inner" / "empty").mkdir()
    check_equal(tree(cloud, "create", inner / "empty")[0], 0, "a third one")
    os.rmdir(inner / "empty")
    check("/many/inner/empty" not in listed(cloud), "goes with its directory")
    check_equal(tree(cloud, "remove", inner)[0], 0, "the inner one is dissolved")
    os.rename(inner / "f", mount / "many" / "f")
    expected = sha256_tree(mount / "many")
    check_equal(tree(cloud, "remove", mount / "many")[0], 0, "then the outer one")
    os.rename(mount / "many" / "f", mount / "f")
    os.rename(mount / "f", mount / "many" / "f")
    check_equal(sha256_tree(mount / "many"), expected, "with all that was in it")


def obstacle(cloud, mount):
    (mount / "linked").mkdir()
    (mount / "linked" / "in").write_bytes(b"x")
    os.link(mount / "linked" / "in", mount / "out" / "too")
    code, _, error = tree(cloud, "create", mount / "linked")
    check(code == 1 and "/linked/in" in error and "/out/too" in error,
          "a file with a name outside stops it, with both names", error)
    os.rename(mount / "linked" / "in", mount / "out" / "in")
    note("and nothing was changed")


def df_without_a_daemon(cloud, mount):
    known = df(mount / "proj"), df(mount.point)
    cloud.stop_daemon()
    check_equal((df(mount / "proj"), df(mount.point)), known,
                "without a daemon each is told what was known of it")
    cloud.start_daemon()


def without_the_feature(options):
    with Cloud(create=False) as cloud:
        cloud.tool("create", "--features", "none")
        cloud.start_daemon()
        mount = cloud.mount()
        (mount / "d").mkdir()
        code, _, error = tree(cloud, "create", mount / "d")
        check(code == 1 and "datacloud feature enable trees" in error, "the feature is named", error)
        check_equal(listed(cloud), {}, "there are none")
        cloud.tool("feature", "enable", "trees")
        check_equal(tree(cloud, "create", mount / "d")[0], 0, "and switched on while mounted")
        (mount / "d" / "f").write_bytes(b"f")
        wait_for(lambda: df(mount / "d")["files"] == 2, 30, "the mount to ask for the tree's size")
        mount.unmount()


def test(options):
    rng = random.Random(options.seed)
    with Cloud() as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        borders(cloud, mount)
        sizes(cloud, mount)
        refusals(cloud, mount)
        populated(cloud, mount, rng)
        nested(cloud, mount)
        obstacle(cloud, mount)
        df_without_a_daemon(cloud, mount)
        mount.unmount()
        done = cloud.run_tool("fsck", "-n", seconds=120)
        check_equal(done.returncode, 0, f"fsck finds nothing {done.stdout}")
    without_the_feature(options)


if __name__ == "__main__":
    harness.main(test, 240)
