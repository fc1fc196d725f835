#!/bin/bash
# tools/quickstart.sh --share with a small picture: share_test.sh BUILD
set -euo pipefail
build=$1
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/pictures"
convert -size 500x400 plasma:seagreen-navy -depth 8 "PNG24:$work/pictures/natural_earth.png"
DATACLOUD_BUILD=$build DATACLOUD_PICTURES=$work/pictures DATACLOUD_SHARE=$work/share \
  DATACLOUD_SHARE_NO_INSTALL=1 tools/quickstart.sh --share --keep
cmp "$work/share/sender/original.png" "$work/share/receiver/restored.png"
! cmp -s "$work/share/sender/original.png" "$work/share/receiver/marked.png"
[ ! -e "$work/share/receiver/wrong.png" ]
! grep -q IHDR "$work/share/public/parcel"  # nothing of the picture is in what is public
