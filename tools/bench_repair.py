"""Measures repairs, bytes between sites and time both; see bench_repair.sh, which starts the clusters.

heal: the same files on a mount of ours and on a GlusterFS disperse volume of the same geometry, one
site's or brick's disk replaced by an empty one, until all is healed; then two others are taken away
and every file is read through what was rebuilt. groups, codes: bench_repair and bench_codes, and reads
from a mount while a site is away. isal: the codes beside bare ISA-L. link: a site rebuilt over links of limited rate. stripes: a site of
many small stripes, in memory.
"""

import argparse
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))
import json  # noqa: E402

from bench import Timer, commit, machine, put_into_page, random_data, run  # noqa: E402
from cloud import BASE, BUILD, Cloud, sha256_of  # noqa: E402
from cloud_sites import CephSites  # noqa: E402
from gluster_volume import GlusterVolume, holds  # noqa: E402

MARKS = "<!-- measured repair, {part}: {which} -->"
PARTS = ("heal", "groups", "codes", "isal", "link", "stripes")
IMAGE_BYTES = (100 << 10, 200 << 10)
BIG_FILES = 4
ALBUMS = 8
CODES = ("rs-4-4", "msr-8-4", "basic-4-8")
# The healer's best settings of those tried: more threads, more blocks of a file at a time.
TUNED = {"disperse__shd_max_threads": 8, "disperse__self_heal_window_size": 32,
         "disperse__background_heals": 64, "disperse__shd_wait_qlength": 4096,
         "cluster__heal_timeout": 60}


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


# --- Beside GlusterFS ---------------------------------------------------------------------------------


def make_files(directory, options):
    """Images of 100 to 200 KiB, and large files; incompressible. Returns bytes."""
    rng = random.Random(7)
    (directory / "large").mkdir(parents=True)
    for i in range(options.images):
        album = directory / f"album{i % ALBUMS}"
        album.mkdir(exist_ok=True)
        (album / f"{i:05d}.jpg").write_bytes(rng.randbytes(rng.randrange(*IMAGE_BYTES)))
    for i in range(BIG_FILES):
        random_data(directory / "large" / f"{i}", (options.megabytes << 20) // BIG_FILES)
    return sum(p.stat().st_size for p in directory.rglob("*") if p.is_file())


def copy_durably(source, target):
    shutil.copytree(source, target)
    for path in target.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)


def digests(directory):
    return {str(p.relative_to(directory)): sha256_of(p) for p in sorted(directory.rglob("*"))
            if p.is_file()}


def same(found, expected, what):
    if found != expected:
        wrong = [name for name in expected if found.get(name) != expected[name]]
        sys.exit(f"bench: {what}: {len(wrong)} of {len(expected)} files are not what was written")


def heal_gluster(work, source, expected, options):
    """[(settings, seconds, (share of files, of bytes), bytes over the network)]"""
    volume = GlusterVolume(work)
    rows = []
    try:
        volume.start()
        copy_durably(source, volume.point / "data")
        victim = volume.bricks[1]
        wanted = holds(victim)
        for name, settings in (("as installed", {}), ("its best settings", TUNED)):
            volume.set(**settings)
            volume.wipe(victim)
            seconds, share, crossed = volume.heal(victim, wanted, options.heal_seconds)
            say(f"GlusterFS, {name}: {share[1]:.0%} healed in {seconds:.1f} s")
            rows.append((f"GlusterFS, {name}", seconds, share, crossed))
        if rows[-1][2] == (1.0, 1.0):
            volume.settle()
            # Two others away: everything is decoded with the healed brick.
            volume.unmount()
            volume.stop_bricks(volume.bricks[0], volume.bricks[4])
            volume.mount()
            same(digests(volume.point / "data"), expected, "GlusterFS, healed")
    finally:
        volume.close()
    return rows


def repair_traffic(cloud):
    traffic = json.loads(cloud.tool("traffic", "--json"))
    rows = [site["purposes"]["repair"] for site in traffic["sites"]]
    return sum(row["read"] + row["written"] for row in rows)


def heal_ours(source, expected, options):
    times, crossed = [], []
    with Cloud(stores="directory") as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        copy_durably(source, mount / "data")
        cloud.tool("fold", "--wait", seconds=300)
        for _ in range(options.repetitions):
            before = repair_traffic(cloud)
            cloud.sites["site2"].replace_by_empty()
            with Timer() as timer:
                told = json.loads(cloud.tool("site", "rebuild", "site2", "--json", seconds=600))
            if told["left"] or not told["shards"]:
                sys.exit(f"bench: site2 is not rebuilt: {told}")
            times.append(timer.seconds)
            crossed.append(repair_traffic(cloud) - before)
            say(f"Data Cloud: {told['shards']} shards in {timer.seconds:.2f} s")
        audit = json.loads(cloud.tool("audit", "--json", seconds=300))
        if audit["bad"]:
            sys.exit(f"bench: rebuilt, but the audit finds {audit['bad'][:3]}")
        cloud.tool("fsck", "-n", seconds=300)
        mount.unmount()
        cloud.take_away("site1", "site5")
        mount = cloud.mount()
        same(digests(mount / "data"), expected, "Data Cloud, rebuilt")
        mount.unmount()
    return [("Data Cloud, `site rebuild`", statistics.median(times), (1.0, 1.0),
             statistics.median(crossed))]


def part_heal(options, work):
    source = work / "source"
    size = make_files(source, options)
    files = options.images + BIG_FILES
    expected = digests(source)
    theirs = heal_gluster(work, source, expected, options)
    ours = heal_ours(source, expected, options)
    best = max(max(share) / seconds for _, seconds, share, _ in theirs)
    mine = 1 / ours[0][1]
    lines = [f"{options.images} images of 100 to 200 KiB and {BIG_FILES} large files, "
             f"{size >> 20} MiB in all, incompressible; disperse 5 redundancy 2 and rs-3-2 over five "
             "directories of one disk, one of them emptied. Rates are those of the files' data.", "",
             "| healer | time | healed | data | files | between sites |",
             "|---|---:|---:|---:|---:|---:|"]
    for name, seconds, share, crossed in theirs + ours:
        lines.append(f"| {name} | {seconds:.1f} s | {share[1]:.0%} "
                     f"| {size * share[1] / seconds / 1e6:.1f} MB/s | {files * share[0] / seconds:.0f} /s "
                     f"| {crossed / 2**20:.0f} MiB |")
    lines += ["", f"Ours heals {mine / best:.1f} times as fast as GlusterFS at its best."]
    return "\n".join(lines)


# --- Groups and codes ----------------------------------------------------------------------------------


def program(name, *arguments, **environment):
    done = subprocess.run([BUILD / "tests" / name, *arguments], capture_output=True, text=True,
                          timeout=400, env={**os.environ, **environment}, check=False)
    if done.returncode != 0:
        sys.exit(f"bench: {name} {' '.join(arguments)}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return done.stdout


def table_of(text):
    return [line for line in text.splitlines() if line.startswith("|")]


def part_groups(options, work):
    del options, work
    text = program("bench_repair", "--gtest_filter=BenchRepair.Groups")
    return ("Shards of 4 MiB that crossed the daemon's link (read and written, with tags and proofs) and "
            "the time until all was whole; the link: 35 ms round trip, 1 Gbit/s each way; sites in "
            "memory.\n\n" + "\n".join(table_of(text)))


def cold_read(cloud, path):
    """MB/s of a file nobody has cached."""
    mount = cloud.mount()
    size = (mount / path).stat().st_size
    with Timer() as timer:
        run("dd", f"if={mount / path}", "of=/dev/null", "bs=1M", "status=none")
    mount.unmount()
    return size / timer.seconds / 1e6


def read_rates(code, source):
    with Cloud(sites=8, code=code, stores="directory") as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        run("dd", f"if={source}", f"of={mount / 'large'}", "bs=1M", "conv=fsync", "status=none")
        mount.unmount()
        whole = statistics.median(cold_read(cloud, "large") for _ in range(3))
        cloud.take_away("site1")
        degraded = statistics.median(cold_read(cloud, "large") for _ in range(3))
    return whole, degraded


def part_codes(options, work):
    speeds = {}
    for line in program("bench_codes").splitlines():
        found = re.match(r"(\S+)\s+encode\s+([0-9.]+) GB/s.*one lost shard\s+([0-9.]+) GB/s", line)
        if found:
            speeds[found[1]] = (float(found[2]) * 1000, float(found[3]) * 1000)
    repairs = {}
    for line in table_of(program("bench_repair", "--gtest_filter=BenchRepair.Codes"))[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        repairs[cells[0]] = cells[1:]
    source = work / "large"
    random_data(source, options.megabytes << 20)
    lines = ["Encoding and decoding on one core, shards of 4 MiB; reads of a file of "
             f"{options.megabytes} MiB from a mount over eight directory sites, cold, all there and "
             "one away; the repair of one shard of 4 MiB over the link of the table above.", "",
             "| code | encode | decode one lost shard | read | degraded read | one shard's repair: "
             "read + written, shards | time |", "|---|---:|---:|---:|---:|---:|---:|"]
    for code in CODES:
        whole, degraded = read_rates(code, source)
        say(f"{code}: read {whole:.0f} MB/s, degraded {degraded:.0f} MB/s")
        lines.append(f"| {code} | {speeds[code][0]:.0f} MB/s | {speeds[code][1]:.0f} MB/s "
                     f"| {whole:.0f} MB/s | {degraded:.0f} MB/s | {repairs[code][0]} | {repairs[code][2]} |")
    return "\n".join(lines)


def part_isal(options, work):
    del options, work
    return ("One core, each side in turn in samples of half a millisecond of CPU time over the same "
            "buffers, tables prepared; GB/s of what is read; how many times as fast as "
            "`ec_encode_data`: medians (fastest samples).\n\n" + program("bench_codes", "isal").strip())


# --- A lost site behind a link -------------------------------------------------------------------------


def part_link(options, work):
    source = work / "data"
    random_data(source, options.link_megabytes << 20)
    expected = sha256_of(source)
    ceph = CephSites(os.environ["DATACLOUD_CEPH_SITES"])
    rate = options.mbit * 1e6 / 8
    lines = [f"Three Ceph clusters, rs-2-1, each behind a link of {options.mbit} Mbit/s each way and 35 ms "
             f"round trip; {options.link_megabytes} MiB in large files; one site's pool emptied.", "",
             "| rebuilt | time | link busy with | of its rate | between sites |",
             "|---:|---:|---:|---:|---:|"]
    with Cloud(sites=3, code="rs-2-1", stores="pools") as cloud:
        # From the start: TCP goes by the shortest round trip of the last ten seconds (BBR).
        for number in (1, 2, 3):
            ceph.run("link", number, "--rtt", "35ms")
        cloud.start_daemon()
        mount = cloud.mount()
        run("dd", f"if={source}", f"of={mount / 'data'}", "bs=1M", "conv=fsync", "status=none")
        mount.unmount()
        cloud.sites["site3"].replace_by_empty()
        for number in (1, 2, 3):
            ceph.run("link", number, "--rate", f"{options.mbit}mbit")
        before = ceph.counters()
        with Timer() as timer:
            told = json.loads(cloud.tool("site", "rebuild", "site3", "--json", seconds=200))
        after = ceph.counters()
        for number in (1, 2, 3):
            ceph.run("link", number, "--rtt", "0ms", "--rate", "0mbit")
        if told["left"]:
            sys.exit(f"bench: site3 is not rebuilt: {told}")
        audit = json.loads(cloud.tool("audit", "--json", seconds=300))
        cloud.take_away("site1")
        mount = cloud.mount()
        if audit["bad"] or sha256_of(mount / "data") != expected:
            sys.exit("bench: site3 was rebuilt wrongly")
        mount.unmount()
        cloud.put_back("site1")

    def crossed(site, way):
        return after[site][way]["bytes"] - before[site][way]["bytes"]
    written = told["bytes_written"]
    total = sum(crossed(s, w) for s in (1, 2, 3) for w in ("to_site", "from_site"))
    lines.append(f"| {written >> 20} MiB | {timer.seconds:.1f} s | {written / timer.seconds / 1e6:.1f} MB/s "
                 f"| {written / timer.seconds / rate:.0%} | {total >> 20} MiB |")
    return "\n".join(lines)


def part_stripes(options, work):
    del work
    text = program("site_rebuild_test", DATACLOUD_STRIPES=str(options.stripes))
    found = re.search(r"(\d+) stripes, (\d+) shards rebuilt in ([0-9.]+) s, (\d+) reads", text)
    shards, seconds = int(found[2]), float(found[3])
    return (f"A lost site of {options.stripes} stripes (600 bytes a shard, rs-3-2, sites in memory; "
            f"`DATACLOUD_STRIPES={options.stripes} site_rebuild_test`) was rebuilt in {seconds:.1f} s, "
            f"{options.stripes / seconds:.0f} stripes a second, while {found[4]} stripes were read"
            + (f" ({shards} are told one by one)." if shards < options.stripes else "."))


def main():
    parser = argparse.ArgumentParser(prog="bench_repair.sh", description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", default=",".join(PARTS), help=f"of: {', '.join(PARTS)} (commas between)")
    parser.add_argument("--repetitions", type=int, default=3, help="of our rebuild beside GlusterFS")
    parser.add_argument("--images", type=int, default=600, help="files of 100 to 200 KiB")
    parser.add_argument("--megabytes", type=int, default=256, help="of the large files")
    parser.add_argument("--heal-seconds", type=int, default=130,
                        help="GlusterFS is cut off after this and judged by what it has healed")
    parser.add_argument("--mbit", type=int, default=200, help="rate of the links")
    parser.add_argument("--link-megabytes", type=int, default=1024, help="rebuilt over the links")
    parser.add_argument("--stripes", type=int, default=20_000)
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    options = parser.parse_args()
    wanted = options.only.split(",")
    unknown = [part for part in wanted if part not in PARTS]
    if unknown:
        parser.error(f"no part is called {unknown[0]}: there are {', '.join(PARTS)}")
    work = BASE / f"dcbench-{os.getpid()}"
    work.mkdir()
    about = f"{machine()} Revision {commit()}, {time.strftime('%Y-%m-%d')}."
    failed = []
    try:
        for part in (p for p in PARTS if p in wanted):
            say(part)
            load, began = os.getloadavg()[0], time.monotonic()
            try:
                section = globals()[f"part_{part}"](options, work)
            except (Exception, SystemExit) as error:  # the others are measured all the same
                say(f"{part} failed: {error}")
                failed.append(part)
                continue
            finally:
                for left in work.iterdir():
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            say(f"{part} took {time.monotonic() - began:.0f} s")
            report = f"{about} Load average at the start: {load:.1f}.\n\n{section}"
            print(f"{part}: {report}\n", flush=True)
            if options.write:
                put_into_page(report, *(MARKS.format(part=part, which=w) for w in ("begin", "end")))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if failed:
        sys.exit(f"bench: not measured: {', '.join(failed)}")


if __name__ == "__main__":
    main()
