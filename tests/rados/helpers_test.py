"""A code whose helpers combine (msr-5-3) on pools alone: one lost shard comes back from half-shards
that the OSDs combine, proven by their tags; small stripes and two losses are decoded."""

import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import Cloud, sha256_of, wait_for  # noqa: E402
from harness import check, check_equal, note  # noqa: E402


def tool_json(cloud, *arguments):
    done = cloud.run_tool(*arguments, "--json", seconds=120)
    check(done.returncode == 0, " ".join(map(str, arguments)), done.stdout + done.stderr)
    return json.loads(done.stdout)


def lose(cloud, path, columns):
    (stripe, *_) = cloud.locate(path)["stripes"]
    for shard in stripe["shards"]:
        if shard["column"] in columns:
            cloud.sites[shard["site"]].lose(shard["location"])
    return max(shard["bytes"] for shard in stripe["shards"])


def repaired(cloud):
    report = tool_json(cloud, "repair", "--wait")
    check_equal(report["queued"], 0, "nothing is left to repair")
    return report["shards"]


def test(options):
    rng = random.Random(options.seed)
    with Cloud(code="msr-5-3", stores="pools") as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        large, small = mount / "large", mount / "small"
        trees.write_file(large, rng.randbytes(6 << 20), sync=True)
        trees.write_file(small, rng.randbytes(300_000), sync=True)
        expected = {path: sha256_of(path) for path in (large, small)}
        wait_for(lambda: all(s["osd_class"] == "yes" for s in cloud.status()["sites"]), 20,
                 "all sites to say that they have the class")
        for column in (0, 4):
            whole = lose(cloud, large, [column])
            (line,) = repaired(cloud)
            check_equal(line["method"], "helpers", f"column {column} by helpers")
            halves = [s["bytes_read"] for s in line["sites"] if s["bytes_read"]]
            note(f"column {column}: {line['bytes_read']} bytes read for a shard of {whole}")
            check(len(halves) == 4 and all(0 <= h - whole // 2 <= 64 for h in halves),
                  "half a shard from each of four sites", halves)
        lose(cloud, large, [1, 3])
        check_equal([line["method"] for line in repaired(cloud)], ["decode"] * 2, "two are decoded")
        lose(cloud, small, [0])
        (line,) = repaired(cloud)
        check_equal(line["method"], "decode", "what tags cannot prove is not combined")
        check_equal(tool_json(cloud, "audit")["bad"], [], "everything is proven")
        mount.remount()
        check_equal({path: sha256_of(path) for path in expected}, expected, "exact")
        mount.unmount()


if __name__ == "__main__":
    harness.main(test, 120)
