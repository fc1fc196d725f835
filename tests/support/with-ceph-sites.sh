#!/bin/bash
# Runs a command with N fresh Ceph sites, and takes them down whatever happens:
#   with-ceph-sites.sh N [OPTIONS of ceph-sites.sh up] -- COMMAND...
# The command finds them at $DATACLOUD_CEPH_SITES; its exit status is passed on. When this shell is
# killed, a watcher that `up --owner` leaves behind does the cleaning.
set -u
here=$(dirname "$(readlink -f "$0")")
[ $# -ge 3 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
count=$1
shift
options=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  options+=("$1")
  shift
done
[ $# -ge 2 ] || { echo "with-ceph-sites.sh: no command after --" >&2; exit 2; }
shift

base=${DATACLOUD_TEST_DIR:-/var/tmp}
export DATACLOUD_CEPH_SITES=$base/dcsites-$$
command=
finish() {
  status=$?
  trap - EXIT INT TERM HUP
  [ -z "$command" ] || kill "$command" 2>/dev/null
  "$here/ceph-sites.sh" down --dir "$DATACLOUD_CEPH_SITES" >&2
  exit $status
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
"$here/ceph-sites.sh" up "$count" --dir "$DATACLOUD_CEPH_SITES" --owner $$ \
  ${options[@]+"${options[@]}"} >&2 || exit 1
# In the background, so that a signal to this shell is noticed at once.
"$@" <&0 &
command=$!
wait "$command"
status=$?
command=
exit $status
