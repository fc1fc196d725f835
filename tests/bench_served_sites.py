"""By hand: writing and cold reading through a mount whose sites are served, beside a mount that sees the
same directories, in turn on one machine: over the local sockets, and over TLS from a network name
space. MB/s by round trips of whole files; medians of the rounds.

    DATACLOUD_BUILD=$PWD/build python3 tests/bench_served_sites.py [MIB] [ROUNDS]
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "support"), str(HERE / "mount")]
import harness  # noqa: E402,F401
from cloud import BUILD, Cloud, _die_with_parent, drop_caches, wait_for  # noqa: E402
from node_network import NodeNetwork  # noqa: E402
from served_sites_test import Node, ServedCloud  # noqa: E402


class Served(ServedCloud):
    """Without the other cloud's mount in its mount name spaces, which would keep that from ending."""

    def hidden(self, *words):
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c",
                'umount -l "$1"; shift; mount -t tmpfs none "$0" && exec "$@"',
                self.root / "sites", self.other, *words]


class NodeHere(Node):
    """On the machine of the sites, which it cannot see all the same."""

    def mount(self):
        point = self.cloud.root / f"mnt-{self.name}"
        point.mkdir(exist_ok=True)
        with open(self.cloud.root / f"mnt-{self.name}.log", "ab") as log:
            self.process = subprocess.Popen(
                self.cloud.hidden(BUILD / "bin" / "mount.datacloud", self.config, point, "-f"),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent)
        self.cloud._note_process(self.process.pid)
        self.local, self.point = point, Path(f"/proc/{self.process.pid}/root{point}")
        wait_for(lambda: self.point.exists() and os.stat(self.point).st_ino == 1, 30, "the mount")
        return self.point



def measured(point, name, data, fresh):
    began = time.monotonic()
    with open(point / name, "wb", buffering=0) as file:
        for at in range(0, len(data), 1 << 20):
            file.write(data[at:at + (1 << 20)])
        os.fsync(file.fileno())
    wrote = len(data) / 1e6 / (time.monotonic() - began)
    point = fresh()
    began = time.monotonic()
    with open(point / name, "rb", buffering=0) as file:
        while file.read(1 << 20):
            pass
    read = len(data) / 1e6 / (time.monotonic() - began)
    os.unlink(point / name)
    return wrote, read


def main():
    size = int(sys.argv[1]) << 20 if len(sys.argv) > 1 else 256 << 20
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    data = os.urandom(size)
    rates = {}
    with NodeNetwork() as network, Cloud() as plain, Served(network) as served:
        plain.start_daemon()
        mount = plain.mount()
        served.other = mount.point
        for name in served.names:
            served.serve_site(name)
        served.start_daemon()
        wait_for(lambda: served.sites_up() == set(served.names), 20, "the sites")
        beside, afar = NodeHere(served, "beside", "mount"), Node(served, "afar", "mount")
        beside.mount()
        afar.mount()

        def again():
            mount.remount()
            drop_caches()
            return Path(mount.point)
        kinds = {"directories": (lambda: Path(mount.point), again),
                 "served, local sockets": (lambda: beside.point, beside.remount),
                 "served, TLS": (lambda: afar.point, afar.remount)}
        for turn in range(rounds):
            for kind, (point, fresh) in kinds.items():
                rates.setdefault(kind, []).append(measured(point(), f"f{turn}", data, fresh))
                print(kind, [f"{r:.0f}" for r in rates[kind][-1]], flush=True)
        beside.unmount()
        afar.unmount()
    base = rates["directories"]
    for kind, seen in rates.items():
        for i, what in enumerate(("write", "cold read")):
            ratio = statistics.median(a[i] / b[i] for a, b in zip(seen, base))
            print(f"{kind:22} {what:10} {statistics.median(r[i] for r in seen):7.0f} MB/s, "
                  f"{ratio:.2f} of the directories")


if __name__ == "__main__":
    main()
