#!/bin/bash
# How a picture is given away: marked visibly, encrypted, and restored by somebody who gets the file one
# way and two keys by two others. On one machine; no cloud is needed.
#
#   tools/quickstart.sh --share          shows everything and cleans up behind itself
#   tools/quickstart.sh --share --keep   leaves the files in /var/lib/datacloud/share
#
# For a fresh Debian 12, run as root; a second run replaces what the first one left.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${DATACLOUD_BUILD:-$PWD/build}
pictures=${DATACLOUD_PICTURES:-/var/cache/datacloud/pictures}
work=${DATACLOUD_SHARE:-/var/lib/datacloud/share}
keep=
case ${1:-} in
  "") ;;
  --keep) keep=yes ;;
  *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
if [ -t 1 ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); else bold='' plain=''; fi
say() { printf '%s\n' "$*" | fold -s -w 96; }
title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
die() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }
show() { say "$1: $2"; [ ! -t 1 ] || python3 -B tools/show_picture.py "$2"; }
watermark() { "$build/bin/datacloud" watermark "$@"; }
trap '[ -n "$keep" ] || rm -rf "$work"' EXIT

title "1. A picture, and the programs"
if [ -z "${DATACLOUD_SHARE_NO_INSTALL:-}" ]; then
  tools/install-deps.sh --demo "$pictures"
  mkdir -p "$build"
  [ -e "$build/CMakeCache.txt" ] || extra=-DDATACLOUD_TESTS=OFF
  cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release ${extra:-} >/dev/null
  ninja -C "$build" datacloud >/dev/null || die "the build failed"
fi
rm -rf "$work"
mkdir -p "$work"/{sender,receiver,public,courier,telephone}
chmod 700 "$work" "$work"/*
picture=$(find "$pictures" -type f -size +100k -path '*natural_earth*' -name '*.png' | sort | head -n 1)
[ -n "$picture" ] || picture=$(find "$pictures" -type f -size +100k -name '*.png' | sort | head -n 1)
[ -n "$picture" ] || die "there is no PNG in $pictures: tools/install-deps.sh --demo $pictures"
cp "$picture" "$work/sender/original.png"
python3 -B tools/show_picture.py --logo "$work/sender/logo.png"
show "The original" "$work/sender/original.png"

title "2. The sender marks it"
watermark apply "$work/sender/original.png" "$work/sender/marked.png" --mark "$work/sender/logo.png" \
  --tile --size 25 --key-out "$work/sender/watermark.key"
show "What may be seen" "$work/sender/marked.png"

title "3. The sender encrypts the marked file"
(umask 077 && openssl rand -hex 32 >"$work/sender/decryption.key")
openssl enc -aes-256-ctr -pbkdf2 -pass "file:$work/sender/decryption.key" \
  -in "$work/sender/marked.png" -out "$work/public/parcel"
say "$(stat -c %s "$work/public/parcel") bytes, which tell nothing without the decryption key."

title "4. One file and two keys, three ways"
mv "$work/sender/decryption.key" "$work/courier/"
cp -p "$work/sender/watermark.key" "$work/telephone/"
say "The parcel is public; the decryption key goes by courier, the watermark key by telephone. Who" \
  "gets only one of them sees noise, or the marked picture."

title "5. The receiver decrypts: the marked picture"
openssl enc -d -aes-256-ctr -pbkdf2 -pass "file:$work/courier/decryption.key" \
  -in "$work/public/parcel" -out "$work/receiver/marked.png"
watermark verify "$work/receiver/marked.png" --key "$work/telephone/watermark.key"

title "6. A wrong watermark key restores nothing"
watermark apply "$work/sender/original.png" "$work/sender/other.png" --mark "$work/sender/logo.png" \
  --key-out "$work/sender/other.key" >/dev/null
if watermark remove "$work/receiver/marked.png" "$work/receiver/wrong.png" --key "$work/sender/other.key"; then
  die "a wrong key was taken"
fi
[ ! -e "$work/receiver/wrong.png" ] || die "a wrong key made a picture"

title "7. The receiver restores the original"
watermark remove "$work/receiver/marked.png" "$work/receiver/restored.png" \
  --key "$work/telephone/watermark.key"
cmp "$work/sender/original.png" "$work/receiver/restored.png" ||
  say "(cmp: the bytes differ, as the command said; samples and metadata are equal.)"
show "Restored" "$work/receiver/restored.png"

title "What happened"
say "The picture could be shown with its mark, and nobody needed the original for that. Three things" \
  "travelled, each by itself worth little. With both keys the receiver has the original again," \
  "sample for sample; HMAC and SHA-256 prove it."
[ -z "$keep" ] || say "Everything is in $work."
