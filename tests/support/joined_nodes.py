"""Machines that join a cloud over TLS, for tests of whole clouds."""

import json
import os
import socket
import subprocess

import harness
from cloud import BUILD, _die_with_parent, is_mounted, tail, wait_for
from harness import check, check_equal


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Node:
    """What runs on the machine that joins."""

    def __init__(self, cloud, network, name):
        """`network`: a NodeNetwork, or None for this machine's own."""
        self.cloud, self.network, self.name = cloud, network, name
        self.directory = cloud.root / f"node-{name}"
        self.config = self.directory / "test.toml"

    def command(self, *words):
        return self.network.command(*words) if self.network else [str(word) for word in words]

    def run(self, program, *arguments, seconds=60, input=None):
        return subprocess.run(self.command(BUILD / "bin" / program, *arguments),
                              capture_output=True, text=True, timeout=seconds, check=False,
                              input=input)

    def tool(self, *arguments):
        return self.run("datacloud", "--config", self.config, *arguments)

    def join(self, line, directory=None, input=None):
        return self.run("datacloud", "join", line, "--dir", directory or self.directory,
                        input=input)

    def mount(self, *options, root=1, source=None):
        """`root`: the inode that the mount shows as its root."""
        point = self.cloud.root / f"mnt-{self.name}"
        point.mkdir(exist_ok=True)
        log_path = self.cloud.root / f"mnt-{self.name}.log"
        with open(log_path, "ab") as log:
            process = subprocess.Popen(
                self.command(BUILD / "bin" / "mount.datacloud", source or self.config, point, "-f",
                             *options),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent)
        self.cloud._note_process(process.pid)

        def mounted():
            if process.poll() is not None:
                raise harness.CheckFailed(f"the mount ended: {tail(log_path, 3)}")
            return is_mounted(point) and os.stat(point).st_ino == root

        wait_for(mounted, 20, f"the mount of {point}")
        self.process, self.point, self.log = process, point, log_path
        return point

    def unmount(self):
        subprocess.run(["umount", self.point], check=True)
        check_equal(self.process.wait(60), 0, f"{self.name}: the mount ends cleanly")


def listen_on(cloud, *addresses):
    text = cloud.config.read_text()
    listed = json.dumps([f"unix:{cloud.socket}", *addresses])
    cloud.config.write_text(text.replace(f'listen = "unix:{cloud.socket}"', f"listen = {listed}"))


def invite(cloud, name, *roles, valid="10min", options=()):
    words = [word for role in roles for word in ("--role", role)]
    return cloud.tool("node", "add", name, "--valid", valid, *words, *options).strip()


def refused(done, *words):
    check(done.returncode == 1 and all(word in done.stderr for word in words),
          f"refused, and says why: {done.stderr.strip()[:160]}", f"{done.returncode} {done.stderr}")
