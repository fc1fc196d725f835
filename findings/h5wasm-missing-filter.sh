#!/bin/bash
# h5wasm 0.10.3: a dataset whose filter is missing is returned as numbers that are not in the file.
#
# HDF5's H5Dread fails when a chunk's filter cannot be found, for example for LZF, which h5py always has
# and h5wasm's library has not. h5wasm does not look at that result: HDF5's error stack goes to the
# console, and value, to_array() and slice() return an array of the right type and shape that was never
# filled. A program that only takes the values does not notice. What is compressed by gzip, in the same
# file, is right.
#
# Expected: an exception, as h5py raises one in the same case. Seen: other numbers, without an exception.
# Exits with 0 while that is so. Needs node and npm; unpacks Debian's packages and the npm package into a
# temporary directory, and installs nothing.
set -euo pipefail
packages=(python3-h5py-serial=3.7.0-8)

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
# Numeric libraries are alternatives that dpkg -x does not link.
for library in blas/libblas.so.3 lapack/liblapack.so.3; do
  target=$root/usr/lib/x86_64-linux-gnu/$library
  [ -e "$target" ] && ln -sf "$library" "$root/usr/lib/x86_64-linux-gnu/${library##*/}"
done
libraries=$(find "$root/usr/lib" "$root/lib" -name '*.so*' -printf '%h\n' 2>/dev/null |
  grep -v python3 | sort -u | paste -sd:)
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts h5wasm@0.10.3 >/dev/null

LD_LIBRARY_PATH=$libraries PYTHONHOME=$root/usr PYTHONPATH=$root/usr/lib/python3/dist-packages \
  "$root/usr/bin/python3.11" - <<'END'
import h5py, numpy

print("h5py", h5py.__version__, "HDF5", h5py.version.hdf5_version)
with h5py.File("data.h5", "w") as file:
    for name, first in (("gzip", 1000), ("lzf", 5000)):
        values = numpy.repeat(numpy.arange(first, first + 10, dtype="i4"), 100)
        file.create_dataset(name, data=values, chunks=(100,), compression=name)
with h5py.File("data.h5", "r") as file:
    print("h5py reads", list(file["lzf"][:3]), "...")
END
cat >read.mjs <<'END'
import h5wasm from "h5wasm/node";
await h5wasm.ready;
console.log("h5wasm 0.10.3, node", process.version);
const file = new h5wasm.File("data.h5", "r");
const range = (first) => JSON.stringify(Array.from({ length: 1000 }, (_, i) => first + Math.floor(i / 100)));
let changed = false;
const ways = {
  value: (dataset) => dataset.value,
  "to_array()": (dataset) => dataset.to_array(),
  "slice()": (dataset) => dataset.slice([[0, 1000]]),
};
for (const [name, first, other] of [["gzip", 1000, 5000], ["lzf", 5000, 1000]]) {
  for (const [way, read] of Object.entries(ways)) {
    let seen;
    try {
      const values = Array.from(read(file.get(name)));
      const json = JSON.stringify(values);
      seen = json === range(first) ? "right" : `${values.length} other numbers`;
      if (json === range(other)) seen += " (those of the dataset that was read before)";
    } catch (error) {
      seen = `exception: ${error.message}`;
    }
    console.log(`${name} by ${way}: ${seen}`);
    if (!seen.startsWith(name === "gzip" ? "right" : "1000 other numbers")) changed = true;
  }
}
process.exit(changed ? 1 : 0);
END
node read.mjs 2>errors
echo "on the console meanwhile: $(grep -c 'H5Dread' errors) times H5Dread, $(grep -o "required filter 'lzf' is not registered" errors | head -n 1)"
