#!/bin/bash
# libtiff 4.5.0: floats written with the floating-point predictor (3) into a big-endian file on a
# little-endian machine come back as other numbers. Both steps end with success.
#
# TIFF's floating-point predictor puts the bytes of each row into planes, most significant first, so
# the rows do not depend on the file's byte order (TIFF Technical Note 3), and the packed strips of a big-
# and a little-endian file of the same samples are the same bytes. libtiff swaps the samples as well
# when it writes, and not when it reads. `tiffcp -B -c zip:3` shows it, GDAL's ENDIANNESS=BIG with
# PREDICTOR=3 uses the same code. LZW, Deflate and Zstandard are alike; the horizontal predictor (2), no
# predictor, and little-endian files are right.
#
# For an archive: a file that was converted so is lost without any message, also for a reader that
# follows the note. Compare the samples before the original is deleted.
#
# Expected: the samples that were written. Seen: other ones, without an error.
# Exits with 0 while that is so. Installs nothing: unpacks Debian's packages into a temporary directory.
set -euo pipefail
packages=(libtiff-tools=4.5.0-6+deb12u4)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unpack() {
  : >"$work/status"  # as if nothing were installed: everything they need is told
  local needs
  needs=$(apt-get -s -o Dir::State::status="$work/status" -o Debug::NoLocking=1 \
    --no-install-recommends install "$@" | awk '/^Inst /{gsub(/[()]/, ""); print $2 "=" $3}')
  mkdir "$work/packages" "$work/root"
  # shellcheck disable=SC2086
  (cd "$work/packages" && apt-get -q -o APT::Sandbox::User=root download $needs >/dev/null)
  rm -f "$work"/packages/libc6_*  # the loader that is here needs its own
  for package in "$work"/packages/*.deb; do dpkg -x "$package" "$work/root"; done
}
unpack "${packages[@]}"
tiffcp() {
  LD_LIBRARY_PATH="$work/root/usr/lib/x86_64-linux-gnu:$work/root/lib/x86_64-linux-gnu" \
    "$work/root/usr/bin/tiffcp" "$@"
}
cd "$work"
echo "libtiff-tools $(dpkg-deb -f packages/libtiff-tools_*.deb Version), libtiff6 $(dpkg-deb -f packages/libtiff6_*.deb Version)"

# A float picture of 64 x 32 samples in one strip, made and read by hand.
cat >tiff.py <<'END'
import struct, sys, zlib

WIDTH, HEIGHT = 64, 32
SAMPLES = [i + 0.5 for i in range(WIDTH * HEIGHT)]


def write(path):
    data = struct.pack(f"<{len(SAMPLES)}f", *SAMPLES)
    tags = [(256, WIDTH), (257, HEIGHT), (258, 32), (259, 1), (262, 1), (273, 8), (277, 1),
            (278, HEIGHT), (279, len(data)), (284, 1), (339, 3)]
    with open(path, "wb") as out:
        out.write(struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + struct.pack("<H", len(tags)))
        for tag, value in tags:
            kind = 4 if tag in (273, 279) else 3
            out.write(struct.pack("<HHII", tag, kind, 1, value))
        out.write(struct.pack("<I", 0))


def strip(path):
    with open(path, "rb") as file:
        raw = file.read()
    order = {b"II": "<", b"MM": ">"}[raw[:2]]
    at, = struct.unpack_from(order + "I", raw, 4)
    count, = struct.unpack_from(order + "H", raw, at)
    values = {}
    for entry in range(count):
        tag, kind, number = struct.unpack_from(order + "HHI", raw, at + 2 + 12 * entry)
        values[tag], = struct.unpack_from(order + ("H" if kind == 3 else "I"), raw, at + 10 + 12 * entry)
    assert values[278] >= HEIGHT, "more than one strip"
    data = raw[values[273]:values[273] + values[279]]
    return zlib.decompress(data) if values[259] in (8, 32946) else data


if sys.argv[1] == "write":
    write(sys.argv[2])
elif sys.argv[1] == "equal-strips":
    print("yes" if strip(sys.argv[2]) == strip(sys.argv[3]) else "no")
else:
    seen = list(struct.unpack(f"<{len(SAMPLES)}f", strip(sys.argv[2])))
    print("right" if seen == SAMPLES else f"wrong, begins with {seen[:2]} instead of {SAMPLES[:2]}")
END
python3 tiff.py write plain.tif

ok=yes
for order in L B; do
  for how in none zip zip:2 zip:3 lzw:3; do
    tiffcp -r 32 "-$order" -c "$how" plain.tif "packed-$order-$how.tif"
    tiffcp -r 32 -L -c none "packed-$order-$how.tif" back.tif
    seen=$(python3 tiff.py compare back.tif)
    expected=right
    case $order$how in B*:3) expected=wrong ;; esac
    echo "tiffcp -$order -c $how and back: $seen"
    [ "${seen%%,*}" = $expected ] || ok=no
  done
done
same=$(python3 tiff.py equal-strips packed-L-zip:3.tif packed-B-zip:3.tif)
echo "rows after the floating-point predictor are the same bytes in both byte orders: $same (they should be)"
[ "$same" = no ] || ok=no
[ $ok = yes ]
