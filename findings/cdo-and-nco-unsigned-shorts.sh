#!/bin/bash
# CDO 2.1.1 and NCO 5.1.4: packed values that are unsigned by the attribute _Unsigned come out as other
# numbers; what is missing becomes a value in CDO. Both end with success.
#
# Classic netCDF has no unsigned integers; _Unsigned = "true" says that the bits of a byte, short or int are
# to be taken without a sign, before scale_factor and add_offset (Unidata's best practices for netCDF, packed
# values). Products of weather satellites (GOES-R) are so. netCDF4-python and GDAL follow it. NCO does not: its
# averages and `ncpdq -U` take the upper half of the range for negative, and after -U the attribute stays on
# the doubles. CDO follows it for bytes, and not for shorts; and with bytes the _FillValue is not found, as if
# its sign were kept: 255, stored as -1, is no longer missing, and counts.
#
# For an archive: means made with these tools of such files are wrong without a message; ncdump shows the
# stored numbers, so that a comparison with it does not tell.
#
# Expected: what netCDF4-python reads. Seen: other numbers for large shorts, and for missing bytes.
# Exits with 0 while that is so. Installs nothing: unpacks Debian's packages into a temporary directory.
set -euo pipefail
packages=(cdo=2.1.1-1+deb12u1 nco=5.1.4-1+deb12u1 netcdf-bin=1:4.9.0-3+b1 python3-netcdf4=1.6.2-1+b1)

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
run() {
  LD_LIBRARY_PATH=$libraries PYTHONHOME=$root/usr PYTHONPATH=$root/usr/lib/python3/dist-packages \
    "$root/usr/bin/$1" "${@:2}"
}
cd "$work"
for package in cdo nco python3-netcdf4; do
  dpkg-deb -f packages/${package}_*.deb Package Version | paste -sd' '
done

# In each variable: 1, 100, a number of the upper half, and a missing one; the bytes and shorts are stored alike
# but for their width. "plain" has no _Unsigned and only small numbers.
cat >packed.cdl <<'END'
netcdf packed {
dimensions:
  time = UNLIMITED ;
  lat = 2 ;
  lon = 2 ;
variables:
  double time(time) ;
    time:units = "days since 2000-01-01" ;
    time:calendar = "standard" ;
  float lat(lat) ;
    lat:units = "degrees_north" ;
  float lon(lon) ;
    lon:units = "degrees_east" ;
  byte bytes(time, lat, lon) ;
    bytes:_Unsigned = "true" ;
    bytes:_FillValue = -1b ;
    bytes:scale_factor = 0.5 ;
  short shorts(time, lat, lon) ;
    shorts:_Unsigned = "true" ;
    shorts:_FillValue = -1s ;
    shorts:scale_factor = 0.5 ;
  short plain(time, lat, lon) ;
    plain:_FillValue = -1s ;
    plain:scale_factor = 0.5 ;
data:
  time = 1 ;
  lat = 10, 20 ;
  lon = 0, 1 ;
  bytes = 1, 100, -56, _ ;
  shorts = 1, 100, -25536, _ ;
  plain = 1, 100, 4000, _ ;
}
END
run ncgen -k classic -o packed.nc packed.cdl

values() {  # VARIABLE, read by netCDF4-python
  run python3.11 -c "
import netCDF4
print(*('missing' if value is None else f'{value:g}'
        for value in netCDF4.Dataset('packed.nc')['$1'][:].ravel().tolist()))"
}
by_cdo() {
  run cdo -s outputf,%g -setmisstoc,-9999 -selname,"$1" packed.nc | sed 's/^ *//; s/^-9999$/missing/' | paste -sd' '
}
by_nco() {
  run ncpdq -O -U -v "$1" packed.nc unpacked.nc
  run ncdump -v "$1" unpacked.nc |
    awk -v name="$1" '/^data:/ { data = 1 } data && $1 == name { on = 1; next } on' |
    tr -d ' ;}\n' | sed 's/,/ /g; s/_/missing/'
}
mean_by_nco() {
  run ncwa -O -v "$1" packed.nc mean.nc
  run ncdump -v "$1" mean.nc | sed -n "s/^ $1 = \(.*\) ;/\1/p" | xargs printf '%g'
}

ok=yes
expect() {  # WHAT SEEN EXPECTED
  echo "$1: $2"
  [ "$2" = "$3" ] || ok=no
}
expect 'netCDF4-python, bytes ' "$(values bytes)" '0.5 50 100 missing'
expect 'CDO,            bytes ' "$(by_cdo bytes)" '0.5 50 100 127.5'
expect 'NCO,            bytes ' "$(by_nco bytes)" '0.5 50 -28 missing'
expect 'netCDF4-python, shorts' "$(values shorts)" '0.5 50 20000 missing'
expect 'CDO,            shorts' "$(by_cdo shorts)" '0.5 50 -12768 missing'
expect 'NCO,            shorts' "$(by_nco shorts)" '0.5 50 -12768 missing'
expect 'maximum of bytes by CDO' "$(run cdo -s outputf,%g -fldmax -selname,bytes packed.nc | tr -d ' ')" 127.5
for variable in bytes shorts plain; do
  cells=$(values $variable)
  echo "mean of $variable: $(run python3.11 -c "
values = [float(value) for value in '$cells'.split() if value != 'missing']
print(f'{sum(values) / len(values):g}')") by netCDF4-python's values"
done
expect 'mean of bytes by NCO  ' "$(mean_by_nco bytes)" 7.5
expect 'mean of shorts by NCO ' "$(mean_by_nco shorts)" -4239.17
expect 'netCDF4-python, plain ' "$(values plain)" '0.5 50 2000 missing'
expect 'CDO,            plain ' "$(by_cdo plain)" '0.5 50 2000 missing'
expect 'NCO,            plain ' "$(by_nco plain)" '0.5 50 2000 missing'
[ $ok = yes ]
