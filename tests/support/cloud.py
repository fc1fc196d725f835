"""A whole cloud on this machine, for tests: its sites, the daemon, mounts, and mishaps.

Everything lives in one directory on a real disk (/var/tmp, or $DATACLOUD_TEST_DIR) that is named
after the owning process, so that whatever a killed test leaves behind (mounts, processes, files)
is found and removed by the next one, or by `cloud.py --clean`. Programs are the ones of the build
directory in $DATACLOUD_BUILD; daemon and mounts run in front, as children that die with us.
"""

import atexit
import ctypes
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import cloud_sites  # noqa: E402

BASE = Path(os.environ.get("DATACLOUD_TEST_DIR", "/var/tmp"))
PREFIX = "dctest-"
SOURCE = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("DATACLOUD_BUILD", SOURCE / "build"))
# Sanitized programs are slower by this factor; timeouts grow with it.
SLOWNESS = float(os.environ.get("DATACLOUD_SLOWNESS", "1"))

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_MNT_DETACH = 2


class CloudError(Exception):
    pass


def _die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _detach(path):
    """umount -l: works also when the file system process is gone."""
    return _libc.umount2(os.fsencode(str(path)), _MNT_DETACH) == 0


def mounts_below(directory):
    """Mount points at or below a directory, innermost first."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            point = line.split()[4].encode().decode("unicode_escape")
            if point == str(directory) or point.startswith(str(directory) + "/"):
                found.append(point)
    return sorted(found, key=len, reverse=True)


def is_mounted(path):
    return str(path) in mounts_below(path)


def fuse_abort(path):
    """Cuts the kernel's connection of a mount, so that programs stuck in it get an error."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            words = line.split()
            if words[4] == str(path):
                connection = Path("/sys/fs/fuse/connections") / words[2].split(":")[1] / "abort"
                try:
                    connection.write_text("1")
                except OSError:
                    pass


def wait_for(condition, seconds, what):
    """Polls until condition() is true and returns its value; CloudError after `seconds`."""
    end = time.monotonic() + seconds * SLOWNESS
    pause = 0.005
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise CloudError(f"waited {seconds * SLOWNESS:.0f} s for {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def drop_caches():
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        pass  # a container without the right: remounting still empties the mount's own caches


class Mount:
    """One mount.datacloud process in front and its mount point."""

    def __init__(self, cloud, point, log, options, process):
        self.cloud, self.point, self.log, self.options = cloud, Path(point), log, options
        self.process = process

    def __truediv__(self, name):
        return self.point / name

    def __fspath__(self):
        return str(self.point)

    def peak_memory(self):
        """Peak resident bytes of the mount process."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise CloudError("no VmHWM")

    def unmount(self, seconds=60):
        """umount(8), then waits for the process; its exit status must be 0."""
        # The kernel lets go of the files of a process that has just ended a little later.
        for _ in range(50):
            done = subprocess.run(["umount", str(self.point)], capture_output=True, text=True,
                                  timeout=seconds * SLOWNESS)
            if "busy" not in done.stderr:
                break
            time.sleep(0.2)
        if done.returncode != 0:
            raise CloudError(f"umount {self.point}: {done.stderr.strip()}")
        try:
            status = self.process.wait(seconds * SLOWNESS)
        except subprocess.TimeoutExpired:
            print(threads_of(self.process.pid), file=sys.stderr)
            raise CloudError(f"the mount process did not end {seconds} s after umount") from None
        if status != 0:
            raise CloudError(f"the mount process ended with status {status} after umount")

    def kill(self):
        """kill -9, and takes the dead mount away as fusermount3 -uz does."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        _detach(self.point)

    def remount(self):
        """Unmounts, drops the kernel's caches and mounts again: nothing is cached afterwards."""
        self.unmount()
        drop_caches()
        self.process = self.cloud.start_mount_process(self.point, self.log, self.options)


class Cloud:
    """Five (or `sites`) sites and one daemon; mounts are made by mount(). `stores` as
    cloud_sites.make_sites; by default RADOS where $DATACLOUD_CEPH_SITES is set, else directories.
    `features` as for datacloud create: by default all."""

    def __init__(self, sites=5, code="rs-3-2", cloud=None, daemon=None, mount=None, create=True,
                 stores=None, features=None):
        clean_stale()
        self.root = BASE / f"{PREFIX}{os.getpid()}-{random.SystemRandom().randrange(1 << 32):08x}"
        self.root.mkdir(mode=0o755)
        self.names = [f"site{i + 1}" for i in range(sites)]
        self.mounts = []
        self.daemon = None
        self.sites = {}
        self._closed = False
        atexit.register(self.close)
        self.sites = dict(zip(self.names, cloud_sites.make_sites(
            self.names, self.root, stores or cloud_sites.default_stores())))
        self.config = self.root / "cloud.toml"
        self.socket = self.root / "daemon.sock"
        self.write_config(code, cloud or {}, daemon or {}, mount or {})
        if create:
            self.tool("create", *(["--features", features] if features else []))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            self.print_logs()
        self.close()

    # --- files ----------------------------------------------------------------------------

    def write_config(self, code="rs-3-2", cloud=None, daemon=None, mount=None):
        def section(name, settings):
            lines = [f"[{name}]"]
            for key, value in settings.items():
                text = str(value).lower() if isinstance(value, bool) else (
                    str(value) if isinstance(value, int) else json.dumps(str(value)))
                lines.append(f"{key} = {text}")
            return "\n".join(lines)

        parts = [
            section("cloud", {"name": "test", "code": code, **(cloud or {})}),
            section("daemon", {"state": self.root / "state", "listen": f"unix:{self.socket}",
                               **(daemon or {})}),
            section("keys", {"data": self.root / "data.key", "service": self.root / "service.key"}),
        ]
        if mount:
            parts.append(section("mount", mount))
        for name in self.names:
            parts.append(section("[site]", {"name": name, **self.sites[name].settings()}))
        self.config.write_text("\n\n".join(parts) + "\n")

    def site(self, name):
        """The path of a directory site."""
        return self.root / "sites" / name

    # --- programs -------------------------------------------------------------------------

    def run_tool(self, *arguments, seconds=60):
        """datacloud --config F ARGUMENTS; the finished process, whatever its status."""
        return subprocess.run(
            [BUILD / "bin" / "datacloud", "--config", self.config, *map(str, arguments)],
            capture_output=True, text=True, timeout=seconds * SLOWNESS, check=False)

    def tool(self, *arguments, seconds=60):
        done = self.run_tool(*arguments, seconds=seconds)
        if done.returncode != 0:
            raise CloudError(f"datacloud {' '.join(map(str, arguments))}: status "
                             f"{done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def status(self):
        return json.loads(self.tool("status", "--json"))

    def locate(self, path):
        return json.loads(self.tool("locate", "--json", path))

    def shards(self, path):
        """All shards of a file's stripes, as `locate` tells, each with its stripe's id."""
        found = []
        for stripe in self.locate(path)["stripes"]:
            for shard in stripe["shards"]:
                found.append({**shard, "stripe": stripe["id"]})
        return found

    def collect(self, seconds=120):
        """datacloud gc --wait."""
        return self.tool("gc", "--wait", seconds=seconds)

    def start_daemon(self, seconds=20):
        log = open(self.root / "daemon.log", "ab")
        self.daemon = subprocess.Popen(
            [BUILD / "bin" / "datacloudd", "--config", self.config, "--foreground"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent)
        self._note_process(self.daemon.pid)
        log.close()

        def serves():
            if self.daemon.poll() is not None:
                raise CloudError(f"datacloudd ended with status {self.daemon.returncode}: "
                                 + tail(self.root / "daemon.log", 3))
            return self.run_tool("status", "--json").returncode == 0

        wait_for(serves, seconds, "the daemon to serve")
        return self

    def stop_daemon(self, seconds=30):
        self.daemon.terminate()
        try:
            status = self.daemon.wait(seconds * SLOWNESS)
        except subprocess.TimeoutExpired:
            raise CloudError(f"the daemon did not end {seconds} s after SIGTERM") from None
        if status not in (0, -signal.SIGTERM):
            raise CloudError(f"the daemon ended with status {status}")

    def kill_daemon(self):
        self.daemon.kill()
        self.daemon.wait()

    def start_mount_process(self, point, log_path, options=()):
        command = [BUILD / "bin" / "mount.datacloud", self.config, point, "-f"]
        for option in options:
            command += ["-o", option]
        with open(log_path, "ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       preexec_fn=_die_with_parent)
        self._note_process(process.pid)

        def mounted():
            if process.poll() is not None:
                raise CloudError(f"mount.datacloud ended with status {process.returncode}: "
                                 + tail(log_path, 3))
            part = any(option.startswith("subdir=") for option in options)
            return is_mounted(point) and os.path.isdir(point) and (part or os.stat(point).st_ino == 1)

        wait_for(mounted, 20, f"the mount of {point}")
        return process

    def mount(self, *options, name="mnt"):
        """Mounts at ROOT/name. Options: "name=value" as after -o."""
        point = self.root / name
        point.mkdir(exist_ok=True)
        log = self.root / f"{name}.log"
        mount = Mount(self, point, log, options, self.start_mount_process(point, log, options))
        self.mounts = [m for m in self.mounts if m.point != point] + [mount]
        return mount

    def _note_process(self, pid):
        with open(self.root / "processes", "a") as note:
            note.write(f"{pid} {process_start(pid)}\n")

    # --- mishaps --------------------------------------------------------------------------

    def take_away(self, *sites):
        """Sites leave: moved elsewhere, or their link is cut."""
        for site in sites:
            self.sites[site].take_away()

    def empty_in_place(self, *sites):
        """What is at their place is not the site: an empty directory, a pool without marker."""
        for site in sites:
            self.sites[site].empty_in_place()

    def put_back(self, *sites):
        """Undoes take_away and empty_in_place. A site filled meanwhile is an error."""
        for site in sites:
            self.sites[site].put_back()

    def put_back_and_wait(self, *sites):
        """put_back, then until daemon and mounts have noticed: each looks once a second."""
        self.put_back(*sites)
        wait_for(lambda: all(s["up"] for s in self.status()["sites"]), 15, "the sites to be back")
        time.sleep(1.5 * SLOWNESS)

    def object_locations(self, *sites):
        """{(site, location as `locate` tells it)} of all objects at the sites (by default all)."""
        return {(name, location) for name in sites or self.names
                for location in self.sites[name].locations()}

    def wait_until_empty(self, seconds=60):
        """Collects until nothing is at the sites: a file is let go a moment after its last close."""
        def empty():
            self.collect()
            return not self.object_locations()
        wait_for(empty, seconds, "nothing to be left at the sites after gc")

    # --- end ------------------------------------------------------------------------------

    def print_logs(self, lines=40):
        out = sys.stderr
        for log in sorted(self.root.glob("*.log")):
            print(f"--- last lines of {log.name}", file=out)
            print(tail(log, lines), file=out)
        try:
            print("--- status\n" + self.run_tool("status", seconds=5).stdout, file=out)
        except (subprocess.TimeoutExpired, OSError):
            pass

    def close(self):
        if self._closed:
            return
        self._closed = True
        for mount in self.mounts:
            fuse_abort(mount.point)
            mount.kill()
        if self.daemon is not None and self.daemon.poll() is None:
            self.kill_daemon()
        for site in self.sites.values():
            try:
                site.remove()
            except (cloud_sites.SiteError, subprocess.TimeoutExpired) as error:
                print(f"warning: {error}", file=sys.stderr)  # gone with the clusters
        remove_tree(self.root)


def tail(path, lines):
    try:
        with open(path, "rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - 64 * 1024))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
    except OSError as error:
        return f"({error})"


def threads_of(pid):
    """Where each thread of a process stands, when there is a debugger to ask."""
    if not shutil.which("gdb"):
        return "no gdb to show where its threads stand"
    return subprocess.run(["gdb", "-p", str(pid), "-batch", "-ex", "thread apply all bt 12"],
                          capture_output=True, text=True, timeout=60, check=False).stdout


def process_start(pid):
    """When a process began, in clock ticks; tells it from a later one with the same id."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except OSError:
        return ""


def remove_tree(root):
    for point in mounts_below(root):
        fuse_abort(point)
        _detach(point)
    shutil.rmtree(root, ignore_errors=True)


def clean_stale():
    """Removes what test processes that no longer live have left: processes, mounts, files."""
    for root in BASE.glob(PREFIX + "*"):
        owner = root.name[len(PREFIX):].split("-")[0]
        if not owner.isdigit() or Path("/proc", owner).exists():
            continue
        try:
            noted = (root / "processes").read_text().split("\n")
        except OSError:
            noted = []
        for line in filter(None, noted):
            pid, _, start = line.partition(" ")
            if start and process_start(pid) == start:
                os.kill(int(pid), signal.SIGKILL)
        remove_tree(root)


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_tree(root):
    """{relative path: SHA-256} of all regular files below root."""
    root = str(root)
    found = {}
    for directory, _, files in os.walk(root, onerror=_raise):
        for name in files:
            path = os.path.join(directory, name)
            if os.path.isfile(path) and not os.path.islink(path):
                found[os.path.relpath(path, root)] = sha256_of(path)
    return found


def _raise(error):
    raise error


if __name__ == "__main__":
    if sys.argv[1:] != ["--clean"]:
        sys.exit("usage: cloud.py --clean   (removes what dead tests left behind)")
    clean_stale()
