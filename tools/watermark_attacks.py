#!/usr/bin/env python3
"""What somebody without the key gets back of a marked picture, measured.

    tools/watermark_attacks.py [--pictures DIR] [--write]

Crops of real pictures (tools/install-deps.sh --demo DIR; what is needed else: --test) are marked by
`datacloud watermark apply` in both profiles and attacked by somebody who knows everything but the
key: formulas, mark, opacity and place. Each result is compared with the original inside of the mark:
PSNR (dB, more is nearer; above 40 hardly a difference is seen) and SSIM (1: equal). --write puts the
table into docs/watermark.md.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from osgeo import gdal

gdal.UseExceptions()
SOURCE = Path(__file__).resolve().parents[1]
BUILD = Path(os.environ.get("DATACLOUD_BUILD", SOURCE / "build"))
WIDTH, HEIGHT = 640, 480
OPACITY = 60
AVERAGED = 12  # pictures with the same mark
BEGIN, END = "<!-- attacks: begin -->", "<!-- attacks: end -->"


# --- Pictures ----------------------------------------------------------------------------------

def crops(directory, wanted):
    """RGB arrays of WIDTH x HEIGHT, of as many different pictures."""
    found = []
    for path in sorted(directory.rglob("*"), key=lambda p: (p.suffix != ".png", p.name)):
        if path.suffix not in (".jpg", ".png") or path.stat().st_size < 300_000:
            continue
        data = gdal.Open(str(path))
        if data.RasterCount < 3 or data.RasterXSize < 2 * WIDTH or data.RasterYSize < 2 * HEIGHT:
            continue
        # Half the size: photographs are noisy or smooth pixel by pixel.
        left, top = (data.RasterXSize - 2 * WIDTH) // 2, (data.RasterYSize - 2 * HEIGHT) // 2
        samples = data.ReadAsArray(left, top, 2 * WIDTH, 2 * HEIGHT, buf_xsize=WIDTH, buf_ysize=HEIGHT,
                                   resample_alg=gdal.GRIORA_Average)[:3]
        if samples.std() > 15 and samples.dtype == np.uint8:
            found.append(np.moveaxis(samples, 0, 2))
        if len(found) == wanted:
            return found
    sys.exit(f"{directory} has {len(found)} usable pictures, {wanted} are needed: "
             f"tools/install-deps.sh --demo {directory}")


def save(path, samples, driver="GTiff"):
    height, width, bands = samples.shape
    memory = gdal.GetDriverByName("MEM").Create("", width, height, bands, gdal.GDT_Byte)
    for i in range(bands):
        memory.GetRasterBand(i + 1).WriteArray(samples[:, :, i])
    gdal.GetDriverByName(driver).CreateCopy(str(path), memory)


def load(path):
    return np.moveaxis(gdal.Open(str(path)).ReadAsArray(), 0, 2)


def logo():
    """A ring and bars: edges of all directions, and flat parts."""
    y, x = np.mgrid[0:240, 0:320]
    out = np.zeros((240, 320, 4), np.uint8)
    radius = np.hypot(x - 160, y - 120)
    out[(radius < 115) & (radius > 70)] = (235, 40, 40, 255)
    out[(abs(y - 120) < 20) & (abs(x - 160) < 150)] = (250, 250, 250, 255)
    out[(abs(x - 160) < 12) & (abs(y - 120) < 110)] = (20, 20, 120, 255)
    return out


def mark(work, picture, profile, x, y):
    save(work / "in.tif", picture)
    subprocess.run([BUILD / "bin/datacloud", "watermark", "apply", work / "in.tif", work / "out.tif", "--mark",
                    work / "logo.png", "--key", work / "key", "--profile", profile, "--opacity", str(OPACITY),
                    "--position", f"{x},{y}", "--force"], check=True, capture_output=True)
    return load(work / "out.tif").astype(np.int32)


def placed(x, y):
    """The mark on a page: colours and mask."""
    colours, mask = np.zeros((HEIGHT, WIDTH, 3), np.int32), np.zeros((HEIGHT, WIDTH), bool)
    picture = logo()
    colours[y:y + 240, x:x + 320] = picture[:, :, :3]
    mask[y:y + 240, x:x + 320] = picture[:, :, 3] > 0
    return colours, mask


# --- Measures ----------------------------------------------------------------------------------

def blur(values, sigma):
    reach = max(1, int(3 * sigma + 0.5))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        padding = [(reach, reach) if i == axis else (0, 0) for i in range(values.ndim)]
        padded = np.pad(values, padding, mode="edge")
        values = sum(weight * np.take(padded, range(i, i + values.shape[axis]), axis)
                     for i, weight in enumerate(kernel))
    return values


def psnr(one, two, mask):
    error = np.mean((one[mask].astype(float) - two[mask]) ** 2)
    return 99.0 if error == 0 else 10 * np.log10(255 ** 2 / error)


def ssim(one, two, mask):
    """Wang and others 2004: a Gaussian window of sigma 1.5."""
    a, b = one.astype(float), two.astype(float)
    mean_a, mean_b = blur(a, 1.5), blur(b, 1.5)
    var_a, var_b = blur(a * a, 1.5) - mean_a ** 2, blur(b * b, 1.5) - mean_b ** 2
    both = blur(a * b, 1.5) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = ((2 * mean_a * mean_b + c1) * (2 * both + c2)) / ((mean_a ** 2 + mean_b ** 2 + c1) * (var_a + var_b + c2))
    return float(values[mask].mean())


# --- Attacks -----------------------------------------------------------------------------------

def rank(x, p):
    margin, distance = np.minimum(x, 255 - x), abs(p - x)
    return np.where(distance <= margin, 2 * distance - (p < x), np.where(x <= 127, p, 255 - p))


def value(x, r):
    margin, steps = np.minimum(x, 255 - x), (r + 1) // 2
    return np.where(r <= 2 * margin, np.where(r % 2 == 1, x - steps, x + steps), np.where(x <= 127, r, 255 - r))


def invert(marked, colours, mask, opacity):
    """The removal itself, with zeros as keystream."""
    out = marked.copy()
    weight = round(opacity * 2.56)
    for y in range(HEIGHT):
        if y % 256 == 0:
            a = np.full((WIDTH, 3), 128)
        else:
            above = np.pad(out[y - 1], ((1, 1), (0, 0)), mode="edge")
            a = (above[:-2] + 2 * above[1:-1] + above[2:] + 2) >> 2
        b = np.clip((weight * colours[y] + (256 - weight) * a + 128) >> 8, 0, 255)
        out[y] = np.where(mask[y][:, None], value(a, rank(b, marked[y])), marked[y])
    return out


def unblend(marked, colours, mask, opacity):
    """The mark taken for ordinary transparency."""
    share = opacity / 100
    clear = np.clip((marked - share * colours) / (1 - share), 0, 255)
    return np.where(mask[:, :, None], clear, marked)


def median(samples, mask, reach=2):
    padded = np.pad(samples, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    shifted = [padded[i:i + HEIGHT, j:j + WIDTH] for i in range(2 * reach + 1) for j in range(2 * reach + 1)]
    return np.where(mask[:, :, None], np.median(shifted, axis=0), samples)


def inpaint(samples, mask):
    """The marked area forgotten and filled from its edges, coarse to fine."""
    known = ~mask[:, :, None]
    filled = np.where(known, samples, 0.0)
    out = samples.astype(float)
    for sigma in (32, 16, 8, 4, 2, 1):
        weight = blur(known.astype(float), sigma)
        guess = blur(filled, sigma) / np.maximum(weight, 1e-9)
        out = np.where(mask[:, :, None] & (weight > 1e-3), guess, out)
    for _ in range(300):
        around = (np.roll(out, 1, 0) + np.roll(out, -1, 0) + np.roll(out, 1, 1) + np.roll(out, -1, 1)) / 4
        out = np.where(mask[:, :, None], around, samples)
    return out


def average_mark(all_marked, mask):
    """The mark's colours as the mean of many pictures tells them, unknown contents taken as grey."""
    share = OPACITY / 100
    mean = np.mean(all_marked, axis=0)
    return np.where(mask[:, :, None], np.clip((mean - (1 - share) * 118) / share, 0, 255), 0)


def denoise(samples, mask):
    """The spread is told by flat places, and smoothed away by as much as it needs."""
    smooth = blur(samples.astype(float), 1.0)
    residual = abs(samples - smooth)[mask]
    spread = np.percentile(residual, 25) * 2  # of the flattest quarter
    edges = abs(blur(samples.astype(float), 2.0) - smooth)
    weight = np.clip(edges / (spread + 1), 0, 1)
    return np.where(mask[:, :, None], weight * smooth + (1 - weight) * blur(samples.astype(float), 2.0), samples), spread


def measure(work, pictures, profile):
    """{attack: [(PSNR, SSIM)]}, and what was told of the spread."""
    found, spreads = {}, []

    def note(name, guess, original, area):
        found.setdefault(name, []).append((psnr(guess, original, area), ssim(guess, original, area)))

    x, y = 160, 120
    colours, area = placed(x, y)
    shifted_colours, shifted = placed(240, 160)
    every = [mark(work, picture, profile, x, y) for picture in pictures]
    learned = average_mark(every, area)
    for original, marked in list(zip(pictures, every, strict=True))[:4]:
        note("none: the marked picture", marked, original, area)
        note("inversion with the right mark, without keystream", invert(marked, colours, area, OPACITY), original, area)
        note("the mark taken off as plain transparency", unblend(marked, colours, area, OPACITY), original, area)
        note("median filter, 5 x 5", median(marked, area), original, area)
        note("inpainting of the area from outside", inpaint(marked, area), original, area)
        note(f"mark learned from {len(every)} pictures, then transparency", unblend(marked, learned, area, OPACITY),
             original, area)
        smooth, spread = denoise(unblend(marked, colours, area, OPACITY), area)
        spreads.append(spread)
        note("transparency, spread estimated from flat areas, smoothed", smooth, original, area)
        second = mark(work, original, profile, 240, 160)
        both = (unblend(marked, colours, area, OPACITY) + unblend(second, shifted_colours, shifted, OPACITY)) / 2
        note("two publications, mark elsewhere: where one is clear",
             np.where(shifted[:, :, None], both, second), original, area & ~shifted)
        note("two publications, mark elsewhere: where both are marked", both, original, area & shifted)
    return found, spreads


def table(results):
    lines = ["| attack without the key | notice: PSNR | SSIM | conceal: PSNR | SSIM |", "|---|---:|---:|---:|---:|"]
    for name in results["notice"]:
        cells = []
        for profile in ("notice", "conceal"):
            values = np.mean(results[profile][name], axis=0)
            cells += ["exact" if values[0] >= 99 else f"{values[0]:.1f} dB", f"{values[1]:.2f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, default=Path("/var/cache/datacloud/pictures"))
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    pictures = crops(given.pictures, AVERAGED)
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        save(work / "logo.png", logo(), "PNG")
        save(work / "in.tif", pictures[0])
        subprocess.run([BUILD / "bin/datacloud", "watermark", "apply", work / "in.tif", work / "first.tif", "--mark",
                        work / "logo.png", "--key-out", work / "key"], check=True, capture_output=True)
        results = {}
        for profile in ("notice", "conceal"):
            results[profile], spreads = measure(work, pictures, profile)
            print(f"{profile}: spread told by flat areas: {np.mean(spreads):.1f}", file=sys.stderr)
    text = table(results)
    print(text)
    if given.write:
        document = SOURCE / "docs/watermark.md"
        before, rest = document.read_text().split(BEGIN)
        document.write_text(before + BEGIN + "\n" + text + "\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
