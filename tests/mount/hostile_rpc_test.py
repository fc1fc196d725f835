"""Random and malformed bytes on the daemon's socket: it lives, and serves others meanwhile."""

import os
import random
import re
import socket
import struct
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import BUILD, Cloud, wait_for  # noqa: E402
from harness import check, check_equal  # noqa: E402


class Recorder:
    """A proxy in front of the daemon's socket that keeps what real clients send."""

    def __init__(self, cloud):
        self.cloud = cloud

    def record(self):
        front = str(self.cloud.root / "proxy.sock")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(front)
        listener.listen(1)
        text = self.cloud.config.read_text()
        config = self.cloud.root / "proxy.toml"
        config.write_text(text.replace(str(self.cloud.socket), front))
        tool = subprocess.Popen([BUILD / "bin" / "datacloud", "--config", config, "status"],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        listener.settimeout(10)
        client, _ = listener.accept()
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(self.cloud.socket))
        sent = bytearray()
        client.settimeout(0.2)
        server.settimeout(0.2)
        while tool.poll() is None:
            for source, target in ((client, server), (server, client)):
                try:
                    data = source.recv(65536)
                except TimeoutError:
                    continue
                except OSError:
                    data = b""
                if data:
                    if source is client:
                        sent += data
                    try:
                        target.sendall(data)
                    except OSError:
                        pass
        for s in (client, server, listener):
            s.close()
        return bytes(sent)


def attacks(rng, recorded):
    yield b""
    yield bytes(64)
    yield b"\xff" * 64
    for length in (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 17 << 20):
        yield struct.pack("<I", length) + b"x" * 100
        yield struct.pack(">I", length) + b"x" * 100
        yield struct.pack("<Q", length) + b"x" * 100
    yield b"GET / HTTP/1.1\r\n\r\n"
    for _ in range(150):
        yield rng.randbytes(rng.choice([1, 3, 4, 5, 8, 100, 5000, 100_000]))
    for _ in range(400):  # nearly right
        data = bytearray(recorded)
        for _ in range(rng.choice([1, 1, 2, 8])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        yield bytes(data[:rng.choice([len(data), len(data), rng.randrange(1, len(data) + 1)])])
    body = bytes.fromhex("1207e203041202ffff")  # a StatusReply whose health is not UTF-8
    yield b"DDC1" + struct.pack("<I", len(body)) + body
    for _ in range(20):
        yield recorded * rng.randrange(2, 50)


def test(options):
    rng = random.Random(options.seed)
    with Cloud(daemon={"lease_ms": 5000}) as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        trees.write_file(mount / "file", b"content" * 1000, sync=True)
        recorded = Recorder(cloud).record()
        check(len(recorded) > 8, f"{len(recorded)} bytes of a real request recorded")
        count = 0
        held = []
        for data in attacks(rng, recorded):
            peer = socket.socket(socket.AF_UNIX)
            peer.settimeout(2)
            peer.connect(str(cloud.socket))
            try:
                peer.sendall(data)
                if rng.random() < 0.3:
                    peer.shutdown(socket.SHUT_WR)
                    peer.recv(4096)
            except OSError:
                pass
            if rng.random() < 0.2 and len(held) < 100:
                held.append(peer)  # left open, mid-frame
            else:
                peer.close()
            count += 1
            if cloud.daemon.poll() is not None:
                check(False, "the daemon lives", f"it died after attack {count}: {data[:80]!r}")
        for peer in held:
            peer.close()
        # Some were greetings: the mounts they announced must be given up.
        wait_for(lambda: cloud.status()["health"] == "ok", 30, "status to be ok")
        check(True, f"after {count} attacks status is ok")
        trees.write_file(mount / "after", b"x" * 100_000, sync=True)
        check_equal(sorted(os.listdir(mount)), ["after", "file"], "the mount works on")
        mount.remount()
        check_equal((mount / "file").read_bytes(), b"content" * 1000, "and data is exact")
        mount.unmount()
        cloud.stop_daemon()
        lines = (cloud.root / "daemon.log").read_text(errors="replace").splitlines()
        foreign = [line for line in lines if not re.match(r"\d{4}-\d\d-\d\d ", line)]
        check_equal(foreign, [], "only our own lines are in the log")


if __name__ == "__main__":
    harness.main(test, 120)
