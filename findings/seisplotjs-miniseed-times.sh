#!/bin/bash
# seisplotjs 3.2.2 (npm): start times and sample rates of miniSEED 2 records come out as others.
#
# - A clock correction, in units of 0.1 ms, is to be added to the start when bit 1 of the activity flags is
#   clear (SEED 2.4, fixed header). It is read and never added: the trace is off by as much, here by 1.25 s.
# - Blockette 1001 has microseconds from -50 to 49; they are read as unsigned, and -20 is 236 when
#   records are converted to miniSEED 3.
# - Blockette 100 has the exact sample rate as a float. It is read as big-endian in little-endian records too,
#   where all else is read rightly: 100.5 Hz becomes 7.2e-41, and the record has no end that a date can tell.
#
# Expected: the times and rates that libmseed reads in the same records. Seen: others, without an error.
# Exits with 0 while that is so. Needs node, npm and python3; unpacks Debian's package and the npm package into
# a temporary directory, and installs nothing.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get -q -o APT::Sandbox::User=root download libmseed2=2.19.8-1 >/dev/null
dpkg -x libmseed2_*.deb root
npm install --silent --no-audit --no-fund --ignore-scripts seisplotjs@3.2.2 >/dev/null

# Records of 512 bytes with three samples as 32-bit integers, by hand, and what libmseed reads of them.
cat >records.py <<'END'
import ctypes, glob, json, struct


def record(order, flags=0, correction=0, rate=None, microseconds=None):
    kinds = [(1000, "BBBx", (3, order == ">", 9))]  # 32-bit integers, their order, 2^9 bytes
    kinds += [(1001, "BbxB", (100, microseconds, 0))] if microseconds is not None else []
    kinds += [(100, "fBxxx", (rate, 0))] if rate else []
    blockettes, at = b"", 48
    for i, (number, form, values) in enumerate(kinds):
        following = at + 4 + struct.calcsize("=" + form)
        blockettes += struct.pack(order + "HH" + form, number, following if i + 1 < len(kinds) else 0, *values)
        at = following
    header = struct.pack(order + "6scc5s2s3s2sHHBBBxHHhhBBBBiHH", b"000001", b"D", b" ", b"STA  ", b"  ", b"BHZ", b"XX",
                         2012, 100, 12, 0, 5, 0, 3, 100, 1, flags, 0, 0, len(kinds), correction, 128, 48)
    return (header + blockettes).ljust(128, b"\0") + struct.pack(order + "3i", 7, 8, 9).ljust(384, b"\0")


RECORDS = [
    ("plain", record(">")), ("plain, little-endian", record("<")),
    ("corrected already", record(">", 2, 12500)), ("to be corrected", record(">", 0, 12500)),
    ("microseconds", record(">", microseconds=20)), ("negative microseconds", record(">", microseconds=-20)),
    ("rate", record(">", rate=100.5)), ("rate, little-endian", record("<", rate=100.5))]
mseed = ctypes.CDLL(glob.glob("root/usr/lib/*/libmseed.so.2*")[0])
mseed.msr_starttime.restype = ctypes.c_int64
mseed.msr_samprate.restype = ctypes.c_double
told = []
for name, data in RECORDS:
    found = ctypes.c_void_p()
    assert mseed.msr_parse(data, len(data), ctypes.byref(found), len(data), ctypes.c_int8(1), ctypes.c_int8(0)) == 0
    told.append([name, mseed.msr_starttime(found), mseed.msr_samprate(found)])
with open("records.mseed", "wb") as out:
    out.writelines(data for _, data in RECORDS)
with open("libmseed.json", "w") as out:
    json.dump(told, out)
END
python3 records.py

cat >read.mjs <<'END'
import { readFileSync } from "node:fs";
// It is for pages; what it takes from them when it is loaded.
Object.assign(globalThis, { HTMLElement: class {}, HTMLDivElement: class {}, customElements: { define() {}, get() {} } });
const { miniseed, mseed3 } = await import("seisplotjs");
const bytes = readFileSync("records.mseed");
const records = miniseed.parseDataRecords(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
const faults = { "to be corrected": "-1250000 0", "negative microseconds": "256 0", "rate, little-endian": "0 -100.5" };
let changed = records.length !== 8;
JSON.parse(readFileSync("libmseed.json")).forEach(([name, start, rate], i) => {
  const { header } = records[i];
  const converted = mseed3.convertMS2Record(records[i]).header;
  const seen = Date.UTC(converted.year, 0, converted.dayOfYear, converted.hour, converted.minute, converted.second) * 1000
    + converted.nanosecond / 1000;
  const fault = `${seen - start} ${Number((header.sampleRate - rate).toFixed(6))}`;
  console.log(`${name}: ${header.startTime.toISO()}, rate ${header.sampleRate}, end ${header.endTime.toISO()}; libmseed `
    + `${new Date(start / 1000).toISOString()}, ${rate}${fault === "0 0" ? "" : `; off by ${fault.replace(" ", " us and ")} Hz`}`);
  if (fault !== (faults[name] ?? "0 0") || [...records[i].decompress()].join() !== "7,8,9") changed = true;
});
process.exit(changed ? 1 : 0);
END
node read.mjs
