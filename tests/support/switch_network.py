"""Several machines behind one switch, each a network name space with a cable that can be cut.

This end has an address too. Mounts and files stay visible here: only the network is another.
"""

import atexit
import os
import random

from node_network import _ip


class Machine:
    """As NodeNetwork: `there` is its own address, `here` ours."""

    def __init__(self, switch, number):
        self.name = f"{switch.name}-{number}"
        self.cable = f"{switch.bridge}p{number}"
        self.here, self.there = switch.here, f"{switch.net}.{number + 1}"
        _ip("netns", "add", self.name)
        _ip("link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _ip("link", "set", self.cable, "master", switch.bridge, "up")
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

    def close(self):
        _ip("link", "del", self.cable, check=False)
        _ip("netns", "del", self.name, check=False)


class Switch:
    def __init__(self, machines):
        number = random.SystemRandom().randrange(1 << 16)
        self.name = f"dcnode-{os.getpid()}-{number:04x}"
        self.bridge = f"dcs{number:04x}"
        self.net = f"10.{140 + number % 40}.{number >> 8}"
        self.here = f"{self.net}.1"
        self.machines = []
        atexit.register(self.close)
        _ip("link", "add", self.bridge, "type", "bridge")
        _ip("addr", "add", f"{self.here}/24", "dev", self.bridge)
        _ip("link", "set", self.bridge, "up")
        for i in range(machines):
            self.machines.append(Machine(self, i + 1))

    def close(self):
        for machine in self.machines:
            machine.close()
        _ip("link", "del", self.bridge, check=False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
