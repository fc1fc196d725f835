"""A machine of its own for a node: a network name space behind a cable that can be cut.

The daemon listens on this end. Mounts and files stay visible here: only the network is another.
"""

import atexit
import os
import random
import subprocess


def _ip(*words, check=True):
    return subprocess.run(["ip", *map(str, words)], check=check, capture_output=True, text=True)


class NodeNetwork:
    def __init__(self):
        number = random.SystemRandom().randrange(1 << 16)
        self.name = f"dcnode-{os.getpid()}-{number:04x}"
        self.cable = f"dcn{number:04x}"
        net = f"10.{200 + number % 40}.{number >> 8}"
        self.here, self.there = f"{net}.1", f"{net}.2"
        atexit.register(self.close)
        _ip("netns", "add", self.name)
        _ip("link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _ip("addr", "add", f"{self.here}/24", "dev", self.cable)
        _ip("link", "set", self.cable, "up")
        _ip("-n", self.name, "addr", "add", f"{self.there}/24", "dev", "eth0")
        _ip("-n", self.name, "link", "set", "eth0", "up")
        _ip("-n", self.name, "link", "set", "lo", "up")

    def command(self, *words):
        """The words of a command that runs there."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *map(str, words)]

    def cut(self):
        _ip("link", "set", self.cable, "down")

    def mend(self):
        _ip("link", "set", self.cable, "up")

    def change_address(self):
        """The machine there gets another address; what is sent to the old one is lost."""
        net, host = self.there.rsplit(".", 1)
        new = f"{net}.{int(host) + 1 if int(host) < 250 else 2}"
        _ip("-n", self.name, "addr", "del", f"{self.there}/24", "dev", "eth0")
        _ip("-n", self.name, "addr", "add", f"{new}/24", "dev", "eth0")
        self.there = new

    def close(self):
        _ip("link", "del", self.cable, check=False)
        _ip("netns", "del", self.name, check=False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
