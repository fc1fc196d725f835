"""Mounts of one directory: of a node that is limited to it, and of anybody's choice."""

import errno
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import BUILD, Cloud, wait_for  # noqa: E402
from file_handles import handle_of, open_handle  # noqa: E402
from harness import check, check_equal, expect_errno  # noqa: E402
from joined_nodes import Node, free_port, listen_on, refused  # noqa: E402
from mount8 import in_own_sbin  # noqa: E402


def adding(cloud):
    for words, told in [(["--directory", "/none"], "none"),
                        (["--directory", "/"], "whole cloud"),
                        (["--directory", "/projects/one/note"], "not a directory"),
                        (["--directory", "/projects/one", "--role", "admin"], "the only role")]:
        refused(cloud.run_tool("node", "add", "gpu07", "--role", "mount", *words), told)
    done = cloud.run_tool("node", "add", "gpu07", "--role", "mount", "--directory", "/projects/one")
    check("/projects/one" in done.stderr and "not secrecy" in done.stderr,
          "node add says what the limit is", done.stderr)
    node = Node(cloud, None, "gpu07")
    check_equal(node.join(done.stdout.strip()).returncode, 0, "the limited node joins")
    return node


def work_inside(point, root, rng):
    """What programs do at and below the root of such a mount."""
    check_equal(os.stat(point).st_ino, root, "the root is the directory")
    check_equal(sorted(os.listdir(point)), ["note", "sub"], "and shows what is in it")
    check_equal((point / "note").read_text(), "inside", "files are read")
    data = rng.randbytes(300_000)
    (point / "draft").write_bytes(data)
    os.rename(point / "draft", point / "sub" / "final")
    os.rename(point / "sub" / "final", point / "final")  # to the root, by its number
    os.link(point / "final", point / "sub" / "link")
    os.mkdir(point / "sub" / "deep")
    os.rename(point / "sub" / "deep", point / "deep")
    os.rmdir(point / "deep")
    with open(point / "open", "w+b") as file:
        file.write(data)
        os.link(point / "open", point / "placed")
        os.unlink(point / "open")
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        check_equal(file.read() == data, True, "a file that was linked and unlinked stays usable")
    fd = os.open(point, os.O_RDONLY)
    os.fsync(fd)
    names = {name: entry for entry in os.scandir(fd) for name in [entry.name]}
    os.close(fd)
    check_equal(sorted(names), ["final", "note", "placed", "sub"], "the listing")
    check_equal(os.stat(point / "sub" / "..").st_ino, root, ".. of a directory in the root")
    check_equal(os.stat(point / "final").st_nlink, 2, "links are counted")
    check(os.statvfs(point).f_blocks > 0, "df has numbers")
    for name in ("final", "placed", "sub/link"):
        (point / name).unlink()


def with_others(cloud, local, point):
    """Another mount changes names: the limited one sees it, and loses what is moved out."""
    one = local / "projects" / "one"
    check((point / "note").exists(), "a name is known")
    (one / "new").write_text("new")
    check_equal((point / "new").read_text(), "new", "what another mount makes is there")
    (point / "mine").write_text("mine")
    check_equal((one / "mine").read_text(), "mine", "and the other way")
    with open(point / "mine") as kept:
        os.rename(one / "mine", local / "projects" / "mine")
        expect_errno(errno.ENOENT, "a file that was moved out is gone", (point / "mine").read_text)
        check((local / "projects" / "mine").read_text() == "mine", "it is where it was moved to")
        expect_errno(errno.ESTALE, "and its open file with it", os.fchmod, kept.fileno(), 0o600)
    os.rename(one / "sub", local / "projects" / "sub")
    expect_errno(errno.ENOENT, "so is a directory", os.listdir, point / "sub")
    os.rename(local / "projects" / "sub", one / "sub")
    check_equal(os.listdir(point / "sub"), [], "and comes back")
    os.rename(one, local / "moved")
    check_equal((point / "note").read_text(), "inside", "the limit follows its directory")
    listed = json.loads(cloud.tool("node", "show", "gpu07", "--json"))["nodes"][0]
    check_equal(listed["directory"], "/moved", "node show says where it is")
    os.rename(local / "moved", one)


def through_a_restart(cloud, node, point, rng):
    data = rng.randbytes(100_000)
    with open(point / "work", "w+b") as file:
        file.write(data)
        cloud.kill_daemon()
        time.sleep(0.5)
        cloud.start_daemon()
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        check(file.read() == 2 * data, "an open file is written on over the daemon's restart")
    row = [r for r in cloud.status()["mounts"] if r["node"] == "gpu07"][0]
    wait_for(lambda: next(r for r in cloud.status()["mounts"]
                          if r["node"] == "gpu07")["round_trip_us"], 20, "the round trip")
    check_equal((row["roles"], row["protocol"]), (["mount"], 3), "status tells role and protocol")
    text = node.tool("status")
    refused(text, "role")


def by_handles(cloud, local, point):
    """Handles name inodes of the whole cloud, whoever has made them."""
    one = local / "projects" / "one"
    (one / "sub" / "unmet").write_text("inside")
    inside = {name: handle_of(one / name) for name in (".", "sub", "sub/unmet")}
    outside = {name: handle_of(local / "projects" / name) for name in ("", "secret")}
    subprocess.run(["sync", local], check=True)
    cloud.kill_daemon()  # it does not know which files it has shown to the node
    cloud.start_daemon()
    for name in ("sub", "sub/unmet"):
        fd = open_handle(point, inside[name])
        check_equal(os.fstat(fd).st_ino, os.stat(one / name).st_ino, f"the handle of {name} opens")
        os.close(fd)
    for name, handle in {**outside, ".": inside["."]}.items():
        expect_errno(errno.ESTALE, f"that of {name!r} outside, or of the root by its number, does not",
                     open_handle, point, handle)
    os.unlink(one / "sub" / "unmet")
    expect_errno(errno.ESTALE, "nor that of a removed file", open_handle, point, inside["sub/unmet"])


def sub_directories(cloud, node, one):
    """CONFIG:/DIRECTORY and -o subdir= with mount(8), of the whole cloud and below a limit."""
    done = in_own_sbin(cloud, f"""
      for how in "$conf:/projects/one $m" "$conf $m -o subdir=/projects/one" \\
                 "{node.config}:/sub $m -o ro"; do
        mount -t datacloud $how
        stat -c %i $m
        mounted
        ls $m
        umount $m; gone
      done
      mount -t datacloud $conf:/projects/one $m
      mount -o remount,ro $m
      touch $m/x && exit 1
      mount -o remount,rw $m
      touch $m/from-sub; umount $m; gone
      ! mount -t datacloud $conf:/none $m
      ! mount -t datacloud $conf:/projects/one/note $m
      ! mount -t datacloud $conf:/projects/../projects $m
      ! mount -t datacloud {node.config}:/projects $m
      ! mount -t datacloud $conf:/a $m -o subdir=/b
      ! mount -t datacloud $conf $m -o subdir=b
    """)
    check_equal(done.returncode, 0, f"sub-directories are mounted {done.stderr}")
    lines = done.stdout.split("\n")
    check_equal(lines[0], str(one), "its root is the directory")
    check(f"{cloud.config}:/projects/one " in done.stdout, "the kernel's table shows the source")
    for told in ("cannot mount /none of the cloud", "\"note\" is not a directory", "without \"..\"",
                 "cannot mount /projects of the cloud", "the source names /a",
                 "from / on"):
        check(told in done.stderr, f"an error says {told}", done.stderr)


def test(options):
    rng = random.Random(options.seed)
    with Cloud() as cloud:
        listen_on(cloud, f"tls://127.0.0.1:{free_port()}")
        cloud.start_daemon()
        local = cloud.mount()
        one = local / "projects" / "one"
        os.makedirs(one / "sub")
        (one / "note").write_text("inside")
        (local / "projects" / "secret").write_text("outside")
        root = os.stat(one).st_ino
        node = adding(cloud)
        point = node.mount(root=root)
        work_inside(point, root, rng)
        with_others(cloud, local, point)
        through_a_restart(cloud, node, point, rng)
        by_handles(cloud, local, point)
        sub_directories(cloud, node, root)
        node.unmount()
        subprocess.run(["rm", "-r", one], check=True)
        refused(cloud.run_tool("node", "show", "nobody"), "no node")
        check("(removed)" in cloud.tool("node", "show", "gpu07"), "a removed directory is told")
        done = subprocess.run([BUILD / "bin" / "mount.datacloud", node.config, point, "-f"],
                              capture_output=True, text=True, timeout=60, check=False)
        check("was removed" in done.stderr, "mounting it says so", done.stderr)
        cloud.mounts[0].unmount()
        report = json.loads(cloud.run_tool("fsck", "-n", "--json").stdout)
        # Objects of puts that the killed daemon had granted ids for wait for the listing scrub.
        check_equal([f for f in report["findings"] if f["kind"] != "orphan"], [],
                    "fsck finds nothing wrong")


if __name__ == "__main__":
    harness.main(test, 120)
