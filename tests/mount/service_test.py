"""Data Cloud as a service: systemd's protocol and units, and mount(8) with fstab."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import BUILD, SOURCE, Cloud, wait_for  # noqa: E402
from harness import check, check_equal  # noqa: E402
from mount8 import in_own_sbin  # noqa: E402


class Manager:
    """The receiving end of sd_notify(3)."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))

    def wait(self, word, seconds=20):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                message = self.socket.recv(4096).decode()
            except TimeoutError:
                break
            if message.startswith(word):
                return message
        raise harness.CheckFailed(f"no {word} within {seconds} s")


def units_verify(cloud):
    """systemd-analyze finds no fault in the units, with the programs of this build."""
    place = cloud.root / "units"
    place.mkdir()
    for unit in [*(BUILD / "systemd").glob("*.service"), *(BUILD / "systemd").glob("*.timer")]:
        text = unit.read_text()
        for directory in ("/usr/local/bin", "/usr/bin", "/bin"):
            text = text.replace(f"={directory}/datacloud ", f"={BUILD}/bin/datacloud ")
        for program in ("datacloudd", "mount.datacloud"):
            for directory in ("/usr/local/sbin", "/usr/sbin", "/sbin"):
                text = text.replace(f"{directory}/{program} ", f"{BUILD}/bin/{program} ")
        (place / unit.name.replace("@", "@demo")).write_text(text)
    units = sorted(place.iterdir())
    check_equal(len(units), 5, "units found")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True,
                          text=True, timeout=60)
    check(done.returncode == 0 and "demo" not in done.stderr, "systemd-analyze verify",
          done.stdout + done.stderr)


def places_and_user_are_made(cloud):
    """systemd-tmpfiles and systemd-sysusers take our files and make what they say."""
    root = cloud.root / "machine"
    for directory in ("etc", "run", "var/lib", "var/log"):
        (root / directory).mkdir(parents=True)
    for program, name in (("systemd-sysusers", "sysusers"), ("systemd-tmpfiles", "tmpfiles")):
        command = [program, f"--root={root}", SOURCE / "systemd" / f"datacloud.{name}"]
        if program == "systemd-tmpfiles":
            (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n" +
                                             (root / "etc/passwd").read_text())
            command.insert(1, "--create")
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        check(done.returncode == 0, program, done.stderr)
    check("datacloud:" in (root / "etc/passwd").read_text(), "the user datacloud is made")
    modes = {name: oct((root / name / "datacloud").stat().st_mode & 0o777)
             for name in ("run", "var/lib", "var/log")}
    check_equal(modes, {"run": "0o755", "var/lib": "0o700", "var/log": "0o750"}, "and its places")


def daemon_speaks_to_systemd(cloud):
    manager = Manager(cloud.root / "notify")
    environment = {**os.environ, "NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "1000000"}
    with open(cloud.root / "daemon.log", "ab") as log:
        daemon = subprocess.Popen(
            [BUILD / "bin" / "datacloudd", "--config", cloud.config, "--foreground"],
            env=environment, stdout=log, stderr=log)
    try:
        ready = manager.wait("READY=1")
        check("5 of 5 sites" in ready, "READY=1 comes with what is served", ready)
        check_equal(cloud.run_tool("status").returncode, 0, "status right after READY=1")
        manager.wait("WATCHDOG=1", 3)
        manager.wait("WATCHDOG=1", 3)
        harness.note("ok: WATCHDOG=1 again and again")
        os.kill(daemon.pid, signal.SIGSTOP)
        time.sleep(0.7)
        manager.socket.setblocking(False)
        try:
            while manager.socket.recv(4096):
                pass
        except BlockingIOError:
            pass
        time.sleep(1.2)
        try:
            check(not manager.socket.recv(4096), "a daemon that hangs is silent")
        except BlockingIOError:
            harness.note("ok: a daemon that hangs is silent")
        os.kill(daemon.pid, signal.SIGCONT)
        daemon.terminate()
        manager.wait("STOPPING=1")
        check_equal(daemon.wait(30), 0, "SIGTERM after STOPPING=1: exit status")
    finally:
        if daemon.poll() is None:
            daemon.kill()
            daemon.wait()


def a_mount_waits_for_its_daemon(cloud):
    """As at boot; a user at a terminal is told after a moment."""
    point = cloud.root / "early"
    point.mkdir()
    starting = subprocess.Popen([BUILD / "bin" / "mount.datacloud", cloud.config, point],
                                stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        said = starting.stderr.readline()
        check("is datacloudd running?" in said and str(cloud.root) in said,
              "a mount without its daemon says what it waits for", said)
        cloud.start_daemon()
        check_equal(starting.wait(30), 0, "and is there once the daemon is")
        (point / "early").write_text("yes\n")
    finally:
        if starting.poll() is None:
            starting.kill()
        subprocess.run(["umount", point], check=False, capture_output=True)
    wait_for(lambda: not cloud.status()["mounts"], 30, "the mount to have said goodbye")


def mount8(cloud):
    done = in_own_sbin(cloud, """
      mount -t datacloud $conf $m -o ro,nodev,site=site1
      mounted; cat $m/file; ! touch $m/x 2>/dev/null
      umount $m; gone
      # umount(8) calls its helper only because of _netdev; much is to be written at the end.
      mount -t fuse.datacloud -o _netdev,flush_after_ms=3600000,close_flush_after_ms=3600000 $conf $m
      mounted; echo again > $m/file; head -c 30000000 /dev/urandom >$m/unwritten; umount $m
      for p in $(pgrep -x 'mount[.]datacloud|mount[.]fuse[.]data'); do
        ! tr '\\0' '\\n' </proc/$p/cmdline | grep -qxF $m || echo "process $p is left"
      done
    """)
    check(done.returncode == 0, "mount -t datacloud and mount -t fuse.datacloud", done.stderr)
    lines = done.stdout.splitlines()
    check(lines[0].startswith(f"fuse.datacloud {cloud.config} ro,nodev"),
          "/proc/mounts tells type, source and options", lines[0])
    check_equal(lines[1], "content", "contents")
    check_equal(lines[3:], [], "umount returns when the process has ended")


def fstab(cloud):
    (cloud.root / "fstab").write_text(
        f"{cloud.config} {cloud.root}/m8 datacloud defaults,_netdev,nofail,noatime,"
        "x-systemd.after=datacloudd@demo.service,cache_bytes_max=64MiB 0 0\n")
    done = in_own_sbin(cloud, """
      # mount -a, as at boot, twice: the second finds it mounted.
      mount --fstab $root/fstab -a
      mount --fstab $root/fstab -a
      mounted; grep -c " $m " /proc/self/mounts; cat $m/file
      umount $m; gone
      # by its mount point alone
      mount --fstab $root/fstab $m; cat $m/file; umount $m; gone
    """)
    check(done.returncode == 0, "fstab with _netdev, nofail and an option of ours", done.stderr)
    lines = done.stdout.splitlines()
    check_equal(lines[1:], ["1", "again", "again"], "mount -a twice mounts once")


def test(_options):
    with Cloud() as cloud:
        daemon_speaks_to_systemd(cloud)
        if shutil.which("systemd-analyze"):
            units_verify(cloud)
            places_and_user_are_made(cloud)
        a_mount_waits_for_its_daemon(cloud)
        mount = cloud.mount()
        (mount / "file").write_text("content\n")
        mount.unmount()
        mount8(cloud)
        fstab(cloud)
        wait_for(lambda: not cloud.status()["mounts"], 30, "all mounts to have said goodbye")


if __name__ == "__main__":
    harness.main(test, 180)
