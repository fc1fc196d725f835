"""Executes the commands that the documents show.

Blocks that begin with "```sh run" are run in order; blocks that begin with a kind of file and a
path are written there (doc_room.py says where); README.md's tour is made. Other marks belong to other
tests, and what no test executes is listed here. Every command line of ours in any document, executed
or not, must be one that the programs take: its command and options are looked up in --help.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from doc_room import BUILD, SOURCE, Script, blocks, chapter  # noqa: E402

BLOCKS_MIN = 15  # fewer: the documents' marks were not found
PACKAGES = ("tools", "fs")

# Marks of blocks that tests execute: this one, package.*, rados.operations.
MARKS = (r"sh (run|systemd|install|ceph|ceph restart|organisation)|(toml|ini|fstab|dockerfile) /\S+|"
         r"toml (ceph|daemon)|text")
# The first words of those that none does, with the reason; docs/testing.md tells it too.
NOT_EXECUTED = {
    "tools/quickstart.sh ": "downloads 240 MB; what tools/test.sh is",
    "cmake -S . -B build -G ": "README's tour, made below",
    "cmake -S . -B build-asan ": "what tools/test.sh does",
    "python3 tests/mount/": "arguments of tests",
    "tests/support/with-ceph-sites.sh ": "arguments of tests",
    "[cloud]": "an example of design.md",
    "A 6": "bytes, which a test compares",
    " compute node": "a drawing",
    "tools/install-deps.sh --test ": "what tools/test.sh does; the presets are configured below",
    "tools/dev.sh list ": "followed below",
    "datacloudd --config demo.toml --foreground --verbose": "as README's tour, in terminals",
    " tools/  datacloud, ": "a drawing",
}

# What the room needs for containers: storage outside of its own overlay, no limits and no network.
# The image debian:12 is made from this machine's packages, because there is no registry here.
CONTAINERS = """
cat >/etc/containers/containers.conf <<END
[containers]
cgroups = "disabled"
netns = "host"
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
END
driver=overlay
[ $(stat -f -c %T $DATACLOUD_TEST_DIR) != overlayfs ] || driver=vfs
cat >/etc/containers/storage.conf <<END
[storage]
driver = "$driver"
graphroot = "$DATACLOUD_TEST_DIR/containers"
runroot = "/run/containers/storage"
END
export BUILDAH_ISOLATION=chroot
mkdir -p /root/mount
"""
IMAGE = """
python3 -B {source}/tests/package/minimal_root.py $DATACLOUD_TEST_DIR/image --with apt {debs}
tar -C $DATACLOUD_TEST_DIR/image -c . | podman import --quiet - debian:12
cp {debs} /root/mount/
"""


def follow(script, document):
    """Adds a document's blocks to the script; how many they were."""
    count = 0
    for where, mark, text in blocks(document, "sh run", r"(toml|dockerfile) /\S+"):
        count += 1
        if mark == "sh run":
            script.run(where, text)
        else:
            script.write(where, mark.split()[1], text)
    return count


def make_script():
    script = Script()
    count = follow(script, "operations.md")
    limits(script)
    count += follow(script, "watermark.md")
    count += follow(script, "audit.md")
    found = [sorted((BUILD / "packages").glob(f"datacloud-{name}_*.deb")) for name in PACKAGES]
    if not all(found):
        sys.exit("the packages are not there: ninja cpack")
    debs = " ".join(str(debs[0]) for debs in found)
    script.run("between the documents", "umount /datacloud" + CONTAINERS +
               IMAGE.format(source=SOURCE, debs=debs))
    count += follow(script, "containers.md")
    if count < BLOCKS_MIN:
        sys.exit(f"only {count} blocks are marked")
    return script, count


def make_tour():
    """The tour of README.md, whose first line builds: here its programs are there."""
    ((_, _, text),) = chapter("../README.md", "A tour in ten lines", "")
    first, rest = text.split("\n", 1)
    build = "cmake -S . -B build -G Ninja -DDATACLOUD_TESTS=OFF && cmake --build build"
    if first != build + " && PATH=$PWD/build/bin:$PATH":
        sys.exit(f"README.md: the tour builds by other words: {first}")
    script = Script()
    script.run("README.md", f"PATH={BUILD}/bin:$PATH\n{rest}")
    script.run("README.md, the end", "umount /mnt/dc; kill %1; wait %1")
    return script


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


def unexecuted_blocks(name):
    for where, mark, text in blocks(name, ".*"):
        if not re.fullmatch(MARKS, mark) and not any(map(text.startswith, NOT_EXECUTED)):
            yield f"{where}: no test executes this block: ```{mark}"


def check_all_documents():
    problems = []
    for document in [SOURCE / "README.md", SOURCE / "CONTRIBUTING.md", *sorted((SOURCE / "docs").glob("*.md"))]:
        problems += wrong_commands(document.name, document.read_text())
        problems += unexecuted_blocks(os.path.relpath(document, SOURCE / "docs"))
    print("\n".join(problems))
    if problems:
        sys.exit(f"{len(problems)} commands are not taken by the programs, or not executed")


def dev(*words):
    done = subprocess.run([SOURCE / "tools/dev.sh", *words], capture_output=True, text=True, timeout=240,
                          env={**os.environ, "DATACLOUD_BUILD": str(BUILD)}, check=False)
    return done.returncode, done.stdout + done.stderr


def follow_contributing():
    """Each preset configures; each test that is named exists; dev.sh runs one, and tells what is wrong."""
    presets = json.loads((SOURCE / "CMakePresets.json").read_text())["configurePresets"]
    names = [preset["name"] for preset in presets if not preset.get("hidden")]
    text = (SOURCE / "CONTRIBUTING.md").read_text()
    for name in names:
        if f"`{name}`" not in text:
            sys.exit(f"CONTRIBUTING.md does not tell what the preset {name} is for")
        with tempfile.TemporaryDirectory() as directory:
            subprocess.run(["cmake", "--preset", name, "-B", directory], cwd=SOURCE, check=True,
                           stdout=subprocess.DEVNULL, timeout=120)
    for line in re.findall(r"^tools/dev.sh (?:test|list) .*$", text, re.M):
        status, said = dev("list", line.split()[2])
        if status or not said.strip():
            sys.exit(f"CONTRIBUTING.md: {line}: there is no such test")
    for words, expected, good in (
            (("test", "fold_planner_test", "--gtest_brief=1"), "PASSED", True),
            (("test", "source.layers"), "100% tests passed", True),
            (("test", "no_such_test"), 'no test is called or matches "no_such_test"', False),
            (("test", "a["), "is no name and no regular expression", False),
            (("test", "service_", "--seed", "1"), "arguments are for one test", False),
            (("tset",), "tools/dev.sh test NAME", False)):
        status, said = dev(*words)
        if (status == 0) != good or expected not in said:
            sys.exit(f"tools/dev.sh {' '.join(words)}: status {status}: {said}")


def limits(script):
    """Lines that are shown for [daemon] are taken there."""
    for where, _, text in blocks("operations.md", "toml daemon"):
        script.run(where, "sed '/^\\[daemon\\]/r /dev/stdin' /etc/datacloud/demo.toml "
                          f">/root/more.toml <<'END'\n{text}END\ngrep -q windows /root/more.toml\n"
                          "datacloud --config /root/more.toml key info")


def main():
    check_all_documents()
    follow_contributing()
    script, count = make_script()
    status = script.execute(200) or make_tour().execute(60)
    print(f"{count} blocks and a tour, status {status}")
    sys.exit(1 if status else 0)


if __name__ == "__main__":
    main()
