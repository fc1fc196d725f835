"""A program that locks files when told to, for tests of locks: commands on standard input, one JSON
list a line; one answer a line, the errno or what was asked for. `Actor` is the caller's end."""

import errno
import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys

F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38
FLOCK = struct.Struct("hhqqi4x")
TYPES = {"r": fcntl.F_RDLCK, "w": fcntl.F_WRLCK, "u": fcntl.F_UNLCK}


def record(kind, start=0, length=0):
    return FLOCK.pack(TYPES[kind], os.SEEK_SET, start, length, 0)


class Commands:
    def __init__(self):
        self.files = {}

    def open(self, name, path):
        self.files[name] = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def close(self, name):
        os.close(self.files.pop(name))

    def posix(self, name, kind, start=0, length=0, wait=False):
        fcntl.fcntl(self.files[name], fcntl.F_SETLKW if wait else fcntl.F_SETLK,
                    record(kind, start, length))

    def ofd(self, name, kind, start=0, length=0, wait=False):
        fcntl.fcntl(self.files[name], F_OFD_SETLKW if wait else F_OFD_SETLK,
                    record(kind, start, length))

    def flock(self, name, kind, wait=False):
        flags = {"r": fcntl.LOCK_SH, "w": fcntl.LOCK_EX, "u": fcntl.LOCK_UN}[kind]
        fcntl.flock(self.files[name], flags | (0 if wait or kind == "u" else fcntl.LOCK_NB))

    def test(self, name, kind, start=0, length=0):
        kind, _, start, length, pid = FLOCK.unpack(
            fcntl.fcntl(self.files[name], fcntl.F_GETLK, record(kind, start, length)))
        return [{v: k for k, v in TYPES.items()}[kind], start, length, pid]

    def alarm(self, seconds):
        def ring(*_):
            raise InterruptedError(errno.EINTR, "alarm")  # or Python would call again
        signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    def read(self, name):
        return os.pread(self.files[name], 100, 0).decode()

    def write(self, name, text):
        os.pwrite(self.files[name], text.encode(), 0)

    def count(self, name, times):
        """Adds to a number in the file, each time under a lock of its own."""
        for _ in range(times):
            self.posix(name, "w", 0, 0, True)
            self.write(name, "%08d" % (int(self.read(name) or "0") + 1))
            self.posix(name, "u")


def serve():
    commands = Commands()
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer = getattr(commands, name)(*arguments)
        except OSError as error:
            answer = {"errno": error.errno}
        print(json.dumps(answer), flush=True)


class Actor:
    def __init__(self):
        self.process = subprocess.Popen([sys.executable, "-B", __file__], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        self.pid = self.process.pid

    def send(self, *command):
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()

    def answered(self, seconds=0.0):
        return bool(select.select([self.process.stdout], [], [], seconds)[0])

    def answer(self, seconds=20.0):
        """None is success; an errno's name is a failure."""
        if not self.answered(seconds):
            raise TimeoutError(f"no answer for {seconds} s")
        told = json.loads(self.process.stdout.readline())
        return errno.errorcode[told["errno"]] if isinstance(told, dict) else told

    def do(self, *command, seconds=20.0):
        self.send(*command)
        return self.answer(seconds)

    def kill(self):
        self.process.kill()
        self.process.wait()


if __name__ == "__main__":
    serve()
