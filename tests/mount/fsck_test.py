"""fsck: a sound cloud is clean while mounted and while nobody serves it; missing shards and damaged
records are found, told without a change, and mended; exit codes are those of fsck(8)."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import BUILD, Cloud, sha256_tree  # noqa: E402
from harness import check, check_equal  # noqa: E402


def fsck(cloud, *arguments, seconds=120):
    done = cloud.run_tool("fsck", *arguments, "--json", seconds=seconds)
    return done.returncode, json.loads(done.stdout) if done.stdout else {}


def test(options):
    rng = random.Random(options.seed)
    with Cloud() as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        trees.make_tree(mount / "data", rng, small=60, large=(5 << 20,))
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


if __name__ == "__main__":
    harness.main(test, 200)
