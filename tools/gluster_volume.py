"""A GlusterFS disperse volume of this machine alone, for bench_repair.py: its bricks are directories of
one disk, its daemons are ours and end with close(). Nothing outside of its own directory is kept,
besides what Debian's package has for logs.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

VOLUME = "dcbench"
VOLUME_ID = "trusted.glusterfs.volume-id"
RUN = Path("/run/gluster")
PR_SET_CHILD_SUBREAPER = 36


def gluster(*words, check=True, seconds=120):
    done = subprocess.run(["gluster", "--mode=script", *map(str, words)], capture_output=True,
                          text=True, timeout=seconds, check=False)
    if check and done.returncode != 0:
        sys.exit(f"bench: gluster {' '.join(map(str, words))}: {done.stdout}{done.stderr}")
    return done.stdout


def holds(path):
    """(files, bytes) below a brick, its own bookkeeping left out."""
    files = size = 0
    for directory, names, found in os.walk(path):
        names[:] = [n for n in names if n != ".glusterfs"]
        for name in found:
            files += 1
            size += os.stat(os.path.join(directory, name)).st_size
    return files, size


def loopback_bytes():
    """That have crossed 127.0.0.1, where bricks, clients and the healer meet."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[0])
    return 0


class GlusterVolume:
    def __init__(self, work, disperse=5, redundancy=2):
        self.dir, self.point = work / "gluster", work / "gluster-mnt"
        self.bricks = [self.dir / f"brick{i + 1}" for i in range(disperse)]
        self.redundancy = redundancy
        self.daemon = None
        for path in (self.dir, self.point, self.dir / "state", Path("/var/log/glusterfs"), RUN,
                     *self.bricks):
            path.mkdir(parents=True, exist_ok=True)

    def start(self):
        """Starts the daemon, makes the volume and mounts it."""
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", 24007)) == 0:
                sys.exit("bench: a glusterd serves on this machine already")
        # Bricks become children of ours, so that they can be waited for: to glusterd one that nobody
        # reaps still runs.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        settings = self.dir / "glusterd.vol"
        settings.write_text(f"""volume management
    type mgmt/glusterd
    option working-directory {self.dir}/state
    option transport-type socket
    option transport.socket.listen-port 24007
    option transport.socket.read-fail-log off
    option max-port 60999
end-volume
""")
        self.daemon = subprocess.Popen(
            ["glusterd", "-N", "-f", settings, "-p", self.dir / "glusterd.pid", "-l",
             self.dir / "glusterd.log"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        self.wait(lambda: self.ready(), 30, "glusterd to answer")
        places = [f"{socket.gethostname()}:{brick}" for brick in self.bricks]
        gluster("volume", "create", VOLUME, "disperse", len(places), "redundancy", self.redundancy,
                "transport", "tcp", *places, "force")
        gluster("volume", "start", VOLUME)
        self.wait(self.all_online, 60, "the bricks to be online")
        self.mount()

    def ready(self):
        done = subprocess.run(["gluster", "--mode=script", "volume", "list"], capture_output=True,
                              timeout=60, check=False)
        return done.returncode == 0

    @staticmethod
    def wait(condition, seconds, what):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                sys.exit(f"bench: waited {seconds} s for {what}")
            time.sleep(0.25)

    def mount(self):
        subprocess.run(["mount", "-t", "glusterfs", f"{socket.gethostname()}:/{VOLUME}",
                        self.point], check=True, timeout=60)

    def unmount(self):
        subprocess.run(["umount", self.point], check=True, timeout=60)

    def pid_file(self, brick):
        name = f"{socket.gethostname()}{str(brick).replace('/', '-')}.pid"
        return RUN / "vols" / VOLUME / name

    def all_online(self):
        """All bricks and the healer have a port or a process."""
        lines = gluster("volume", "status", VOLUME, check=False).splitlines()
        rows = [line.split() for line in lines if " Y " in line or " N " in line]
        return len(rows) > len(self.bricks) and all("N" not in row[-3:] for row in rows)

    def set(self, **options):
        for name, value in options.items():
            gluster("volume", "set", VOLUME, name.replace("__", ".").replace("_", "-"), value)

    def stop_bricks(self, *bricks):
        for brick in bricks:
            pid = int(self.pid_file(brick).read_text())
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def start_bricks(self):
        gluster("volume", "start", VOLUME, "force")
        self.wait(self.all_online, 60, "the bricks to be online")

    def wipe(self, brick):
        """A new disk, as it is put in by hand: an empty directory with the volume's id."""
        volume_id = os.getxattr(brick, VOLUME_ID)
        self.stop_bricks(brick)
        shutil.rmtree(brick)
        (brick / ".glusterfs").mkdir(parents=True)
        os.setxattr(brick, VOLUME_ID, volume_id)
        self.start_bricks()

    def heal(self, brick, wanted, seconds_max):
        """(seconds, shares of (files, bytes), bytes over loopback): from the order to heal until the brick
        holds as many files and bytes as it did. Directories may be marked for a while longer."""
        crossed = loopback_bytes()
        began = time.monotonic()
        gluster("volume", "heal", VOLUME, "full")
        while True:
            found = holds(brick)
            passed = time.monotonic() - began
            if found == wanted or passed > seconds_max:
                shares = found[0] / wanted[0], found[1] / wanted[1]
                return passed, shares, loopback_bytes() - crossed
            time.sleep(0.25)

    def settle(self):
        """Until nothing is marked any more, which takes further passes over the marks."""
        def none_left():
            gluster("volume", "heal", VOLUME, check=False)
            told = gluster("volume", "heal", VOLUME, "info", check=False, seconds=300)
            counts = [line.split(":")[1].strip() for line in told.splitlines()
                      if line.startswith("Number of entries")]
            return bool(counts) and all(count == "0" for count in counts)
        self.wait(none_left, 60, "the volume to be healed")

    def close(self):
        subprocess.run(["umount", "-l", self.point], check=False, capture_output=True)
        if self.daemon is None:
            return
        if self.daemon.poll() is None:
            gluster("volume", "stop", VOLUME, "force", check=False)
            gluster("volume", "delete", VOLUME, check=False)
            self.daemon.terminate()
            self.daemon.wait(30)
        for file in [*RUN.glob("*.pid"), *RUN.glob("*/*.pid"), *RUN.glob("vols/*/*.pid")]:
            self.end(file)

    def end(self, pid_file):
        """Ends a process of ours that a crash has left: its command line names the volume or us."""
        try:
            pid = int(pid_file.read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            if "gluster" in words and (VOLUME in words or "glustershd" in words):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        except (OSError, ValueError):
            pass
