"""Executes marked blocks of a document in a copy of this machine that is thrown away.

The room is an overlay over this machine's root, in name spaces of its own, where the programs of
this build are installed: the machine itself stays as it is. One shell runs everything in order and
stops at the first failure, naming the block. Needs root.
"""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("DATACLOUD_BUILD", SOURCE / "build")).resolve()

ROOM = r"""
set -eu
root=$1/root
mkdir -p $1/up $1/work $1/tmp $root
if ! mount -t overlay overlay -o lowerdir=/,upperdir=$1/up,workdir=$1/work $root 2>/dev/null; then
  # Where this root is an overlay itself, as in a container, changes are kept in memory.
  mkdir $1/memory
  mount -t tmpfs tmpfs $1/memory
  mkdir $1/memory/up $1/memory/work
  mount -t overlay overlay -o lowerdir=/,upperdir=$1/memory/up,workdir=$1/memory/work $root
fi
mount --rbind /dev $root/dev
mount -t proc proc $root/proc
mount -t tmpfs tmpfs $root/run
mount -t sysfs sysfs $root/sys
mount -t cgroup2 cgroup2 $root/sys/fs/cgroup 2>/dev/null ||
  mount --rbind /sys/fs/cgroup $root/sys/fs/cgroup || true # only containers need it
mkdir -p $root$2 $root$1 $root/run/datacloud
mount --bind $2 $root$2
mount --bind $1 $root$1
ln -sf $2/bin/datacloud $root/usr/bin/datacloud
ln -sf $2/bin/datacloud-audit $root/usr/bin/datacloud-audit
ln -sf $2/bin/datacloudd $root/usr/sbin/datacloudd
ln -sf $2/bin/mount.datacloud $root/sbin/mount.datacloud
cd $root
pivot_root . . # a true root, of which engines of containers make copies
umount -l .
cd /
mount --make-rshared / # as any machine's root is
exec env -i HOME=/root LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  DATACLOUD_TEST_DIR=$1/tmp DATACLOUD_BUILD=$2 bash $1/script
"""


def blocks(document, *marks):
    """(where, mark, text) of the blocks that begin with "```MARK" and match one of `marks`."""
    text = (SOURCE / "docs" / document).read_text()
    for match in re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.S | re.M):
        if any(re.fullmatch(mark, match[1]) for mark in marks):
            line = text[:match.start()].count("\n") + 1
            yield f"{document}:{line}", match[1], match[2]


def chapter(document, title, *marks):
    """The blocks below the heading "## TITLE"."""
    lines = (SOURCE / "docs" / document).read_text().splitlines()
    first = lines.index(f"## {title}") + 1
    last = next((i for i, line in enumerate(lines[first:], first) if line.startswith("## ")),
                len(lines))
    for where, mark, text in blocks(document, *marks):
        if first < int(where.rpartition(":")[2]) <= last:
            yield where, mark, text


class Script:
    """What the shell in the room will do."""

    def __init__(self):
        self.lines = ["set -eEo pipefail",
                      "trap 'echo \"FAILED: the block at $where: $BASH_COMMAND\"' ERR", "cd /root"]

    def run(self, where, text):
        self.lines += [f"where={shlex.quote(where)}; echo \"== $where\"", text]

    def write(self, where, path, text):
        self.run(where, f"mkdir -p {shlex.quote(os.path.dirname(path))}\n"
                        f"printf %s {shlex.quote(text)} >{shlex.quote(path)}")

    def execute(self, seconds):
        """The shell's exit status."""
        base = os.environ.get("DATACLOUD_TEST_DIR", "/var/tmp")
        directory = Path(tempfile.mkdtemp(prefix="datacloud-docs-", dir=base))
        try:
            (directory / "script").write_text("\n".join(self.lines) + "\n")
            return subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash",
                                   "-c", ROOM, "room", directory, BUILD], stdin=subprocess.DEVNULL,
                                  timeout=seconds, check=False).returncode
        finally:
            shutil.rmtree(directory, ignore_errors=True)
