"""Executes the commands that the documents show.

Every command line of ours in any document, executed or not, must be one that the programs take: its
command and options are looked up in --help. And blocks that begin with "```sh run" are run in order, by one shell that stops at the first failure;
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


def help_of(*words):
    """(commands, options) that --help of a command names."""
    if words not in help_of.known:
        text = subprocess.run([BUILD / "bin" / words[0], *words[1:], "--help"], text=True,
                              capture_output=True, timeout=60, check=False).stdout
        below = text.partition("Subcommands:")[2].partition("Exit codes")[0]
        help_of.known[words] = (set(re.findall(r"^  ([a-z][\w-]*) ", below, re.M)),
                                set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", text)))
    return help_of.known[words]


help_of.known = {}


def wrong_commands(name, text):
    """Lines that begin with a program of ours and are not what it takes."""
    for block in re.findall(r"^```[^\n]*\n(.*?)^```", text, re.S | re.M):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            for part in re.split(r"[|;&]+", line.split("#")[0]):
                words = part.split()
                if not words or words[0] not in ("datacloud", "datacloudd", "datacloud-audit"):
                    continue
                path = [words[0]]
                general = help_of(words[0])[1]
                options = set(general)
                for word in words[1:]:
                    if word in help_of(*path)[0]:
                        path.append(word)
                        options |= help_of(*path)[1]
                    elif word.startswith("-") and word != "-" and word.split("=")[0] not in options:
                        yield f"{name}: {part.strip()}: there is no option {word}"
                if help_of(*path)[0] and "..." not in part and len(words) > 1 and (
                        "--version" not in words):
                    yield f"{name}: {part.strip()}: no command of {' '.join(path)}"


def check_all_documents():
    problems = []
    for document in [SOURCE / "README.md", *sorted((SOURCE / "docs").glob("*.md"))]:
        problems += wrong_commands(document.name, document.read_text())
    print("\n".join(problems))
    if problems:
        sys.exit(f"{len(problems)} commands are shown that the programs do not take")


def main():
    check_all_documents()
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
