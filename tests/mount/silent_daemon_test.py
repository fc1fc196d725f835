"""The daemon is stopped or gone while programs use the mount: each of them can be killed at once,
also when more wait than the mount has threads; df answers; waits end by rpc_deadline; and whatever
the killed ones were doing has happened or not, on every mount alike."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import Cloud, SLOWNESS, wait_for  # noqa: E402
from harness import check, check_equal, note  # noqa: E402

THREADS = 4
AT_ONCE_S = 5 * SLOWNESS  # "at once" on a loaded machine; without it, it is rpc_deadline

# A program: what it does before the daemon stops, and what it hangs in. Each has a directory of its
# own: the kernel lets one program at a time change a directory, and the others cannot be killed.
PROGRAMS = {
    "stat": ("", "os.stat('not-there')"),
    "open": ("", "os.open('cold', os.O_RDONLY)"),
    "create": ("", "os.open('created', os.O_CREAT | os.O_WRONLY)"),
    "mkdir": ("", "os.mkdir('made')"),
    "rename": ("", "os.rename('from', 'to')"),
    "unlink": ("", "os.unlink('victim')"),
    "link": ("", "os.link('linked', 'link')"),
    "chmod": ("", "os.chmod('mode', 0o600)"),
    "setxattr": ("", "os.setxattr('attributed', 'user.a', b'1')"),
    "truncate": ("", "os.truncate('long', 10)"),
    "readdir": ("", "os.listdir('many')"),
    "read": ("f = os.open('data', os.O_RDONLY)", "os.read(f, 100000)"),
    "write": ("f = os.open('written', os.O_WRONLY)", "os.write(f, b'new')"),
    "fsync": ("f = os.open('synced', os.O_WRONLY | os.O_CREAT); os.write(f, b'x' * 300000)",
              "os.fsync(f)"),
}
FILES = ["cold", "from", "victim", "linked", "mode", "attributed", "long", "data", "written"]


class Program:
    """A child that gets ready, and does something when it is told to."""

    def __init__(self, directory, before, call, handles_alarm=False):
        code = "import os, signal, sys\n" + before + "\n"
        if handles_alarm:
            code += "signal.signal(signal.SIGALRM, lambda *a: None)\n"
            code += "signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)\n"
        code += "print('ready', flush=True); sys.stdin.readline()\n"
        code += f"try:\n    {call}\n    print('done', flush=True)\n"
        code += "except OSError as error:\n    print(f'errno {error.errno}', flush=True)\n"
        self.process = subprocess.Popen([sys.executable, "-I", "-c", code], cwd=directory, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError(f"the program for {call} did not get ready")

    def go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self, number=signal.SIGKILL):
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(120)
        return time.monotonic() - began

    def result(self, seconds):
        out, _ = self.process.communicate(timeout=seconds)
        return out.strip()


def fill(directory):
    directory.mkdir()
    for name in list(PROGRAMS) + ["alarmed"]:
        own = directory / name
        own.mkdir()
        for file in FILES:
            (own / file).write_bytes(b"old" * 40000)
        (own / "many").mkdir()
        for i in range(20):
            (own / "many" / f"entry{i}").touch()
    subprocess.run(["sync", str(directory.parent)], check=True)


def start(directory, names):
    return {name: Program(directory / name, *PROGRAMS[name]) for name in names}


def away(cloud, how):
    if how == "stopped":
        cloud.daemon.send_signal(signal.SIGSTOP)
    else:
        cloud.kill_daemon()


def back(cloud, how):
    if how == "stopped":
        cloud.daemon.send_signal(signal.SIGCONT)
    else:
        cloud.start_daemon()


def tree(directory):
    """Names, kinds, modes, sizes and contents."""
    seen = {}
    for path, directories, files in os.walk(directory):
        for name in directories + files:
            full = Path(path) / name
            about = full.lstat()
            content = full.read_bytes() if name in files else b""
            seen[str(full.relative_to(directory))] = (
                oct(about.st_mode), about.st_nlink if name in files else 0, about.st_size,
                hash(content), tuple(os.listxattr(full)))
    return seen


def killed_at_once(cloud, mount, other, how):
    directory = mount / how
    fill(other / how)  # by another mount: here nothing is cached
    programs = start(directory, PROGRAMS)
    # A change: names of the directory may be known already.
    alarmed = Program(directory / "alarmed", "", "os.chmod('mode', 0o600)", handles_alarm=True)
    before = os.statvfs(mount)
    away(cloud, how)
    for program in programs.values():
        program.go()
    alarmed.go()
    time.sleep(1)
    hanging = [name for name, program in programs.items() if program.process.poll() is None]
    # Whatever needs the daemon: all but what the mount knows by itself.
    check(len(hanging) >= len(PROGRAMS) - 4, f"{how}: programs wait", hanging)
    check(len(hanging) > THREADS, f"{how}: more than the mount has threads")
    check(alarmed.process.poll() is None, f"{how}: a signal that is handled ends nothing")
    began = time.monotonic()
    df = subprocess.run(["df", "-k", mount.point], capture_output=True, text=True, timeout=60)
    took = time.monotonic() - began
    check(df.returncode == 0 and took < 4 + AT_ONCE_S, f"{how}: df answers", (df, took))
    check_equal(os.statvfs(mount).f_blocks, before.f_blocks, f"{how}: with the last numbers")
    for name in hanging:
        took = programs[name].kill(signal.SIGTERM if name == "stat" else signal.SIGKILL)
        check(took < AT_ONCE_S, f"{how}: {name} is killed at once", took)
    back(cloud, how)
    check_equal(alarmed.result(60), "done", f"{how}: who was left alone goes on")
    wait_for(lambda: tree(mount / how) == tree(other / how), 30, "both mounts to agree")
    seen = tree(mount / how)
    check(("rename/from" in seen) != ("rename/to" in seen), f"{how}: a rename has happened or not")
    check_equal(seen["write/written"][2], 120000, f"{how}: the file is whole")
    check_equal(seen["fsync/synced"][2], 300000, f"{how}: nothing is lost of what fsync was for")
    for name in PROGRAMS:  # and everything works again
        for file in FILES:
            path = directory / name / file
            path.write_bytes(b"again")
            if path.read_bytes() != b"again" or (other / how / name / file).read_bytes() != b"again":
                raise harness.CheckFailed(f"{how}: {path} is not what was written to it anew")
    note(f"ok: {how}: all is written and read anew")


def deadline_ends_waits(cloud):
    mount = cloud.mount("rpc_deadline_ms=3s", "threads=2")
    directory = mount / "deadline"
    fill(directory)
    mount.remount()
    names = ["stat", "create", "mkdir", "rename", "unlink", "readdir", "open", "chmod"]
    programs = start(directory, names)
    away(cloud, "stopped")
    began = time.monotonic()
    for program in programs.values():
        program.go()
    for name, program in programs.items():
        result = program.result(60)
        check(result == f"errno {errno.EIO}" or result == "done",
              f"{name} ends by the deadline", result)
    took = time.monotonic() - began
    check(took < 10 + AT_ONCE_S, f"four times as many as threads, {took:.1f} s")
    back(cloud, "stopped")

    # What the daemon has done after all is seen, here and elsewhere.
    other = cloud.mount(name="other")
    wait_for(lambda: tree(directory) == tree(other / "deadline"), 30, "both mounts to agree")
    mount.unmount()
    other.unmount()


def test(options):
    with Cloud() as cloud:
        cloud.start_daemon()
        mount = cloud.mount(f"threads={THREADS}")
        other = cloud.mount(name="other")
        for how in ("stopped", "gone"):
            killed_at_once(cloud, mount, other, how)
        mount.unmount()  # nothing is left open or counted
        other.unmount()
        deadline_ends_waits(cloud)


if __name__ == "__main__":
    harness.main(test, 240)
