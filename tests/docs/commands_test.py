"""Executes the commands that the documents show.

Blocks that begin with "```sh run" are run in order, by one shell that stops at the first failure;
blocks that begin with "```toml PATH" are written to that path. All of it happens in an overlay over
this machine's root, in name spaces of its own, where the programs of this build are installed: the
machine itself stays as it is. Needs root.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("DATACLOUD_BUILD", SOURCE / "build")).resolve()
DOCUMENTS = ["operations.md", "containers.md"]
BLOCKS_MIN = 15  # fewer: the documents' marks were not found

ROOM = r"""
set -eu
root=$1/root
mkdir -p $1/up $1/work $root
mount -t overlay overlay -o lowerdir=/,upperdir=$1/up,workdir=$1/work $root
mount --rbind /dev $root/dev
mount -t proc proc $root/proc
mount -t tmpfs tmpfs $root/run
mkdir -p $root$2 $root$1 $root/run/datacloud
mount --bind $2 $root$2
mount --bind $1 $root$1
ln -sf $2/bin/datacloud $root/usr/bin/datacloud
ln -sf $2/bin/datacloudd $root/usr/sbin/datacloudd
ln -sf $2/bin/mount.datacloud $root/sbin/mount.datacloud
exec chroot $root env -i HOME=/root LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  bash $1/script
"""


def blocks(text, name):
    for match in re.finditer(r"^```(sh run|toml (/\S+))\n(.*?)^```$", text, re.S | re.M):
        line = text[:match.start()].count("\n") + 1
        yield f"{name}:{line}", match[2], match[3]


def make_script(directory):
    script = ["set -eEo pipefail", "cd /root"]
    count = 0
    for document in DOCUMENTS:
        text = (SOURCE / "docs" / document).read_text()
        for where, path, body in blocks(text, document):
            count += 1
            script.append(f"where={shlex.quote(where)}; echo \"== $where\"")
            if path:
                copy = directory / f"file{count}"
                copy.write_text(body)
                script.append(f"mkdir -p {shlex.quote(os.path.dirname(path))}\n"
                              f"cp {copy} {shlex.quote(path)}")
            else:
                script.append(body)
    if count < BLOCKS_MIN:
        sys.exit(f"only {count} blocks are marked in {DOCUMENTS}")
    script.insert(1, "trap 'echo \"FAILED: the block at $where: $BASH_COMMAND\"' ERR")
    (directory / "script").write_text("\n".join(script) + "\n")
    return count


def main():
    base = os.environ.get("DATACLOUD_TEST_DIR", "/var/tmp")
    directory = Path(tempfile.mkdtemp(prefix="datacloud-docs-", dir=base))
    try:
        count = make_script(directory)
        done = subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c",
                               ROOM, "room", directory, BUILD], stdin=subprocess.DEVNULL,
                              timeout=240, check=False)
        print(f"{count} blocks, status {done.returncode}")
        sys.exit(1 if done.returncode else 0)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
