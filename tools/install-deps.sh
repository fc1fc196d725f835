#!/bin/bash
# The one list of Debian packages this project uses. Installs what is missing (Debian 12, root).
#
#   tools/install-deps.sh             what building and running needs
#   tools/install-deps.sh --test      and what tools/test.sh needs
#   tools/install-deps.sh --bench     and what tools/bench*.sh need
#   tools/install-deps.sh --demo DIR  and real pictures, downloaded and unpacked below DIR
#                                     (only unpacked: nothing of them is installed)
#
# When everything is installed already, apt is not started at all.
set -euo pipefail

build=(
  build-essential cmake ninja-build ccache pkg-config rados-objclass-dev
  libfuse3-dev fuse3 libisal-dev libssl-dev libleveldb-dev libsnappy-dev libboost-dev
  libprotobuf-dev protobuf-compiler libzstd-dev libtomlplusplus-dev libcli11-dev
  libspdlog-dev libfmt-dev nlohmann-json3-dev python3 prometheus-cpp-dev
  librados-dev libradospp-dev
  libtiff-dev libpng-dev zlib1g-dev openssl
)
test=(
  libgtest-dev libgmock-dev libbenchmark-dev
  clang-14 lld-14 libclang-rt-14-dev clang-format-14 clang-tidy-14
  python3 fio sqlite3 git rsync attr acl e2fsprogs imagemagick psmisc
  groff-base systemd procps spin
  ceph-mon ceph-osd ceph-mgr ceph-common iproute2 podman
  # Public data formats: 70 packages with what they need, 50 MB to download.
  gdal-bin python3-gdal python3-netcdf4 python3-h5py python3-zarr libeccodes-tools
)
# promtool alone is taken out of its package, which would start a server: into /usr/local/bin.
promtool_package=prometheus
bench=(gocryptfs imagemagick python3 ceph-fuse ceph-mds
  glusterfs-server glusterfs-client ffmpeg strace)
# Photographs, and maps made from satellite images (NASA Blue Marble, MODIS, Natural Earth): 240 MB.
demo=(
  plasma-workspace-wallpapers mate-backgrounds gnome-backgrounds
  lomiri-wallpapers-16.04 lomiri-wallpapers-20.04
  xplanet-images openuniverse-common python-cartopy-data kgeography-data
)

usage() { sed -n '2,10s/^# \{0,1\}//p' "$0"; }
die() { printf 'install-deps: %s\n' "$*" >&2; exit 1; }

wanted=("${build[@]}")
demo_dir=
with_promtool=
while [ $# -gt 0 ]; do
  case $1 in
    --test) wanted+=("${test[@]}") with_promtool=yes ;;
    --bench) wanted+=("${bench[@]}") ;;
    --demo) demo_dir=${2:?--demo needs a directory}; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

apt() {
  DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600 \
    -o Acquire::Retries=3 -o APT::Sandbox::User=root -o Dpkg::Use-Pty=0 "$@"
}

need_debian() {
  command -v apt-get >/dev/null || die "apt-get is not here: this list is for Debian 12"
  [ "$(id -u)" = 0 ] || die "run as root; missing: $*"
}

# Updates the package lists once per run, and only when something is to be fetched.
updated=
update() {
  [ -z "$updated" ] || return 0
  echo "install-deps: updating the package lists"
  apt update >/dev/null || apt update || echo "install-deps: apt-get update failed; trying with the lists at hand" >&2
  updated=yes
}

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing=()
for package in "${wanted[@]}"; do
  installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  need_debian "${missing[@]}"
  update
  echo "install-deps: installing ${missing[*]}"
  log=$(mktemp)
  ok=
  for attempt in 1 2 3; do
    if apt install --no-install-recommends "${missing[@]}" >"$log" 2>&1; then ok=yes; break; fi
    echo "install-deps: attempt $attempt failed: $(grep -m1 -E '^E:' "$log" || tail -n1 "$log")" >&2
    sleep 5
  done
  if [ -z "$ok" ]; then
    tail -n 30 "$log" >&2
    die "could not install: ${missing[*]}"
  fi
  rm -f "$log"
fi

# Each package is unpacked into a directory of its own, and counts as there once that is complete.
unpack_demo() {
  local todo=() package
  mkdir -p "$demo_dir"
  for package in "${demo[@]}"; do
    [ -d "$demo_dir/$package" ] || todo+=("$package")
  done
  [ ${#todo[@]} -gt 0 ] || return 0
  need_debian "${todo[@]}"
  apt-cache show "${todo[@]}" >/dev/null 2>&1 || update
  echo "install-deps: downloading pictures: ${todo[*]}"
  local work
  work=$(mktemp -d "$demo_dir/.download-XXXXXX")
  (cd "$work" && { apt download "${todo[@]}" || { update; apt download "${todo[@]}"; }; }) >"$work/log" 2>&1 || {
    tail -n 20 "$work/log" >&2
    rm -rf "$work"
    die "could not download: ${todo[*]}"
  }
  for package in "${todo[@]}"; do
    dpkg-deb -x "$work/${package}"_*.deb "$work/$package"
    mv "$work/$package" "$demo_dir/$package"
  done
  rm -rf "$work"
}
[ -z "$demo_dir" ] || unpack_demo

unpack_promtool() {
  need_debian promtool
  echo "install-deps: downloading promtool"
  local work
  work=$(mktemp -d)
  (cd "$work" && { apt download $promtool_package || { update; apt download $promtool_package; }; }) >"$work/log" 2>&1 || {
    tail -n 20 "$work/log" >&2
    rm -rf "$work"
    die "could not download: $promtool_package"
  }
  dpkg-deb --fsys-tarfile "$work/$promtool_package"_*.deb | tar -x -C "$work" ./usr/bin/promtool
  install "$work/usr/bin/promtool" /usr/local/bin/
  rm -rf "$work"
}
[ -z "$with_promtool" ] || command -v promtool >/dev/null || unpack_promtool
