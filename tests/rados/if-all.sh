#!/bin/bash
# Runs a command when $DATACLOUD_RADOS_ALL is set; else says so and counts as skipped.
if [ -z "${DATACLOUD_RADOS_ALL:-}" ]; then
  echo "only with DATACLOUD_RADOS_ALL=1"
  exit 77
fi
# These take their time limits from quick disks.
export DATACLOUD_SLOWNESS=${DATACLOUD_SLOWNESS:-2}
exec "$@"
