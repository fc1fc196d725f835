#!/bin/bash
# fits-reader-js 1.0.0 (npm): columns of FITS tables come out as other numbers, without an error.
#
# - 64-bit integers (TFORM K: times in nanoseconds, identifiers): the upper half is taken for a sign and
#   shifted out of 32 bits; 5000000000 becomes -705032704. Small numbers are right.
# - Unsigned integers, which FITS stores as signed ones with TZERO = 32768 (for 16 bits): TZERO is not
#   applied, and 40000 counts are 7232.
# - Tables in ASCII: fields begin where TBCOL says; it splits lines at blanks, so that a name of two
#   words, or a field left blank, moves all that follows: "Kitt Peak" 2096.5 has NaN for the height.
#
# Expected: the values that CFITSIO finds in the file (fitsverify sees no fault in it). Seen: other ones.
# Exits with 0 while that is so. Needs node, npm and python3; unpacks Debian's packages and the npm package into
# a temporary directory, and installs nothing.
set -euo pipefail
packages=(libcfitsio-bin=4.2.0-3 fitsverify=4.20-4+b1)

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
root=$work/root
libraries=$(find "$root/usr/lib" "$root/lib" -name '*.so*' -printf '%h\n' 2>/dev/null | sort -u | paste -sd:)
fits() { LD_LIBRARY_PATH=$libraries "$root/usr/bin/$1" "${@:2}"; }
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts fits-reader-js@1.0.0 >/dev/null

# A binary table and one in ASCII, by hand.
cat >write.py <<'END'
import struct


def header(**cards):
    lines = [f"{name:<8}= " + (f"'{value:<8}'" if isinstance(value, str) else
                               f"{'T' if value is True else value:>20}") for name, value in cards.items()]
    return padded("".join(f"{line:<80}" for line in lines + ["END"]).encode(), b" ")


def padded(data, filler):
    return data + filler * (-len(data) % 2880)


rows = [(7, 7, 1.5), (5000000000, 40000, 2.5)]
binary = b"".join(struct.pack(">qhd", time, counts - 32768, value) for time, counts, value in rows)
text = b"".join(b"%-10s%8.1f" % site for site in [(b"Tololo", 2207.0), (b"Kitt Peak", 2096.5)])
with open("tables.fits", "wb") as out:
    out.write(header(SIMPLE=True, BITPIX=8, NAXIS=0, EXTEND=True))
    out.write(header(XTENSION="BINTABLE", BITPIX=8, NAXIS=2, NAXIS1=18, NAXIS2=2, PCOUNT=0, GCOUNT=1, TFIELDS=3,
                     TTYPE1="TIME", TFORM1="1K", TTYPE2="COUNTS", TFORM2="1I", TZERO2=32768, TTYPE3="VALUE",
                     TFORM3="1D") + padded(binary, b"\0"))
    out.write(header(XTENSION="TABLE", BITPIX=8, NAXIS=2, NAXIS1=18, NAXIS2=2, PCOUNT=0, GCOUNT=1, TFIELDS=2,
                     TTYPE1="SITE", TBCOL1=1, TFORM1="A10", TTYPE2="HEIGHT", TBCOL2=11, TFORM2="F8.1")
              + padded(text, b" "))
END
python3 write.py
fits fitsverify tables.fits | grep '0 warning(s) and 0 error(s)'
for rows in "1][TIME == 5000000000 && COUNTS == 40000 && VALUE == 2.5" "2][SITE == 'Kitt Peak' && HEIGHT == 2096.5"; do
  fits fitscopy "tables.fits[$rows]" '!found.fits'
  count=$(fits fitsverify found.fits | sed -n 's/^ *(. columns x \(.\) rows)$/\1/p' | sed -n "${rows%%]*}p")
  echo "CFITSIO, [$rows]: $count of 2 rows"
  [ "$count" -eq 1 ]
done

cat >read.cjs <<'END'
const { readFileSync } = require("node:fs");
const { parseFITS } = require("fits-reader-js");
const bytes = readFileSync("tables.fits");
let changed = false;
const file = parseFITS(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
for (const [table, name, right, wrong] of [
  [1, "VALUE", "1.5,2.5", "1.5,2.5"],
  [1, "TIME", "7,5000000000", "7,-705032704"],
  [1, "COUNTS", "7,40000", "-32761,7232"],
  [2, "SITE", "Tololo,Kitt Peak", "Tololo,Kitt"],
  [2, "HEIGHT", "2207,2096.5", "2207,NaN"],
]) {
  file.getDataFromHDU(table).getColumn(name, (column) => {
    const seen = Array.from(column).join();
    console.log(`${name}: ${seen}${seen === right ? "" : ` instead of ${right}`}`);
    if (seen !== wrong) changed = true;
  });
}
process.exit(changed ? 1 : 0);
END
node read.cjs
