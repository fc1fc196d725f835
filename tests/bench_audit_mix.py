"""By hand: what a full audit of an everyday mix of files costs, beside what the mix takes at the sites.

    DATACLOUD_BUILD=build python3 -B tests/bench_audit_mix.py [--mib 2048]

By bytes the mix is 60 % files of 64 MiB, 30 % images of 100 KiB to 5 MiB, 10 % files of 1 to 20 kB.
Directory sites cannot compute answers, so shards are counted, and multiplied with what an answer takes:
4112 bytes, and 4861 between sites with Ceph's own messages (bench_audit_sites.py measures that).
"""

import argparse
import json
import os
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "support"))
from cloud import Cloud  # noqa: E402

MIB = 1 << 20
ANSWER, ON_THE_WIRE = 4112, 4861


def sizes(seed, mib):
    dice = random.Random(seed)
    kinds = [(0.6, lambda: 64 * MIB), (0.3, lambda: int(dice.uniform(100 << 10, 5 * MIB))),
             (0.1, lambda: int(dice.uniform(1000, 20000)))]
    for share, draw in kinds:
        left = share * mib * MIB
        while left > 0:
            size = draw()
            left -= size
            yield size


def write(root, seed, mib, synced):
    data = os.urandom(8 * MIB)
    files = 0
    for number, size in enumerate(sizes(seed, mib)):
        folder = root / f"{number // 500}"
        folder.mkdir(exist_ok=True)
        with open(folder / f"{number}", "wb") as file:
            for at in range(0, size, len(data)):
                file.write(data[number % 997:][:min(size - at, len(data) - 997)])
            if synced and size < MIB:
                file.flush()
                os.fsync(file.fileno())
        files += 1
    descriptor = os.open(root, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    return files


def row(cloud, what, files):
    audit = json.loads(cloud.tool("audit", "--json", seconds=900))
    stored, shards = audit["bytes_covered"], audit["shards_checked"]
    print(f"| {what} | {files} | {shards} | {stored / MIB:.0f} MiB | "
          f"{100 * shards * ANSWER / stored:.3f} % | {100 * shards * ON_THE_WIRE / stored:.3f} % |",
          flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    for synced in (False, True):
        with Cloud(code="rs-2-1", sites=3) as cloud:
            cloud.start_daemon()
            mount = cloud.mount()
            folder = mount / "mix"
            folder.mkdir()
            files = write(folder, options.seed, options.mib, synced)
            how = "every file below 1 MiB synced" if synced else "copied"
            row(cloud, how, files)
            cloud.tool("fold", "--wait", seconds=900)
            row(cloud, how + ", then folded", files)
            mount.unmount()


if __name__ == "__main__":
    main()
