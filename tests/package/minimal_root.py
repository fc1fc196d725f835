"""A minimal root for the packages' test: Debian's essential packages and those that ours depend on,
with nothing else, assembled from what is installed on this machine.

It is what debootstrap and apt would make, without the network and in seconds: dpkg's own records
come along, so that dpkg judges dependencies there, and a library that a package of ours fails to
declare is missing there.

    minimal_root.py ROOT [--with INSTALLED_PACKAGE]... PACKAGE.deb...
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

DPKG = Path("/var/lib/dpkg")
MERGED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
STATE = ("etc/passwd", "etc/group", "etc/shadow", "etc/nsswitch.conf", "etc/debian_version",
         "etc/alternatives", "etc/pam.d/common-account", "etc/pam.d/common-auth",
         "etc/pam.d/common-password", "etc/pam.d/common-session",
         "etc/pam.d/common-session-noninteractive")


def fields(paragraph):
    return {name: value for name, value in re.findall(r"^([A-Za-z-]+): (.*(?:\n .*)*)", paragraph,
                                                       re.M)}


def installed():
    packages, providers = {}, {}
    for paragraph in (DPKG / "status").read_text().split("\n\n"):
        package = fields(paragraph)
        if not package.get("Status", "").endswith(" installed"):
            continue
        package["paragraph"] = paragraph.strip("\n")
        packages[package["Package"]] = package
        for provided in filter(None, re.split(r",\s*", package.get("Provides", ""))):
            providers.setdefault(provided.split()[0], []).append(package["Package"])
    return packages, providers


def names(depends):
    """For each dependency its alternatives, without versions."""
    for dependency in filter(None, re.split(r",\s*", depends)):
        yield [choice.split()[0].split(":")[0] for choice in dependency.split("|")]


def closure(packages, providers, debs, further):
    ours = {}
    for deb in debs:
        package = fields(subprocess.run(["dpkg-deb", "-f", deb], check=True, text=True,
                                        capture_output=True).stdout)
        ours[package["Package"]] = package
    todo = [name for name, package in packages.items() if package.get("Essential") == "yes"]
    wanted = set()
    missing = [name for name in further if name not in packages]
    if missing:
        sys.exit(f"not installed here: {' '.join(missing)}")
    todo += further

    def add(package):
        for kind in ("Pre-Depends", "Depends"):
            for choices in names(package.get(kind, "")):
                found = [c for c in choices if c in packages or c in ours] or [
                    provider for c in choices for provider in providers.get(c, [])]
                if not found:
                    sys.exit(f"{package['Package']} needs {' or '.join(choices)}, which is not "
                             "installed here")
                todo.append(found[0])

    for package in ours.values():
        add(package)
    while todo:
        name = todo.pop()
        if name in wanted or name in ours:
            continue
        wanted.add(name)
        add(packages[name])
    return wanted


def copy_files(root, packages, wanted):
    for name in MERGED:
        if (Path("/") / name).is_symlink():
            (root / "usr" / name).mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(f"usr/{name}")
    paths, info = set(STATE), set()
    for name in wanted:
        found = [f"{name}:{packages[name]['Architecture']}", name]
        for stem in found:
            for record in (DPKG / "info").glob(f"{stem}.*"):
                if record.name[len(stem) + 1:].count(".") == 0:
                    info.add(str(record)[1:])
            listing = DPKG / "info" / f"{stem}.list"
            if listing.exists():
                paths.update(line[1:] for line in listing.read_text().splitlines()
                             if len(line) > 1)
    # What update-alternatives has put beside them.
    for directory in ("usr/bin", "usr/sbin"):
        for link in (Path("/") / directory).iterdir():
            if link.is_symlink() and str(link.readlink()).startswith("/etc/alternatives/"):
                if str(link.resolve())[1:] in paths or str(link.resolve())[5:] in paths:
                    paths.add(str(link)[1:])
    present = sorted(path for path in paths | info if (Path("/") / path).exists() or
                     (Path("/") / path).is_symlink())
    give = subprocess.Popen(["tar", "-C", "/", "--no-recursion", "-cf", "-", "-T", "-"],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    take = subprocess.Popen(["tar", "-C", root, "--keep-directory-symlink", "-xpf", "-"],
                            stdin=give.stdout)
    give.stdin.write("\n".join(present).encode() + b"\n")
    give.stdin.close()
    if take.wait() != 0 or give.wait() != 0:
        sys.exit("could not copy")
    subprocess.run(["cp", "-a", "/etc/alternatives", root / "etc/"], check=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("debs", nargs="+")
    parser.add_argument("--with", dest="further", action="append", default=[])
    options = parser.parse_args()
    root = options.root
    packages, providers = installed()
    wanted = closure(packages, providers, options.debs, options.further)
    root.mkdir(parents=True, exist_ok=True)
    copy_files(root, packages, wanted)
    for directory in ("dev", "proc", "sys", "tmp", "run", "root", "srv", "mnt", "var/lib/dpkg/updates",
                      "var/lib/dpkg/info", "var/lib/dpkg/triggers", "var/log", "var/tmp"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    (root / "var/lib/dpkg/status").write_text(
        "".join(packages[name]["paragraph"] + "\n\n" for name in sorted(wanted)))
    (root / "var/lib/dpkg/available").touch()
    for rules in (root / "etc/dpkg/dpkg.cfg.d").glob("*"):
        rules.unlink()  # images of containers leave documentation out
    (root / "etc/fstab").write_text("")
    subprocess.run(["ldconfig", "-r", root], check=True)
    print(f"{len(wanted)} packages")


if __name__ == "__main__":
    main()
