"""A machine of its own, booted by the systemd of a root directory.

systemd is process 1 of name spaces (processes, mounts, control groups, network, host name) with a
/dev, /run and /proc of their own, as in a container: what happens in there stays there, and all of
it ends with the process that made it. Of the control groups it takes what it finds: a group of
cgroup2, or of a named hierarchy where the machine lets nobody make one. Needs root.
"""

import ctypes
import os
import pty
import signal
import subprocess
import threading
import time
from pathlib import Path

# In a mount name space of its own: joins a new control group, then becomes the machine.
ENTER = r"""
set -eu
root=$1 console=$2 group=$3
mkdir -p $root/dev $root/proc $root/sys $root/run $root/tmp $root/old
groups=$(dirname $root)/cgroup
mkdir -p $groups
enter() { # OPTIONS...: the hierarchy is mounted and this process in its new group
  mount -t "$@" cgroup $groups 2>/dev/null || return 1
  local own
  case $1 in
    cgroup2) own=$(sed -n 's/^0:://p' /proc/self/cgroup) ;;
    *) own=$(sed -n 's/^[0-9]*:name=systemd://p' /proc/self/cgroup) ;;
  esac
  [ -d $groups$own ] || own=/
  mkdir $groups$own/$group 2>/dev/null && echo $$ >$groups$own/$group/cgroup.procs && return 0
  umount $groups
  return 1
}
if enter cgroup2; then
  hierarchy=cgroup2
elif enter cgroup -o none,name=systemd,xattr; then
  hierarchy=systemd
else
  echo "no control group can be made here: neither cgroup2 nor name=systemd is writable" >&2
  exit 1
fi
exec unshare --pid --fork --kill-child --cgroup --ipc --uts --net bash -c "$4" \
  machine $root $console $hierarchy
"""

BOOT = r"""
set -eu
root=$1 console=$2 hierarchy=$3
mount --bind $root $root
mount -t tmpfs -o mode=755 tmpfs $root/dev
for node in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0" "fuse 10 229"; do
  set -- $node
  mknod -m 666 $root/dev/$1 c $2 $3
done
mkdir $root/dev/pts $root/dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts $root/dev/pts
ln -s pts/ptmx $root/dev/ptmx
ln -s /proc/self/fd $root/dev/fd
touch $root/dev/console
mount --bind $console $root/dev/console
mount -t tmpfs -o mode=755 tmpfs $root/run
mount -t tmpfs -o mode=1777 tmpfs $root/tmp
mount -t proc proc $root/proc
# Settings of the kernel are everybody's.
mount --bind $root/proc/sys $root/proc/sys
mount -o remount,bind,ro $root/proc/sys
mount -t sysfs sysfs $root/sys
if [ $hierarchy = cgroup2 ]; then
  mount -t cgroup2 cgroup2 $root/sys/fs/cgroup
else
  mount -t tmpfs -o mode=755 tmpfs $root/sys/fs/cgroup
  mkdir $root/sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd,xattr systemd $root/sys/fs/cgroup/systemd
fi
hostname datacloud-machine
cd $root
pivot_root . old
umount -l /old
mount --make-rshared / # as a kernel's first process does
exec env -i container=datacloud-test LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=multi-user.target <>/dev/console >&0 2>&0
"""

REMOVE_GROUPS = r"""
for options in "cgroup2" "cgroup -o none,name=systemd,xattr"; do
  mount -t $options cgroup $1 2>/dev/null || continue
  find $1 -type d -path "*/$2/*" -depth -exec rmdir {} + 2>/dev/null
  find $1 -type d -name $2 -exec rmdir {} + 2>/dev/null
  umount $1
done
"""


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Machine:
    """Boots `root`, which holds systemd; directories of the test share its parent."""

    def __init__(self, root):
        self.root = Path(root)
        self.group = f"datacloud-machine-{os.getpid()}"
        self.enter = None
        self.said = b""

    def boot(self, seconds=60):
        """Returns once everything of multi-user.target was started or has failed."""
        master, console = pty.openpty()
        # A terminal that nobody reads would stop the machine.
        threading.Thread(target=self._listen, args=(master,), daemon=True).start()
        self.enter = subprocess.Popen(
            ["unshare", "--mount", "bash", "-c", ENTER, "enter", self.root, os.ttyname(console),
             self.group, BOOT], stdin=subprocess.DEVNULL, stdout=console, stderr=console,
            preexec_fn=die_with_parent)
        os.close(console)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.enter.poll() is None:
            if self.first_process():
                done = self.run("systemctl is-system-running", check=False)
                if done.stdout.strip() in ("running", "degraded"):
                    return
            time.sleep(0.2)
        raise RuntimeError(f"the machine does not boot: {self.console()}")

    def _listen(self, master):
        try:
            while data := os.read(master, 65536):
                self.said = (self.said + data)[-65536:]
        except OSError:
            pass  # the machine is off
        os.close(master)

    def console(self):
        return self.said.decode(errors="replace")

    def first_process(self):
        """systemd's id here, once it has become what it will be."""
        if self.enter is None:
            return None
        try:
            children = Path(f"/proc/{self.enter.pid}/task/{self.enter.pid}/children").read_text()
            first = int(children.split()[0])
            return first if Path(f"/proc/{first}/comm").read_text() == "systemd\n" else None
        except (OSError, IndexError):
            return None

    def host_pids(self, name):
        """The ids here of the machine's processes of this name."""
        space = os.readlink(f"/proc/{self.first_process()}/ns/pid")
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if ((process / "comm").read_text() == name + "\n"
                        and os.readlink(process / "ns/pid") == space):
                    found.append(int(process.name))
            except OSError:
                continue  # it has ended
        return found

    def run(self, script, check=True, seconds=120):
        """Runs a shell script in the machine."""
        done = subprocess.run(
            ["nsenter", f"--target={self.first_process()}", "--mount", "--pid", "--ipc", "--uts",
             "--net", "--root", "--wd", "env", "-i", "HOME=/root", "LC_ALL=C.UTF-8", "TERM=dumb",
             "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_PAGER=", "bash", "-euo", "pipefail",
             "-c", script], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=seconds, check=False)
        if check and done.returncode != 0:
            raise RuntimeError(f"in the machine: {script}\nexit status {done.returncode}\n"
                               f"{done.stdout}{done.stderr}")
        return done

    def power_off(self, seconds=120):
        """An orderly shutdown, as of a real machine."""
        self.run("systemctl poweroff --no-wall", check=False)
        self.enter.wait(seconds)
        self._clear()

    def _clear(self):
        self.enter = None
        place = self.root.parent / "cgroup"
        subprocess.run(["unshare", "--mount", "bash", "-c", REMOVE_GROUPS, "remove", place,
                        self.group], check=False, stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.enter is not None:
            self.enter.kill()
            self.enter.wait()
            time.sleep(0.2)
            self._clear()
