#!/bin/bash
# nmea-simple 3.3.0 (npm): fixes of one second get one time, those without a date the date of reading.
#
# The time of an NMEA 0183 sentence is hhmmss with any number of decimals. nmea-simple takes the decimals of
# RMC, the sentence with position, speed and date, only when there are two; many receivers write one or
# three, and all fixes of a receiver of 5 or 10 Hz then have the same time. Of GGA and ZDA it reads them all.
# GGA has no date; it gets the date of today, so that an old track is new each time that it is read.
# A coordinate of whole minutes, whose point the format lets one leave out, is 0.
#
# Expected: the time in the sentence. Seen: a whole second.
# Exits with 0 while that is so. Needs node and npm; unpacks the npm packages into a temporary directory, and
# installs nothing.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts nmea-simple@3.3.0 gps@0.9.0 >/dev/null

cat >read.cjs <<'END'
const { readFileSync } = require("node:fs");
const { parseNmeaSentence } = require("nmea-simple");
const { GPS } = require("gps");
for (const name of ["nmea-simple", "gps"])
  console.log(name, JSON.parse(readFileSync(`node_modules/${name}/package.json`)).version);

function sentence(text) {
  const sum = [...text].reduce((all, letter) => all ^ letter.charCodeAt(0), 0);
  return `$${text}*${sum.toString(16).toUpperCase().padStart(2, "0")}`;
}
let changed = false;
const iso = (date) => date.toISOString();
for (const [decimals, right] of [["", true], [".40", true], [".4", false], [".400", false], [".4000", false]]) {
  const time = `120000${decimals}`;
  const rmc = sentence(`GPRMC,${time},A,4916.4500,N,01311.1200,E,0.5,54.7,190612,,,A`);
  const zda = sentence(`GPZDA,${time},19,06,2012,00,00`);
  const expected = decimals ? "2012-06-19T12:00:00.400Z" : "2012-06-19T12:00:00.000Z";
  const seen = iso(parseNmeaSentence(rmc).datetime);
  console.log(`RMC at ${time}: ${seen}${seen === expected ? "" : ` instead of ${expected}`}`);
  if (seen !== (right ? expected : "2012-06-19T12:00:00.000Z")) changed = true;
  // Its own ZDA, and another reader.
  if (iso(parseNmeaSentence(zda).datetime) !== expected || iso(GPS.Parse(rmc).time) !== expected) changed = true;
}

const gga = sentence("GPGGA,120000.400,4916,N,01311,E,1,08,1.0,12.0,M,,M,,");
const today = iso(new Date()).slice(0, 10);
const { time, latitude, longitude } = parseNmeaSentence(gga);
console.log(`GGA at 120000.400: ${iso(time)}`);
console.log(`49 degrees 16 minutes: ${latitude}; by gps ${GPS.Parse(gga).lat}`);
if (![today, iso(new Date()).slice(0, 10)].includes(iso(time).slice(0, 10))) changed = true;
if (latitude !== 0 || longitude !== 0 || Math.abs(GPS.Parse(gga).lat - (49 + 16 / 60)) > 1e-9) changed = true;
process.exit(changed ? 1 : 0);
END
node read.cjs
