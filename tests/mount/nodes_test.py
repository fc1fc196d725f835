"""A machine in a network of its own joins, mounts, loses its cable and its daemon, and is revoked."""

import errno
import json
import os
import random
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import BUILD, Cloud, wait_for  # noqa: E402
from harness import check, check_equal, expect_errno, note  # noqa: E402
from joined_nodes import Node, free_port, invite, listen_on, refused  # noqa: E402
from node_network import NodeNetwork  # noqa: E402

RPC_DEADLINE_S = 30


class Writer(threading.Thread):
    """Makes files, reads them back and renames them, until told to stop; every error counts."""

    def __init__(self, directory, seed):
        super().__init__(daemon=True)
        self.directory, self.random = Path(directory), random.Random(seed)
        self.stopping, self.error, self.files, self.longest_s = threading.Event(), None, 0, 0.0

    def run(self):
        try:
            self.directory.mkdir()
            while not self.stopping.is_set():
                began = time.monotonic()
                data = self.random.randbytes(self.random.choice([10, 5000, 100_000]))
                draft = self.directory / "draft"
                with open(draft, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(draft, self.directory / f"{self.files}")
                if (self.directory / f"{self.files}").read_bytes() != data:
                    raise RuntimeError("a file reads back different")
                self.files += 1
                self.longest_s = max(self.longest_s, time.monotonic() - began)
        except Exception as error:  # told to the main thread
            self.error = error

    def finish(self, what):
        self.stopping.set()
        self.join(60)
        check(self.error is None, f"no program saw an error: {what}", repr(self.error))


def joining(cloud, network, rng):
    node = Node(cloud, network, "gpu07")
    line = invite(cloud, "gpu07", "mount")
    check(line.startswith("datacloud-join-1.") and "\n" not in line, "add prints one line")
    at = rng.randrange(20, len(line))
    refused(node.join(line[:at] + ("A" if line[at] != "A" else "B") + line[at + 1:]), "damaged")
    key = cloud.root / "data.key"
    key.rename(cloud.root / "elsewhere")
    refused(cloud.run_tool("node", "add", "gpu08", "--role", "mount"),
            "where the data key is", "node add gpu08 --role mount")
    (cloud.root / "elsewhere").rename(key)
    refused(cloud.run_tool("node", "add", "../x", "--role", "mount"), "cannot name a node")
    refused(cloud.run_tool("node", "add", "gpu08", "--role", "king"), "no role")

    short = invite(cloud, "late", "mount", valid="1s")
    time.sleep(1.5)
    refused(node.join(short, cloud.root / "late"), "late", "expired")

    refused(node.join(short, cloud.root / "late"), "expired")
    replaced = invite(cloud, "twice", "mount")
    invite(cloud, "twice", "mount")
    refused(node.join(replaced, cloud.root / "late"), "twice", "was replaced")
    check_equal(list((cloud.root / "late").iterdir()), [], "a refused join leaves nothing behind")
    cloud.tool("node", "revoke", "twice")
    for valid in ("0", "31d"):
        refused(cloud.run_tool("node", "add", "gpu08", "--role", "mount", "--valid", valid),
                "--valid " + valid, "30 days")
    check("running?" not in cloud.run_tool("node", "show", "nobody").stderr, "no wrong hint")

    done = node.join("-", input=line + "\n")
    check_equal(done.returncode, 0, f"it joins {done.stderr}")
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in node.directory.iterdir()}
    check_equal(modes, {"test.toml": 0o600, "test.node.key": 0o600, "test.node.crt": 0o600,
                        "test.authority.crt": 0o600, "test.data.key": 0o600},
                "its files, readable by their owner only")
    check_equal((node.directory / "test.data.key").read_text(), key.read_text(),
                "it has the data key")
    refused(node.join(line, cloud.root / "thief"), "gpu07", "used")
    refused(cloud.run_tool("node", "add", "gpu07", "--role", "mount"), "joined already")

    digits = key.read_text().split("\nkey ")[1].split()[0]
    secrets = [digits.encode(), bytes.fromhex(digits)]
    for path in [*Path(cloud.root / "state").rglob("*"), cloud.root / "daemon.log"]:
        if path.is_file():
            data = path.read_bytes()
            check_absent(data, secrets, path)
    note("ok: the data key is in none of the daemon's files")
    return node


def check_absent(data, secrets, path):
    if any(secret in data for secret in secrets):
        raise harness.CheckFailed(f"the data key is in {path}")


def working(cloud, network, node, rng):
    point = node.mount()
    local = cloud.mount()
    (point / "from-afar").write_text("hello")
    check_equal((local / "from-afar").read_text(), "hello", "the other mount sees the node's file")
    (local / "from-here").write_text("back")
    check_equal((point / "from-here").read_text(), "back", "and the node sees the other's")
    rows = [row for row in cloud.status()["mounts"] if row["node"]]
    check_equal([(r["node"], r["roles"], r["address"].split(":")[0], r["pid"]) for r in rows],
                [("gpu07", ["mount"], network.there, 0)], "status shows node, role and address")
    check("secret" not in json.dumps(rows), "status tells no secret")

    writer = Writer(point / "work", rng.randrange(1 << 32))
    writer.start()
    wait_for(lambda: writer.files > 5 or writer.error, 30, "the writer")
    for cut_s in (1.0, 9.0):
        network.cut()
        time.sleep(cut_s)
        before = writer.files
        network.mend()
        wait_for(lambda: writer.files > before + 3 or writer.error, RPC_DEADLINE_S,
                 "work after the cable was mended")
        note(f"ok: work goes on after the cable was cut for {cut_s} s")
    for how in ("kill -9", "stop"):
        cloud.kill_daemon() if how == "kill -9" else cloud.stop_daemon()
        time.sleep(1)
        cloud.start_daemon()
        before = writer.files
        wait_for(lambda: writer.files > before + 3 or writer.error, RPC_DEADLINE_S,
                 "work after the daemon's restart")
        note(f"ok: work goes on after {how} of the daemon")
    writer.finish("cable cut twice, daemon killed and restarted")
    check(writer.longest_s < RPC_DEADLINE_S, f"the longest pause was {writer.longest_s:.1f} s")
    sessions = [row for row in cloud.status()["mounts"] if row["node"]]
    check_equal(len(sessions), 1, "one session of the node, resumed each time")
    check_equal(sessions[0]["session"], rows[0]["session"], "and the same")


def roles(cloud, network):
    viewer = Node(cloud, network, "viewer")
    check_equal(viewer.join(invite(cloud, "viewer", "mount-ro")).returncode, 0, "a viewer joins")
    point = viewer.mount()
    check_equal((point / "from-here").read_text(), "back", "it reads")
    expect_errno(errno.EROFS, "it writes nothing", (point / "x").write_text, "x")
    check(os.statvfs(point).f_flag & os.ST_RDONLY, "its mount is read-only for the kernel")
    refused(viewer.tool("status"), "viewer", "role")
    refused(viewer.tool("gc"), "viewer", "role")
    viewer.unmount()

    admin = Node(cloud, network, "laptop")
    check_equal(admin.join(invite(cloud, "laptop", "admin")).returncode, 0, "an admin joins")
    check(not (admin.directory / "test.data.key").exists(), "without the data key")
    check_equal(json.loads(admin.tool("status", "--json").stdout)["health"], "ok",
                "status works from afar")
    names = {row["name"]: row["state"] for row in
             json.loads(admin.tool("node", "list", "--json").stdout)["nodes"]}
    check_equal(names, {"gpu07": "joined", "late": "expired", "viewer": "joined",
                        "laptop": "joined", "twice": "revoked"}, "node list from afar")
    refused(admin.tool("node", "add", "gpu09", "--role", "mount"), "where the data key is")
    check_equal(admin.tool("node", "add", "eyes", "--role", "auditor").returncode, 0,
                "what needs no data key it can add")
    before = (admin.directory / "test.node.crt").read_bytes()
    check_equal(admin.tool("node", "renew").returncode, 0, "its certificate is renewed by hand")
    check((admin.directory / "test.node.crt").read_bytes() != before, "the file is another")
    check_equal(admin.tool("status").returncode, 0, "and works")
    return admin


def by_name(cloud, network):
    """As on a bare machine: join into /etc/datacloud (of a private view of /etc), mount by name."""
    point, private = cloud.root / "by-name", cloud.root / "etc"
    point.mkdir()
    script = f"""
        cp -a /etc {private}
        mount --bind {private} /etc
        {BUILD}/bin/datacloud join "$1"
        {BUILD}/bin/mount.datacloud test {point} -o log={cloud.root}/by-name.log
        cat {point}/from-here
        grep " {point} " /proc/mounts
        umount {point}
    """
    done = subprocess.run(
        network.command("unshare", "-m", "--propagation", "private", "sh", "-ec", script, "sh",
                        invite(cloud, "bare", "mount")),
        capture_output=True, text=True, timeout=60, check=False)
    check_equal(done.returncode, 0, f"a bare machine joins and mounts {done.stderr}")
    check("mount -t datacloud test MOUNTPOINT" in done.stdout, "join says how to mount")
    check("back" in done.stdout, "and what it says works")
    check(f"test {point} fuse.datacloud" in done.stdout, "the kernel's table has the name")


def strangers(cloud, network, port):
    """Who shows no certificate learns why, and nothing that it sends is taken for a request."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["datacloud/1"])
    with socket.create_connection((network.here, port), 5) as raw:
        with context.wrap_socket(raw) as peer:
            check_equal(peer.version(), "TLSv1.3", "TLS 1.3 is spoken")
            peer.sendall(b"DDC1" + b"\xff" * 64)
            told = b""
            peer.settimeout(5)
            while b"certificate" not in told and (part := peer.recv(4096)):
                told += part
            check(b"no certificate was shown" in told, "a stranger is told why")
    for wrong in ({"maximum_version": ssl.TLSVersion.TLSv1_2}, {"alpn": ["h2"]}):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(wrong.get("alpn", ["datacloud/1"]))
        if "maximum_version" in wrong:
            context.maximum_version = wrong["maximum_version"]
        try:
            with socket.create_connection((network.here, port), 5) as raw:
                context.wrap_socket(raw).close()
            raise harness.CheckFailed(f"{wrong} was accepted")
        except ssl.SSLError:
            note(f"ok: {wrong} is refused")
    with socket.create_connection((network.here, port), 5) as raw:
        raw.sendall(b"GET / HTTP/1.0\r\n\r\n")
        raw.settimeout(5)
        check(b"HTTP" not in raw.recv(4096), "plain text is no TLS")


def metric(port, reason):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        for line in reply.read().decode().splitlines():
            if line.startswith("datacloud_peers_refused_total") and f'"{reason}"' in line:
                return float(line.split()[-1])
    return 0.0


def revoking(cloud, node, metrics_port):
    writer = Writer(node.point / "late-work", 1)
    writer.start()
    wait_for(lambda: writer.files > 2, 30, "the writer")
    cloud.tool("node", "revoke", "gpu07")
    check_equal([r for r in cloud.status()["mounts"] if r["node"] == "gpu07"], [],
                "its session ends with the command")
    wait_for(lambda: "gpu07 was revoked" in node.tool("status").stderr, 20, "the refusal")
    note("ok: the node is told that it was revoked")
    wait_for(lambda: metric(metrics_port, "revoked") > 0, 20, "the counter")
    log = (cloud.root / "daemon.log").read_text()
    check("turned away (revoked): node gpu07 was revoked" in log, "the log says so")
    files = set(os.listdir(cloud.root / "mnt" / "late-work"))
    time.sleep(2)
    check_equal(set(os.listdir(cloud.root / "mnt" / "late-work")), files, "it changes nothing more")
    told = node.log.read_text().count("turns this mount away")
    check_equal(told, 1, "its mount says once that it is turned away")
    check("running?" not in node.tool("status").stderr, "who is refused is not asked whether it runs")
    node.process.kill()
    node.process.wait()
    subprocess.run(["umount", "-l", node.point], check=False)
    writer.join(60)
    shown = json.loads(cloud.tool("node", "show", "gpu07", "--json"))["nodes"][0]
    check_equal((shown["state"], shown["certificates"]), ("revoked", []), "node show")
    again = Node(cloud, node.network, "gpu07")
    again.directory, again.config = cloud.root / "again", cloud.root / "again" / "test.toml"
    check_equal(again.join(invite(cloud, "gpu07", "mount")).returncode, 0,
                "the name can join anew, as another machine")
    check_equal(again.run("datacloud", "--config", again.config, "gc").returncode, 1,
                "and has its own role")
    refused(node.tool("status"), "not in force")
    for reason in ("no-certificate", "handshake"):
        check(metric(metrics_port, reason) > 0, f"refusals for {reason} are counted")


def renewing(network):
    """Certificates of 20 s: the mount renews its own, and outlives the first."""
    with Cloud(daemon={"certificate_ms": 20_000, "lease_ms": 4000}) as cloud:
        listen_on(cloud, f"tls://{network.here}:{free_port()}")
        cloud.start_daemon()
        node = Node(cloud, network, "gpu01")
        check_equal(node.join(invite(cloud, "gpu01", "mount")).returncode, 0, "it joins")
        first = (node.directory / "test.node.crt").read_bytes()
        point = node.mount()
        writer = Writer(point / "work", 7)
        writer.start()
        time.sleep(28)
        check((node.directory / "test.node.crt").read_bytes() != first, "it is renewed by itself")
        before = writer.files
        wait_for(lambda: writer.files > before + 3 or writer.error, 30, "work")
        writer.finish("the first certificate ended")
        node.unmount()
        time.sleep(21)
        refused(node.tool("node", "renew"), "expired")
        check_equal(cloud.tool("fsck", "-n").count("node"), 0, "fsck finds nothing")


def test(options):
    rng = random.Random(options.seed)
    if os.geteuid() != 0 or not Path("/dev/fuse").exists():
        raise harness.CheckFailed("needs root and /dev/fuse")
    metrics_port, port = free_port(), free_port()
    with NodeNetwork() as network:
        # A long lease: sessions that end, and mounts that come back, are outages_test's.
        with Cloud(daemon={"metrics": f"127.0.0.1:{metrics_port}", "lease_ms": 20_000}) as cloud:
            listen_on(cloud, f"tls://{network.here}:{port}")
            cloud.start_daemon()
            node = joining(cloud, network, rng)
            working(cloud, network, node, rng)
            roles(cloud, network)
            by_name(cloud, network)
            strangers(cloud, network, port)
            revoking(cloud, node, metrics_port)
            cloud.mounts[0].unmount()
            cloud.tool("fsck", "-n")
        renewing(network)


if __name__ == "__main__":
    harness.main(test, 400)
