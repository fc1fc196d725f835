"""How programs of the field read: what tools/bench_reads.py runs, each on files that
tests/support/read_inputs.py has made.

A workload is (name, what it is, command); "@" in the command stands for the directory. Commands are run
by Debian's own python3 and programs, without a shell.
"""

PYTHON = "/usr/bin/python3"


def _python(code):
    return [PYTHON, "-c", code]


def _h5(code):
    return _python(f"import h5py; f = h5py.File('@/stack.h5', 'r'); {code}")


def _netcdf(name, code):
    return _python(f"import netCDF4; f = netCDF4.Dataset('@/{name}'); {code}")


def _plain(code):
    return _python("import os, random; fd = os.open('@/plain.bin', os.O_RDONLY); M = 1 << 20; "
                   "random.seed(7); size = os.fstat(fd).st_size\n" + code)


_LOADER = """
import os, random
names = sorted(os.listdir('@/images')); random.seed(7); random.shuffle(names)
for name in names:
    {read}
"""

_THREADS = """
import threading
def read(first):
    for i in range(10 * M // 65536): os.pread(fd, 65536, first + i * 65536)
threads = [threading.Thread(target=read, args=(t * 40 * M,)) for t in range(4)]
for t in threads: t.start()
for t in threads: t.join()
"""

WORKLOADS = [
    ("cog-window", "GDAL: 300 x 300 pixels of a COG",
     ["gdal_translate", "-q", "-srcwin", "1700", "2100", "300", "300", "@/scene.tif", "/vsimem/o.tif"]),
    ("cog-overview", "GDAL: a COG at 6 %, from its overviews",
     ["gdal_translate", "-q", "-outsize", "6%", "6%", "@/scene.tif", "/vsimem/o.tif"]),
    ("geotiff-window", "GDAL: 300 x 300 pixels of a striped GeoTIFF",
     ["gdal_translate", "-q", "-srcwin", "1700", "2100", "300", "300", "@/strips.tif",
      "/vsimem/o.tif"]),
    ("jp2-window", "GDAL, OpenJPEG: 100 x 100 pixels of a JPEG2000",
     ["gdal_translate", "-q", "-srcwin", "1700", "2100", "100", "100", "@/scene.jp2",
      "/vsimem/o.tif"]),
    ("grib-inventory", "ecCodes: grib_ls of 240 messages", ["grib_ls", "@/forecast.grib2"]),
    ("grib-count", "ecCodes: grib_count", ["grib_count", "@/forecast.grib2"]),
    ("grib-gdal", "GDAL: gdalinfo of the same", ["gdalinfo", "-nomd", "@/forecast.grib2"]),
    ("hdf5-pixel", "h5py: a pixel through 64 chunks of 128 KiB", _h5("f['scene'][:, 500, 500]")),
    ("hdf5-pixel-wide", "h5py: a pixel through 16 chunks of 2 MiB", _h5("f['wide'][:, 500, 500]")),
    ("hdf5-slice", "h5py: a whole slice", _h5("f['scene'][7]")),
    ("netcdf-pixel", "netCDF-4: a pixel through 24 times",
     _netcdf("model.nc", "f['u10'][:, 300, 300]")),
    ("netcdf-window", "netCDF-4: one field", _netcdf("model.nc", "f['u10'][11]")),
    ("netcdf3-variable", "netCDF classic: one of four record variables",
     _netcdf("records.nc", "f['u10'][:]")),
    ("zarr-window", "Zarr: one slice of chunks as files",
     _python("import zarr; zarr.open('@/stack.zarr', mode='r')[3]")),
    ("sqlite-lookups", "sqlite: 300 rows by an index",
     _python("import sqlite3, random; random.seed(7); b = sqlite3.connect('file:@/samples.sqlite?"
             "mode=ro', uri=True)\nfor i in range(300): b.execute('select body from sample where "
             "station >= ? order by station limit 1', (random.randrange(1 << 30),)).fetchone()")),
    ("sqlite-scan", "sqlite: a whole table",
     _python("import sqlite3; sqlite3.connect('file:@/samples.sqlite?mode=ro', uri=True)"
             ".execute('select sum(length(body)) from sample').fetchone()")),
    ("video-probe", "ffprobe of an MP4 with its index at the end",
     ["ffprobe", "-v", "error", "-show_format", "@/clip.mp4"]),
    ("video-seek", "ffmpeg: one second from the middle",
     ["ffmpeg", "-v", "error", "-ss", "25", "-i", "@/clip.mp4", "-t", "1", "-f", "null", "-"]),
    ("video-play", "ffmpeg: the whole film",
     ["ffmpeg", "-v", "error", "-i", "@/clip.mp4", "-c", "copy", "-f", "null", "-"]),
    ("zip-member", "zipfile: one of 40 members",
     _python("import zipfile; zipfile.ZipFile('@/archive.zip').read('tile-23.bin')")),
    ("images-whole", "150 images in random order, a read each",
     _python(_LOADER.format(read="open('@/images/' + name, 'rb').read()"))),
    ("images-pieces", "150 images in random order, 8 KiB a read",
     _python(_LOADER.format(read="f = open('@/images/' + name, 'rb', 8192)\n"
                                 "    while f.read(8192): pass"))),
    ("images-headers", "the first 16 bytes of 150 images",
     _python(_LOADER.format(read="open('@/images/' + name, 'rb').read(16)"))),
    ("cat", "cat", ["cat", "@/plain.bin"]),
    ("cp", "cp", ["cp", "@/plain.bin", "/dev/shm/datacloud-copy"]),
    ("tar", "tar", ["tar", "-cf", "/dev/shm/datacloud-copy", "-C", "@", "plain.bin"]),
    ("dd-4k", "dd bs=4k, 64 MiB from the middle",
     ["dd", "if=@/plain.bin", "of=/dev/null", "bs=4k", "skip=16384", "count=16384"]),
    ("dd-4m", "dd bs=4M", ["dd", "if=@/plain.bin", "of=/dev/null", "bs=4M"]),
    ("head", "head -c 3M", ["head", "-c", "3M", "@/plain.bin"]),
    ("tail", "tail -c 3M", ["tail", "-c", "3M", "@/plain.bin"]),
    ("tac", "backward, 64 KiB a read",
     _plain("for i in range(1, 513): os.pread(fd, 65536, size - i * 65536)")),
    ("threads", "four threads, each 10 MiB of its own", _plain(_THREADS)),
    ("random", "200 reads of 4 KiB at random",
     _plain("for i in range(200): os.pread(fd, 4096, random.randrange(size - 4096))")),
    ("random-advised", "the same with POSIX_FADV_RANDOM",
     _plain("os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)\n"
            "for i in range(200): os.pread(fd, 4096, random.randrange(size - 4096))")),
    ("stride", "16 reads of 4 KiB, 4 MiB apart",
     _plain("for i in range(16): os.pread(fd, 4096, i * 4 * M)")),
    ("stride-near", "64 reads of 16 KiB, 300 KiB apart",
     _plain("for i in range(64): os.pread(fd, 16384, M + i * 307200)")),
    ("runs", "20 reads of 1 MiB at random, 4 KiB a call",
     _plain("for i in range(20):\n    o = random.randrange(size - M)\n"
            "    for j in range(256): os.pread(fd, 4096, o + j * 4096)")),
    ("mmap-random", "a memory map, 100 pages at random",
     # The second read finds the page: it is there for strace, which does not see page faults.
     _plain("import mmap\nm = mmap.mmap(fd, 0, prot=mmap.PROT_READ)\n"
            "for i in range(100): o = random.randrange(size); m[o]; os.pread(fd, 1, o)")),
    ("mmap-random-advised", "the same with MADV_RANDOM",
     _plain("import mmap\nm = mmap.mmap(fd, 0, prot=mmap.PROT_READ); m.madvise(mmap.MADV_RANDOM)\n"
            "for i in range(100): o = random.randrange(size); m[o]; os.pread(fd, 1, o)")),
]
