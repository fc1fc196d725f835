"""All sites are served: neither the daemon nor the node that mounts can see a site's directory.

Both run in mount name spaces of their own, with an empty file system over the sites' parent; the
node in a network of its own too. Servers of sites are killed, a disk is lost and repaired, a site
joins, and a read-only node, a stranger and a wrong address are turned away.
"""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import (BUILD, Cloud, _die_with_parent, drop_caches, tail, wait_for)  # noqa: E402
from harness import check, check_equal, expect_errno, note  # noqa: E402
from node_network import NodeNetwork  # noqa: E402

HIDDEN = 'mount -t tmpfs none "$0" && exec "$@"'


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class ServedCloud(Cloud):
    """cloud.toml, as the daemon reads it, says where sites are reached; sites.toml, as their servers
    do, which directories they are."""

    def __init__(self, network):
        self.network, self.servers = network, {}
        self.pki = Path(tempfile.mkdtemp(prefix="dctest-pki-"))
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                     "-nodes", "-subj", "/CN=Example CA", "-keyout", "ca.key", "-out", "ca.pem")
        super().__init__(daemon={"listen": "unix:/nowhere", "authorities": self.pki / "ca.pem"},
                         stores="directory")

    def openssl(self, *words):
        subprocess.run(["openssl", *words], cwd=self.pki, check=True, capture_output=True)

    def write_config(self, *arguments, **named):
        super().write_config(*arguments, **named)
        port = free_port()
        listen = json.dumps([f"unix:{self.socket}", f"tls://{self.network.here}:{port}"])
        local = self.config.read_text().replace('listen = "unix:/nowhere"', f"listen = {listen}")
        remote = local
        self.ports = {}
        for name in self.names:
            self.add_site(name)
            path = f'path = "{self.sites[name].path}"\n'
            local = local.replace(path, path + self.serve(name))
            remote = remote.replace(f'store = "directory"\n{path}', self.reach(name))
        self.site_config = self.root / "sites.toml"
        self.site_config.write_text(local)
        self.config.write_text(local)  # for create, which wants to see the directories
        self.remote_text = remote

    def add_site(self, name):
        self.ports[name] = free_port()

    def serve(self, name):
        return (f'serve = "tls://0.0.0.0:{self.ports[name]}"\n'
                f'address = "tls://{self.network.here}:{self.ports[name]}"\n')

    def reach(self, name):
        return f'store = "remote"\naddress = "tls://{self.network.here}:{self.ports[name]}"\n'

    def serve_site(self, name):
        with open(self.root / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                [BUILD / "bin" / "datacloudd", "--site", name, "--config", self.site_config, "-f"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent)
        self._note_process(process.pid)
        self.servers[name] = process

        def serves():
            if process.poll() is not None:
                raise harness.CheckFailed(f"{name}: {tail(self.root / f'{name}.log', 3)}")
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", self.ports[name])) == 0
        wait_for(serves, 20, f"{name} to be served")

    def kill_site(self, name):
        self.servers[name].send_signal(signal.SIGKILL)
        self.servers[name].wait()

    def hidden(self, *words):
        """The command, where the sites' directories cannot be seen. Its process is the program's."""
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", HIDDEN,
                self.root / "sites", *words]

    def start_daemon(self, seconds=20):
        self.config.write_text(self.remote_text)
        log = open(self.root / "daemon.log", "ab")
        self.daemon = subprocess.Popen(
            self.hidden(BUILD / "bin" / "datacloudd", "--config", self.config, "--foreground"),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent)
        self._note_process(self.daemon.pid)
        log.close()

        def serves():
            if self.daemon.poll() is not None:
                raise harness.CheckFailed(f"datacloudd: {tail(self.root / 'daemon.log', 3)}")
            return self.run_tool("status", "--json").returncode == 0
        wait_for(serves, seconds, "the daemon to serve")
        return self

    def sites_up(self):
        return {s["name"] for s in self.status()["sites"] if s["up"]}

    def close(self):
        super().close()
        for process in self.servers.values():
            process.kill()
            process.wait()
        shutil.rmtree(self.pki, ignore_errors=True)


class Node:
    def __init__(self, cloud, name, role):
        self.cloud, self.name = cloud, name
        self.directory = cloud.root / f"node-{name}"
        self.config = self.directory / "test.toml"
        line = subprocess.run([BUILD / "bin" / "datacloud", "--config", cloud.site_config, "node",
                               "add", name, "--role", role], check=True, capture_output=True,
                              text=True).stdout.strip()
        done = subprocess.run(
            cloud.network.command(BUILD / "bin" / "datacloud", "join", line, "--dir",
                                  self.directory), capture_output=True, text=True, check=False)
        check_equal(done.returncode, 0, f"{name} joins {done.stderr}")

    def mount(self):
        point = self.cloud.root / f"mnt-{self.name}"
        point.mkdir(exist_ok=True)
        log_path = self.cloud.root / f"mnt-{self.name}.log"
        with open(log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.cloud.network.command(*self.cloud.hidden(
                    BUILD / "bin" / "mount.datacloud", self.config, point, "-f")),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent)
        self.cloud._note_process(self.process.pid)
        self.local = point
        # The mount is seen through the eyes of its process only.
        self.point = Path(f"/proc/{self.process.pid}/root{point}")

        def mounted():
            if self.process.poll() is not None:
                raise harness.CheckFailed(f"the mount ended: {tail(log_path, 3)}")
            try:
                return os.stat(self.point).st_ino == 1
            except OSError:
                return False
        wait_for(mounted, 20, f"the mount of {point}")
        seen = os.listdir(f"/proc/{self.process.pid}/root{self.cloud.root / 'sites'}")
        check_equal(seen, [], f"{self.name} sees no directory of a site")
        return self.point

    def unmount(self):
        subprocess.run(["nsenter", f"--mount=/proc/{self.process.pid}/ns/mnt", "umount",
                        self.local], check=True)
        check_equal(self.process.wait(60), 0, f"{self.name}: the mount ends cleanly")

    def remount(self):
        self.unmount()
        drop_caches()
        return self.mount()


class CertifiedNode(Node):
    """One that its organisation has certified; the record has its certificate's SHA-256."""

    def __init__(self, cloud, name, role):
        self.cloud, self.name = cloud, name
        self.directory = cloud.root / f"node-{name}"
        self.directory.mkdir()
        self.config = self.directory / "test.toml"
        cloud.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                      "-subj", f"/CN={name}", "-keyout", "node.key", "-out", "node.csr")
        (cloud.pki / "client.ext").write_text("extendedKeyUsage=clientAuth\n")
        cloud.openssl("x509", "-req", "-in", "node.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                      "-CAcreateserial", "-days", "9", "-extfile", "client.ext", "-out", "node.pem")
        done = subprocess.run([BUILD / "bin" / "datacloud", "--config", cloud.site_config, "node",
                               "add", name, "--role", role, "--certificate", cloud.pki / "node.pem",
                               "--output", self.directory, "--dir", self.directory],
                              capture_output=True, text=True, check=False)
        check_equal(done.returncode, 0, f"{name} is entered {done.stderr}")
        shutil.copy(cloud.pki / "node.key", self.directory / "test.node.key")
        (self.directory / "test.node.key").chmod(0o600)


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def ways(cloud):
    """The daemon, on the machine of the sites, goes by their local sockets; the node, whose network is
    another, cannot."""
    def connections(name):
        inodes = {f"socket:[{line.split()[6]}]" for line in
                  Path("/proc/net/unix").read_text().splitlines()
                  if "@datacloud-site-" in line and line.split()[5] == "03"}
        found = 0
        for entry in Path(f"/proc/{cloud.servers[name].pid}/fd").iterdir():
            try:
                found += os.readlink(entry) in inodes
            except FileNotFoundError:
                pass  # closed meanwhile
        return found
    for name in cloud.names:
        wait_for(lambda name=name: connections(name) == 2, 20,
                 f"the daemon's connections for objects and journal by the local socket of {name}")


def journal(cloud):
    return json.loads(cloud.tool("journal", "status", "--json"))


def journaled(cloud):
    """The servers make the journal's logs, and hold them."""
    now = json.loads(cloud.tool("journal", "enable", "--json", seconds=60))
    check_equal((now["used"], now["commit_sites"], len(now["sites"])), (True, 3, 5),
                "five served sites hold the journal, three commit")
    wait_for(lambda: all(s["state"] == "ok" for s in journal(cloud)["sites"]), 60,
             "all served sites to have the journal")
    for name in cloud.names:
        check(any((cloud.sites[name].path / "journal").glob("segment-*")), f"{name} has a segment")


def even(cloud):
    now = journal(cloud)
    return all(s["state"] == "ok" and s["acknowledged"] >= now["committed"] for s in now["sites"])


def working(cloud, node, rng):
    text = node.config.read_text()
    check("path =" not in text and text.count('store = "remote"') == 5,
          "the node's configuration has served sites only")
    point = node.mount()
    files = {f"file-{i}": rng.randbytes(rng.choice([100, 70_000, 5_000_000])) for i in range(6)}
    for name, data in files.items():
        write(point / name, data)
    check(all(cloud.object_locations(name) for name in cloud.names), "every site holds objects")
    point = node.remount()
    for name, data in files.items():
        check((point / name).read_bytes() == data, f"{name} is exact, read from served sites")
    return files


def degraded(cloud, node, files, rng):
    """kill -9 of two servers under the mount: everything goes on, and is noticed."""
    lost = rng.sample(cloud.names, 2)
    for name in lost:
        cloud.kill_site(name)
    data = rng.randbytes(3_000_000)
    write(node.point / "degraded", data)
    files["degraded"] = data
    node.remount()  # nothing is read from a cache
    for name, expected in files.items():
        check((node.point / name).read_bytes() == expected, f"{name} without {lost}")
    wait_for(lambda: cloud.sites_up() == set(cloud.names) - set(lost), 20, "two sites to be away")
    log = (cloud.root / "daemon.log").read_text()
    check(f"datacloudd --site {lost[0]}" in log and str(cloud.ports[lost[0]]) in log,
          "the log names address and remedy")
    # One of them comes back with an empty disk.
    objects = cloud.sites[lost[0]].path / "objects"
    for found in list(objects.rglob("*")):
        if found.is_file():
            found.unlink()
    for name in lost:
        cloud.serve_site(name)
    wait_for(lambda: cloud.sites_up() == set(cloud.names), 20, "the sites to be back")
    wait_for(lambda: even(cloud), 60, "the journal to be at all sites again")
    return lost[0]


def repaired(cloud, node, files, lost):
    check_equal(cloud.run_tool("fsck", "-n", seconds=120).returncode, 4, "fsck misses what is lost")
    cloud.run_tool("fsck", "-y", seconds=120)
    cloud.tool("repair", "--wait", seconds=120)
    check(cloud.object_locations(lost), f"{lost} holds objects again: the daemon wrote them from afar")
    check_equal(cloud.run_tool("fsck", "-n", seconds=120).returncode, 0, "all is whole again")
    others = [name for name in cloud.names if name != lost][:2]
    for name in others:
        cloud.kill_site(name)
    point = node.remount()
    for name, data in files.items():
        check((point / name).read_bytes() == data, f"{name} from what was repaired")
    for name in others:
        cloud.serve_site(name)
    wait_for(lambda: cloud.sites_up() == set(cloud.names), 20, "the sites to be back")


def joining_site(cloud):
    """A new site: its server runs first, and the daemon's machine formats it from afar."""
    name = "site6"
    directory = cloud.root / "sites" / name
    directory.mkdir()
    cloud.add_site(name)
    with open(cloud.site_config, "a") as file:
        file.write(f'\n[[site]]\nname = "{name}"\nstore = "directory"\npath = "{directory}"\n'
                   + cloud.serve(name))
    with open(cloud.config, "a") as file:
        file.write(f'\n[[site]]\nname = "{name}"\n' + cloud.reach(name))
    cloud.serve_site(name)
    cloud.tool("site", "add", name)
    check((directory / "datacloud-site").exists(), "the site was formatted by its server")
    wait_for(lambda: name in cloud.sites_up(), 20, "the new site to be up")


def audited(cloud, files):
    """A third party, which is a node with the role auditor, has the served sites prove what they hold."""
    auditor = Node(cloud, "auditor", "auditor")
    check(not list(auditor.directory.glob("*.data.key")), "an auditor has no data key")
    bundle = cloud.root / "bundle"
    cloud.tool("auditor", "export", "--output", bundle)
    signer = json.loads(cloud.tool("auditor", "signer", "--json"))["signer"]

    def audit(name):
        report = cloud.root / f"{name}.json"
        done = subprocess.run(cloud.network.command(
            BUILD / "bin" / "datacloud-audit", "--bundle", bundle, "--sites", auditor.config,
            "--signer", signer, "--report", report, "--key", cloud.root / "auditor.key"),
            capture_output=True, text=True, check=False, timeout=120)
        return done, json.loads(report.read_text())["report"] if report.exists() else None
    done, report = audit("sound")
    check_equal(done.returncode, 0, f"served sites prove what they hold {done.stdout}{done.stderr}")
    check_equal({s["site"] for s in report["sites"] if s["shards_proven"] > 0}, set(cloud.names),
                "every site was asked")
    victim = next(p for p in (cloud.sites[cloud.names[0]].path / "objects").rglob("*")
                  if p.is_file() and p.stat().st_size > 10_000)
    sound = victim.read_bytes()
    victim.write_bytes(sound[:5000] + bytes([sound[5000] ^ 1]) + sound[5001:])
    done, report = audit("damaged")
    check_equal(done.returncode, 3, f"damage at a served site is found {done.stdout}{done.stderr}")
    check_equal({f["site"] for f in report["findings"]}, {cloud.names[0]}, "at the site that has it")
    victim.write_bytes(sound)


def certified(cloud, files):
    """A node whose certificate its organisation has signed: sites learn of it from the daemon."""
    node = CertifiedNode(cloud, "gpu09", "mount-ro")
    point = node.mount()
    name, data = next(iter(files.items()))

    def reads():
        try:
            return (point / name).read_bytes() == data
        except OSError:
            return False
    wait_for(reads, 60, "a node that its organisation has certified to read")
    node.unmount()


def read_only(cloud, files):
    node = Node(cloud, "eyes", "mount-ro")
    point = node.mount()
    name, data = next(iter(files.items()))
    check((point / name).read_bytes() == data, "a read-only node reads")
    expect_errno(30, "and writes nothing", write, point / "new", b"x")
    cloud.tool("node", "revoke", "eyes")
    wait_for(lambda: all("not in force any more" in (cloud.root / f"{s}.log").read_text()
                         or "turned away (revoked)" in (cloud.root / f"{s}.log").read_text()
                         for s in cloud.names), 30, "the sites to shut it out")
    note("ok: a revoked node loses the sites too")
    node.process.kill()
    node.process.wait()


def wrong_places(cloud):
    text = cloud.config.read_text()
    one, two = (f"{cloud.network.here}:{cloud.ports[name]}" for name in cloud.names[:2])
    wrong = cloud.root / "wrong.toml"
    wrong.write_text(text.replace(one, "ONE").replace(two, one).replace("ONE", two))
    done = subprocess.run([BUILD / "bin" / "datacloudd", "--site", "nowhere", "--config", wrong],
                          capture_output=True, text=True, check=False)
    check(done.returncode == 1 and "nowhere" in done.stderr, f"refused: {done.stderr.strip()}")
    done = subprocess.run([BUILD / "bin" / "datacloudd", "--site", "site1", "--config", wrong, "-f"],
                          capture_output=True, text=True, check=False, timeout=20)
    check(done.returncode == 1 and "cannot be served" in done.stderr, "a remote site is not served")
    cloud.stop_daemon()
    cloud.remote_text, right = wrong.read_text(), text
    cloud.start_daemon()
    wait_for(lambda: cloud.names[0] not in cloud.sites_up(), 20, "a site at another's address")
    check("site2 is served there" in (cloud.root / "daemon.log").read_text(),
          "two addresses that were swapped are noticed, and nothing is written")
    cloud.stop_daemon()
    cloud.remote_text = right
    cloud.start_daemon()
    wait_for(lambda: set(cloud.names) <= cloud.sites_up(), 20, "the sites to be back")


def test(options):
    rng = random.Random(options.seed)
    if os.geteuid() != 0 or not Path("/dev/fuse").exists():
        raise harness.CheckFailed("needs root and /dev/fuse")
    with NodeNetwork() as network, ServedCloud(network) as cloud:
        for name in cloud.names:
            cloud.serve_site(name)
        cloud.start_daemon()
        wait_for(lambda: cloud.sites_up() == set(cloud.names), 20, "all sites to be up")
        journaled(cloud)
        node = Node(cloud, "gpu07", "mount")
        files = working(cloud, node, rng)
        ways(cloud)
        lost = degraded(cloud, node, files, rng)
        repaired(cloud, node, files, lost)
        audited(cloud, files)
        certified(cloud, files)
        read_only(cloud, files)
        joining_site(cloud)
        wrong_places(cloud)
        node.unmount()


if __name__ == "__main__":
    harness.main(test, 300)
