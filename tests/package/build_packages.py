"""Builds the packages as "Install" of docs/operations.md says, line by line; the last line, apt's,
is left to systemd_test.py. The build directory is this build's: configuring happens in an empty one,
so that it is seen to work and this one's options stay as they are."""

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from doc_room import BUILD, SOURCE, chapter  # noqa: E402


def main():
    ((_, _, text),) = chapter("operations.md", "Install", "sh install")
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    if len(lines) != 4 or not lines[3].startswith("apt install ./build/packages/"):
        sys.exit(f"operations.md installs by other lines than expected: {lines}")
    with tempfile.TemporaryDirectory() as empty:
        for line, directory in zip(lines, (None, empty, BUILD)):
            if directory and line.count(" build ") != 1:
                sys.exit(f"no build directory in: {line}")
            line = line.replace(" build ", f" {directory} ")
            print(line, flush=True)
            subprocess.run(line, shell=True, check=True, cwd=SOURCE)


if __name__ == "__main__":
    main()
