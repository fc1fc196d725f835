"""overlayfs with its upper directory in the cloud: RENAME_WHITEOUT, and what a container engine does with it."""

import ctypes
import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import Cloud  # noqa: E402
from harness import check, check_equal, expect_errno  # noqa: E402

NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
libc = ctypes.CDLL(None, use_errno=True)


def rename2(old, new, flags):
    if libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def is_whiteout(path):
    now = os.lstat(path)
    return stat.S_ISCHR(now.st_mode) and now.st_rdev == 0 and stat.S_IMODE(now.st_mode) == 0


def whiteouts(cloud, one, two):
    for name in ("a", "sub"):
        (one / name).mkdir()
    (one / "a" / "f").write_bytes(b"contents")
    (one / "a" / "over").write_bytes(b"another")
    check_equal(sorted(os.listdir(two / "a")), ["f", "over"], "the other mount knows the directory")
    count = cloud.status()["inodes"]
    rename2(one / "a" / "f", one / "a" / "g", WHITEOUT)
    check(is_whiteout(one / "a" / "f"), "the old name is a whiteout")
    check((one / "a" / "g").read_bytes() == b"contents", "the new one is the file")
    check(is_whiteout(two / "a" / "f"), "and on the other mount")
    check_equal(sorted(os.listdir(two / "a")), ["f", "g", "over"], "which lists both")
    check_equal(cloud.status()["inodes"], count + 1, "one inode more")
    rename2(one / "a" / "g", one / "a" / "over", WHITEOUT)
    check((two / "a" / "over").read_bytes() == b"contents", "a file in the way is replaced")
    rename2(one / "sub", one / "a" / "moved", WHITEOUT | NOREPLACE)
    check(is_whiteout(two / "sub") and (two / "a" / "moved").is_dir(), "a directory leaves one, too")
    check_equal(os.stat(one).st_nlink, 3, "links are counted")
    expect_errno(errno.EEXIST, "NOREPLACE with a file in the way", rename2, one / "a" / "over",
                 one / "a" / "g", WHITEOUT | NOREPLACE)
    expect_errno(errno.EINVAL, "an exchange leaves none", rename2, one / "a" / "over",
                 one / "a" / "g", WHITEOUT | EXCHANGE)
    os.link(one / "a" / "over", one / "a" / "linked")
    rename2(one / "a" / "over", one / "a" / "linked", WHITEOUT)
    check_equal(os.stat(one / "a" / "over").st_nlink, 2, "two names of one file stay")
    number = os.lstat(one / "sub").st_ino
    cloud.kill_daemon()
    cloud.start_daemon()
    check_equal(os.lstat(two / "sub").st_ino, number, "after the daemon's end it has its number")
    os.unlink(two / "sub")
    os.mkdir(one / "sub")
    check((two / "sub").is_dir(), "it can be removed and its name be used")


# What programs do to an overlay; its results are compared.
SCRIPT = """
set -e
rm lower/removed
rm -r lower/dir
mkdir lower/dir && echo anew >lower/dir/anew
mv lower/file lower/renamed
mv lower/tree lower/grove
echo more >>lower/appended
chmod 640 lower/appended
ln lower/appended lower/hard
ln -s renamed lower/soft
setfattr -n user.note -v text lower/renamed
mkdir -p lower/new/deep && echo x >lower/new/deep/x
rm -r lower/new
mv lower/other lower/file
echo temporary >lower/t && rm lower/t
"""


def describe(root):
    seen = {}
    for at, directories, files in os.walk(root):
        for name in directories + files:
            path = Path(at, name)
            now = os.lstat(path)
            text = path.read_bytes() if stat.S_ISREG(now.st_mode) else b""
            links = now.st_nlink if stat.S_ISREG(now.st_mode) else 0
            seen[str(path.relative_to(root))] = (oct(now.st_mode), links, text)
    return seen


class Overlay:
    """Mounted below a directory of its own; the lower one is local."""

    def __init__(self, scratch, upper):
        self.point, self.lower, self.upper = scratch / "point", scratch / "lower", upper
        self.point.mkdir(parents=True)
        for name in ("dir", "tree/branch"):
            (self.lower / name).mkdir(parents=True)
        for name in ("removed", "dir/old", "file", "tree/leaf", "tree/branch/leaf", "appended", "other"):
            (self.lower / name).write_text(f"lower {name}\n")
        for name in ("upper", "work"):
            (upper / name).mkdir(parents=True)

    def mount(self):
        options = f"lowerdir={self.lower},upperdir={self.upper}/upper,workdir={self.upper}/work,redirect_dir=on,index=on"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, self.point], check=True)

    def unmount(self):
        subprocess.run(["umount", self.point], check=True)

    def run(self):
        script = SCRIPT.replace("lower/", f"{self.point}/")
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
        check(done.returncode == 0, "the script runs on the overlay", done.stderr)


def overlays(cloud, mount):
    scratch = cloud.root / "overlay"
    local = Overlay(scratch / "local", scratch / "local-upper")
    ours = Overlay(scratch / "ours", mount / "upper")
    try:
        for one in (local, ours):
            one.mount()
            one.run()
        expected = describe(local.point)
        check_equal(describe(ours.point), expected, "the overlay looks as one on a local disk")
        ours.unmount()
        mount.remount()
        ours.mount()
        check_equal(describe(ours.point), expected, "and after both were unmounted")
        check(is_whiteout(mount / "upper" / "upper" / "removed"), "what was removed is a whiteout")
    finally:
        for one in (local, ours):
            subprocess.run(["umount", "-l", one.point], capture_output=True, check=False)


def container_storage(cloud, mount):
    """Images and layers that podman keeps below the mount. Running a container needs more of a machine than
    tests may ask for; what one writes goes through the overlay that podman mounts for it."""
    root = cloud.root / "image"
    for name in ("d/deep", "etc"):
        (root / name).mkdir(parents=True)
    for name in ("old", "d/deep/f", "etc/kept"):
        (root / name).write_text(f"{name} of the image\n")
    subprocess.run(["tar", "-C", root, "-cf", cloud.root / "image.tar", "."], check=True)

    def podman(*words):
        done = subprocess.run(["podman", "--root", mount / "storage", "--runroot", cloud.root / "run",
                               "--storage-driver", "overlay", "--events-backend", "none", *words],
                              capture_output=True, text=True, timeout=120)
        check(done.returncode == 0, f"podman {words[0]}", done.stderr)
        return done.stdout.strip()

    (mount / "storage").mkdir()
    podman("import", str(cloud.root / "image.tar"), "localhost/first")
    podman("create", "--name", "one", "localhost/first", "/bin/true")
    layer = Path(podman("mount", "one"))
    (layer / "old").unlink()
    subprocess.run(["mv", layer / "d", layer / "e"], check=True)
    (layer / "e" / "made").write_text("made\n")
    with open(layer / "etc" / "kept", "a") as file:
        file.write("and more\n")
    podman("unmount", "one")
    podman("commit", "one", "localhost/second")
    podman("create", "--name", "two", "localhost/second", "/bin/true")
    layer = Path(podman("mount", "two"))
    check_equal(sorted(str(p.relative_to(layer)) for p in layer.rglob("*") if p.is_file()),
                ["e/deep/f", "e/made", "etc/kept"], "an image made of a container has its changes")
    check_equal((layer / "etc" / "kept").read_text(), "etc/kept of the image\nand more\n", "all of them")
    podman("unmount", "two")
    podman("rm", "one", "two")
    podman("rmi", "--all", "--force")


def test(options):
    with Cloud() as cloud:
        cloud.start_daemon()
        one, two = cloud.mount(name="one"), cloud.mount(name="two")
        whiteouts(cloud, one, two)
        overlays(cloud, one)
        container_storage(cloud, one)
        for mount in (one, two):
            mount.unmount()
        done = cloud.run_tool("fsck", "--json")
        check(done.returncode == 0, "fsck finds nothing", done.stdout)


if __name__ == "__main__":
    harness.main(test, 240)
