#!/bin/bash
# AIS: gpsd 3.22 loses the side to which a ship turns; ais-stream-decoder 2.1.2 (npm) gives a root for a square.
#
# Ships report their rate of turn as a signed byte, 4.733 times the square root of the degrees a minute, with
# the sign of the turn (ITU-R M.1371: negative is to port). To decode it is to divide, square, and keep the
# sign. gpsdecode squares and drops the sign, so that -20 degrees a minute is told as 20; for the rates
# without a number (+-127) it does tell left from right. ais-stream-decoder takes the root: 2.1 for
# 20, 3.2 for 99, and null for every turn to port, as if the ship had no indicator. Other fields are right.
#
# For an archive: keep the sentences themselves beside what was decoded from them; `gpsdecode -u` (which gives
# the byte) is right.
#
# Expected: -20 for -21. Seen: 20 (gpsd), null (ais-stream-decoder).
# Exits with 0 while that is so. Needs node and npm; unpacks Debian's packages and the npm package into a
# temporary directory, and installs nothing.
set -euo pipefail
# gpsdecode and what it is linked with, not the graphical clients that come in its package.
packages=(gpsd-clients=3.22-4.1+deb12u1 libbluetooth3 libusb-1.0-0 libudev1 libdbus-1-3 libsystemd0 libcap2
  libgcrypt20 libgpg-error0 liblzma5 libzstd1 liblz4-1)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/packages" "$work/root"
(cd "$work/packages" && apt-get -q -o APT::Sandbox::User=root download "${packages[@]}" >/dev/null)
for package in "$work"/packages/*.deb; do dpkg -x "$package" "$work/root"; done
libraries=$(find "$work/root/usr/lib" "$work/root/lib" -name '*.so*' -printf '%h\n' 2>/dev/null | sort -u | paste -sd:)
gpsdecode() { LD_LIBRARY_PATH=$libraries "$work/root/usr/bin/gpsdecode" "$@"; }
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts ais-stream-decoder@2.1.2 >/dev/null
gpsdecode -V

# Position reports (type 1) that differ in the rate of turn alone, by hand.
cat >write.mjs <<'END'
for (const rate of process.argv.slice(2)) {
  const fields = [[1, 6], [0, 2], [244660000, 30], [0, 4], [rate, 8], [100, 10], [1, 1], [4 * 600000, 28],
    [52 * 600000, 27], [900, 12], [90, 9], [30, 6], [0, 25]];
  const bits = fields.map(([value, size]) => BigInt.asUintN(size, BigInt(value)).toString(2).padStart(size, "0")).join("");
  const payload = bits.match(/.{6}/g).map((six) => parseInt(six, 2))
    .map((n) => String.fromCharCode(n + (n < 40 ? 48 : 56))).join("");
  const sentence = `AIVDM,1,1,,A,${payload},0`;
  const sum = [...sentence].reduce((all, letter) => all ^ letter.charCodeAt(0), 0);
  console.log(`!${sentence}*${sum.toString(16).toUpperCase().padStart(2, "0")}`);
}
END
rates="0 21 -21 47 -47 126 -126"
# shellcheck disable=SC2086
node write.mjs $rates >sentences
gpsdecode -u <sentences >raw
gpsdecode <sentences >scaled

cat >read.cjs <<'END'
const { readFileSync } = require("node:fs");
const AisDecoder = require("ais-stream-decoder").default;
const lines = (name) => readFileSync(name, "utf8").trim().split("\n");
const [sentences, raw, scaled] = ["sentences", "raw", "scaled"].map(lines);
const byNpm = [];
const decoder = new AisDecoder();
decoder.on("data", (message) => byNpm.push(JSON.parse(message)));
decoder.on("end", () => {
  let changed = byNpm.length !== 7 || raw.length !== 7 || scaled.length !== 7;
  process.argv.slice(2).map(Number).forEach((rate, i) => {
    const right = Math.sign(rate) * (rate / 4.733) ** 2;
    const { turn } = JSON.parse(scaled[i]);
    const { rateOfTurn, lat, lon, courseOverGround } = byNpm[i];
    console.log(`byte ${rate}, ${right.toFixed(1)} degrees a minute: gpsd ${turn}, ais-stream-decoder ${rateOfTurn}`);
    if (JSON.parse(raw[i]).turn !== rate || lat !== 52 || lon !== 4 || courseOverGround !== 90) changed = true;
    if (turn !== Math.round(Math.abs(right))) changed = true;
    if (rateOfTurn !== (rate < 0 ? null : Math.sqrt(rate / 4.733))) changed = true;
  });
  process.exit(changed ? 1 : 0);
});
for (const sentence of sentences) decoder.write(sentence);
decoder.end();
END
# shellcheck disable=SC2086
node read.cjs $rates
