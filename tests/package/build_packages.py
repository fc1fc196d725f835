"""Builds the packages as "Install" of docs/operations.md says, line by line.

apt's line is left to systemd_test.py. The build directory is this build's: configuring happens in an
empty one, so that it is seen to work and this one's options stay as they are; and what is installed
without packages goes below an empty directory.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from doc_room import BUILD, SOURCE, chapter  # noqa: E402


PROGRAMS = ("usr/local/bin/datacloud", "usr/local/sbin/datacloudd", "sbin/mount.datacloud",
            "sbin/umount.fuse.datacloud")


def main():
    packages, other = (text for _, _, text in chapter("operations.md", "Install", "sh install"))
    lines = [line.split("#")[0].strip() for line in (packages + other).splitlines()]
    if len(lines) != 5 or not lines[3].startswith("apt install ./build/packages/"):
        sys.exit(f"operations.md installs by other lines than expected: {lines}")
    with tempfile.TemporaryDirectory() as empty:
        configured, installed = Path(empty) / "configured", Path(empty) / "installed"
        for line, directory in zip(lines, (None, configured, BUILD, None, BUILD)):
            if line == lines[3]:
                continue
            if directory and f"{line} ".count(" build ") != 1:
                sys.exit(f"no build directory in: {line}")
            line = f"{line} ".replace(" build ", f" {directory} ")
            print(line, flush=True)
            place = {"DESTDIR": str(installed)} if "--install" in line else {}
            subprocess.run(line, shell=True, check=True, cwd=SOURCE, env={**os.environ, **place})
        missing = [name for name in PROGRAMS if not os.access(installed / name, os.X_OK)]
        if missing:
            sys.exit(f"not installed: {missing}")


if __name__ == "__main__":
    main()
