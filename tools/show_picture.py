#!/usr/bin/env python3
"""A PNG as coloured blocks in a terminal: `show_picture.py FILE`; or makes a logo: `--logo FILE`.

Only what tools/quickstart.sh --share needs: 8 bits, grey or RGB with or without alpha, not interlaced.
"""

import shutil
import struct
import sys
import zlib
from pathlib import Path


def chunks(data):
    at = 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at:at + 4])
        yield data[at + 4:at + 8], data[at + 8:at + 8 + length]
        at += 12 + length


def rows(data):
    """(width, height, channels, rows) of samples."""
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    channels = {0: 1, 2: 3, 4: 2, 6: 4}.get(colour)
    if bits != 8 or channels is None or interlaced:
        return None
    raw = zlib.decompress(b"".join(body for kind, body in chunks(data) if kind == b"IDAT"))
    stride, above, out = width * channels, bytes(width * channels), []
    for y in range(height):
        start = y * (stride + 1)
        kind, row = raw[start], bytearray(raw[start + 1:start + 1 + stride])
        for i in range(stride if kind else 0):
            left = row[i - channels] if i >= channels else 0
            up, corner = above[i], above[i - channels] if i >= channels else 0
            if kind == 4:
                p = left + up - corner
                guess = min((abs(p - left), 0, left), (abs(p - up), 1, up), (abs(p - corner), 2, corner))[2]
            else:
                guess = (0, left, up, (left + up) // 2)[kind]
            row[i] = (row[i] + guess) & 255
        out.append(row)
        above = row
    return width, height, channels, out


def show(path):
    found = rows(Path(path).read_bytes())
    if found is None:
        return
    width, height, channels, samples = found
    columns = min(72, shutil.get_terminal_size().columns - 1, width)
    lines = max(1, columns * height // width // 2)

    def colour(x, y):
        at = x * width // columns * channels
        pixel = samples[y * height // (2 * lines)][at:at + channels]
        red, green, blue = pixel[:3] if channels > 2 else (pixel[0],) * 3
        return f"{red};{green};{blue}"
    for y in range(lines):
        print("".join(f"\x1b[38;2;{colour(x, 2 * y)};48;2;{colour(x, 2 * y + 1)}m\u2580" for x in range(columns)) + "\x1b[0m")


def logo(path):
    width, height = 320, 200
    body = b""
    for y in range(height):
        body += b"\0"
        for x in range(width):
            ring = 55 < ((x - 160) ** 2 + (y - 100) ** 2) ** 0.5 < 80
            bar = abs(y - 100) < 14 and abs(x - 160) < 140
            body += bytes((245, 245, 245, 255) if bar else (200, 30, 40, 255) if ring else (0, 0, 0, 0))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    Path(path).write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
                           + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b""))


if __name__ == "__main__":
    logo(sys.argv[2]) if sys.argv[1] == "--logo" else show(sys.argv[1])
