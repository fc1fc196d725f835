#!/usr/bin/env python3
"""Speed of visible watermarks: arithmetic by size, cores and kernels; the whole command; memory.

    tools/bench_watermark.py [--rounds N] [--write] [--quick]

Builds tests/bench_watermark and datacloud (DATACLOUD_BUILD: where) and prints tables; --write puts them
into docs/watermark.md and draws docs/watermark-speed.svg. --quick: a small picture, one round. Wall
clock needs an idle machine: beside it stands the processor's time, which other programs disturb less.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
BUILD = Path(os.environ.get("DATACLOUD_BUILD", SOURCE / "build"))
BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"
FULL = (14000, 12500)


def arithmetic(width, height, threads, rounds, bits=8):
    done = subprocess.run([BUILD / "tests/bench_watermark", "--width", str(width), "--height", str(height), "--threads",
                           str(threads), "--rounds", str(rounds), "--bits", str(bits)], capture_output=True, text=True,
                          check=True)
    return json.loads(done.stdout)


def arithmetic_table(results):
    lines = ["| kernels | profile | direction | cores | wall clock | processor | times memcpy |",
             "|---|---|---|---:|---:|---:|---:|"]
    for result in results:
        for run in result["runs"]:
            if result["threads"] > 1 and run["kernels"] == "portable":
                continue
            lines.append(f"| {run['kernels']} | {run['profile']} | {run['direction']} | {result['threads']} | "
                         f"{run['wall_s']:.2f} s | {run['cpu_s']:.2f} s | {run['cpu_s'] / result['memcpy_cpu_s']:.1f} |")
    return "\n".join(lines)


def make_tiff(path, width, height):
    """An uncompressed RGB TIFF of one strip per row, smooth with a little noise."""
    offsets_at = 8 + 3 * width * height
    counts_at = offsets_at + 4 * height
    directory = counts_at + 4 * height
    row = bytearray(3 * width)
    with open(path, "wb") as out:
        out.write(b"II*\0" + directory.to_bytes(4, "little"))
        noise = os.urandom(1 << 16)
        for y in range(height):
            base = bytes((x * 255 // width + y // 64) & 255 for x in range(256)) if y % 64 == 0 else base
            row[:] = (base * (3 * width // 256 + 1))[:3 * width]
            row[:len(noise) // 2:7] = noise[:len(row[:len(noise) // 2:7])]
            out.write(row)
        out.write(b"".join((8 + 3 * width * y).to_bytes(4, "little") for y in range(height)))
        out.write((3 * width).to_bytes(4, "little") * height)
        entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, directory + 2 + 12 * 9 + 4), (259, 3, 1, 1),
                   (262, 3, 1, 2), (273, 4, height, offsets_at), (277, 3, 1, 3), (278, 4, 1, 1),
                   (279, 4, height, counts_at)]
        out.write(len(entries).to_bytes(2, "little"))
        for tag, kind, count, value in entries:
            out.write(tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + count.to_bytes(4, "little")
                      + value.to_bytes(4, "little"))
        out.write(bytes(4) + (8).to_bytes(2, "little") * 3)


def make_mark(path):
    import struct
    import zlib
    width, height = 400, 300
    rows = b"".join(b"\0" + bytes((20, 20, 200)) * (width // 2) + bytes((240, 240, 90)) * (width // 2)
                    for _ in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
                     + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def command(*words):
    """(wall clock, processor time, most memory in MiB) of a run."""
    began = time.monotonic()
    child = subprocess.Popen([BUILD / "bin/datacloud", "watermark", *map(str, words)], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"datacloud watermark {words}: status {status}")
    child.returncode = 0
    return time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def commands_table(width, height):
    lines = ["| command, uncompressed TIFF | wall clock | processor | memory |", "|---|---:|---:|---:|"]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        work = Path(directory)
        make_tiff(work / "in.tif", width, height)
        make_mark(work / "mark.png")
        key = ("--key-out", work / "key")
        for name, words in (
                ("apply, notice", ("apply", work / "in.tif", work / "out.tif", "--mark", work / "mark.png", "--tile", *key)),
                ("apply, conceal", ("apply", work / "in.tif", work / "noise.tif", "--mark", work / "mark.png", "--tile",
                                    "--profile", "conceal", "--key", work / "key")),
                ("verify", ("verify", work / "out.tif", "--key", work / "key")),
                ("remove", ("remove", work / "out.tif", work / "back.tif", "--key", work / "key"))):
            wall, cpu, memory = command(*words)
            lines.append(f"| {name} | {wall:.1f} s | {cpu:.1f} s | {memory:.0f} MiB |")
        began = time.monotonic()
        subprocess.run(["cmp", work / "in.tif", work / "back.tif"], check=True)
        lines.append(f"| (cmp of the original and what was restored: equal) | {time.monotonic() - began:.1f} s | | |")
    return "\n".join(lines)


def svg(points):
    """points: {(kernels, cores): [(MB, seconds)]}, notice, apply: the processor's time per core."""
    width, height, left, bottom = 640, 360, 60, 50
    most_x = max(x for line in points.values() for x, _ in line)
    most_y = max(y for line in points.values() for _, y in line) * 1.1
    colours = ["#1b6ca8", "#7ab6e0", "#b5462f", "#e59a7f", "#4d8f3c", "#a5d08f"]

    def at(x, y):
        return left + x / most_x * (width - left - 150), height - bottom - y / most_y * (height - bottom - 20)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
           'font-size="12">', f'<rect width="{width}" height="{height}" fill="white"/>']
    for i in range(5):
        x, y = at(most_x * i / 4, 0)
        out.append(f'<text x="{x:.0f}" y="{y + 18:.0f}" text-anchor="middle">{most_x * i / 4:.0f}</text>')
        x, y = at(0, most_y * i / 4)
        out.append(f'<line x1="{x:.0f}" y1="{y:.0f}" x2="{width - 150}" y2="{y:.0f}" stroke="#dddddd"/>')
        out.append(f'<text x="{x - 8:.0f}" y="{y + 4:.0f}" text-anchor="end">{most_y * i / 4:.2f}</text>')
    out.append(f'<text x="{(width - 90) // 2}" y="{height - 10}" text-anchor="middle">MB of RGB samples, 8 bits</text>')
    out.append(f'<text x="14" y="{height // 2}" text-anchor="middle" transform="rotate(-90 14 {height // 2})">seconds of each processor</text>')
    for i, ((kernels, cores), line) in enumerate(sorted(points.items())):
        colour = colours[i % len(colours)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in sorted(line)))
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out.append(f'<text x="{width - 140}" y="{30 + 18 * i}" fill="{colour}">{kernels}, {cores} '
                   f'core{"s" if cores > 1 else ""}</text>')
    return "\n".join(out) + "\n</svg>\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    subprocess.run(["ninja", "-C", BUILD, "bench_watermark", "datacloud"], check=True, stdout=subprocess.DEVNULL)
    width, height = (3500, 3125) if given.quick else FULL
    rounds = 1 if given.quick else given.rounds
    cores = [1] + ([2] if len(os.sched_getaffinity(0)) > 1 else [])
    results, points = [], {}
    for threads in cores:
        for part in (4, 2, 1):
            result = arithmetic(width, height // part, threads, rounds)
            for run in result["runs"]:
                if run["profile"] == "notice" and run["direction"] == "apply":
                    points.setdefault((run["kernels"], threads), []).append(
                        (result["bytes"] / 1e6, run["cpu_s"] / threads))
        results.append(result)
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), "unknown")
    text = (f"{width} x {height} RGB of 8 bits ({3 * width * height / 1e6:.0f} MB), {model}, best of {rounds}; memcpy of "
            f"the same samples: {results[0]['memcpy_cpu_s']:.3f} s of the processor.\n\n{arithmetic_table(results)}\n\n"
            f"{commands_table(width, height)}")
    print(text)
    if given.write:
        (SOURCE / "docs/watermark-speed.svg").write_text(svg(points))
        document = SOURCE / "docs/watermark.md"
        before, rest = document.read_text().split(BEGIN)
        document.write_text(before + BEGIN + "\n" + text + "\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
