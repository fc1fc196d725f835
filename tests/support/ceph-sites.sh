#!/bin/bash
# Real Ceph clusters for tests, one per site, with a wide-area network between them and this machine:
#   ceph-sites.sh up 5 --rtt 35ms --rate 200mbit        then: status, link, config-snippet, down, --help
# The work is in ceph_sites.py; this picks Debian's Python, for which python3-rados is installed.
exec /usr/bin/python3 -B "$(dirname "$(readlink -f "$0")")/ceph_sites.py" "$@"
