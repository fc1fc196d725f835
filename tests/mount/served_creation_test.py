"""A cloud that is created with sites that other machines will serve, and a journal at them: each machine
joins by one line, its server formats its folder, and a stranger to the cloud gets nowhere.

Then the daemon and one site show certificates of the organisation's authority: nodes know them by what
their lines brought, certificates are renewed without a restart, and whatever is wrong is named.
"""

import json
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import BUILD, Cloud, _die_with_parent, tail, wait_for  # noqa: E402
from harness import check, check_equal, note  # noqa: E402
from joined_nodes import Node, free_port, invite, listen_on, refused  # noqa: E402


class Authority:
    """An organisation's, by openssl, with what it signs."""

    def __init__(self, directory, name):
        directory.mkdir()
        self.directory, self.certificate = directory, directory / "ca.pem"
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                     "-subj", f"/O=Example/CN={name}", "-addext",
                     "keyUsage=critical,keyCertSign,cRLSign", "-keyout", "ca.key", "-out", "ca.pem")

    def openssl(self, *words):
        return subprocess.run(["openssl", *map(str, words)], cwd=self.directory, check=True,
                              capture_output=True, text=True).stdout

    def sign(self, name, alternatives, days=30, use="serverAuth"):
        """(certificate, key) of a server with these alternative names."""
        self.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                     f"/O=Example/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        (self.directory / f"{name}.ext").write_text(
            f"extendedKeyUsage={use}\nsubjectAltName={alternatives}\n")
        self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                     "-CAcreateserial", "-days", days, "-extfile", f"{name}.ext", "-out", f"{name}.pem")
        key = self.directory / f"{name}.key"
        key.chmod(0o600)
        return self.directory / f"{name}.pem", key


class Machine(Node):
    """One that has a site's folder, and serves it once it has joined."""

    def __init__(self, cloud, name, port):
        super().__init__(cloud, None, name)
        self.folder, self.port, self.server = cloud.root / "sites" / name, port, None
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def join_as_site(self):
        """As operations.md says: a line, then the folder and the port in the site's table."""
        done = self.join(invite(self.cloud, self.name, "site"))
        check_equal(done.returncode, 0, f"{self.name} joins {done.stderr}")
        self.change(f'store = "remote"\naddress = "tls://127.0.0.1:{self.port}"\n',
                    f'store = "directory"\npath = "{self.folder}"\n'
                    f'serve = "tls://127.0.0.1:{self.port}"\n')

    def change(self, old, new):
        text = self.config.read_text()
        check_equal(text.count(old), 1, f"one place of {self.config} is changed")
        self.config.write_text(text.replace(old, new))

    def serve(self):
        self.log_path = self.cloud.root / f"{self.name}.log"
        with open(self.log_path, "ab") as log:
            self.server = subprocess.Popen(
                [BUILD / "bin" / "datacloudd", "--site", self.name, "--config", self.config, "-f"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent)
        self.cloud._note_process(self.server.pid)

        def serves():
            if self.server.poll() is not None:
                raise harness.CheckFailed(f"{self.name}: {tail(self.log_path, 3)}")
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", self.port)) == 0
        wait_for(serves, 20, f"{self.name} to be served")

    def stop(self):
        self.server.send_signal(signal.SIGTERM)
        check_equal(self.server.wait(30), 0, f"the server of {self.name} ends cleanly")


def created(cloud, machines):
    """What `create` makes while nobody serves a site yet, and what it refuses to make."""
    for name in cloud.names:
        text = cloud.config.read_text()
        cloud.config.write_text(text.replace(
            f'store = "directory"\npath = "{machines[name].folder}"',
            f'store = "remote"\naddress = "tls://127.0.0.1:{machines[name].port}"'))
    check_equal(cloud.config.read_text().count('store = "remote"'), 5, "all sites are served")
    refused(cloud.run_tool("create"), "site1 is served by another machine", "[daemon] listen")
    check(not (cloud.root / "data.key").exists(), "a refused creation leaves no key")
    listen_on(cloud, f"tls://127.0.0.1:{free_port()}")
    text = cloud.tool("create", "--journal")
    check("site1, site2, site3, site4, site5" in text and "node add SITE --role site" in text
          and "create --finish --journal" in text, "create says what comes next", text)
    for machine in machines.values():
        check_equal(list(machine.folder.iterdir()), [], f"the folder of {machine.name} is untouched")
    refused(cloud.run_tool("create"), "keys are never overwritten")
    cloud.start_daemon()
    check_equal([s["up"] for s in cloud.status()["sites"]], [False] * 5, "all sites are away")


def finished(cloud, machines):
    early = cloud.run_tool("create", "--finish", "--journal")
    refused(early, "datacloudd --site site1", "site5", "run this again")
    for machine in machines.values():
        machine.join_as_site()
    served = [machines[name] for name in cloud.names[:3]]
    for machine in served:
        machine.serve()
    # A site is at the address of another: nothing is formatted there.
    (served[0].folder / "somebody's").write_text("file")
    partly = cloud.run_tool("create", "--finish", "--journal", "--json")
    check_equal(partly.returncode, 1, "not all servers run, and one folder is not empty")
    told = json.loads(partly.stdout)
    check_equal(told["formatted"], ["site2", "site3"], "those that can be are formatted")
    check(len(told["obstacles"]) == 3 and "not empty" in told["obstacles"][0],
          "and the others named", str(told))
    check(not (served[0].folder / "datacloud-site").exists(), "a folder with files is left alone")
    check(not json.loads(cloud.tool("journal", "status", "--json"))["used"], "no journal yet")
    (served[0].folder / "somebody's").unlink()
    for name in cloud.names[3:]:
        machines[name].serve()
    cloud.tool("create", "--finish", "--journal", seconds=120)
    now = json.loads(cloud.tool("journal", "status", "--json"))
    check_equal((now["used"], len(now["sites"])), (True, 5), "the journal is at all five sites")
    again = cloud.run_tool("create", "--finish", "--journal", seconds=120)
    check_equal(again.returncode, 0, f"it may be repeated {again.stderr}")


def used(cloud, rng):
    node = Node(cloud, None, "gpu07")
    check_equal(node.join(invite(cloud, "gpu07", "mount")).returncode, 0, "a node joins")
    point = node.mount()
    data = rng.randbytes(2_000_000)
    (point / "file").write_bytes(data)
    subprocess.run(["sync", "-f", point / "file"], check=True)
    node.unmount()
    point = node.mount()
    check((point / "file").read_bytes() == data, "what it wrote is at the sites")
    node.unmount()
    return node, data


def not_begun_anew(cloud, machines):
    """A site that has shards, and comes back with an empty disk, is rebuilt, and not taken as new."""
    machine = machines["site1"]
    machine.stop()
    aside = machine.folder.with_name("aside")
    machine.folder.rename(aside)
    machine.folder.mkdir()
    machine.serve()
    refused(cloud.run_tool("create", "--finish"), "site1", "datacloud site rebuild site1")
    check_equal(list(machine.folder.iterdir()), [], "nothing is formatted")
    machine.stop()
    machine.folder.rmdir()
    aside.rename(machine.folder)
    machine.serve()
    wait_for(lambda: all(s["up"] for s in cloud.status()["sites"]), 20, "the site to be back")


def shown(port, *words):
    """Serial number and subject of what a server shows over TLS."""
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_3", "-alpn",
                           "datacloud/1", *map(str, words)], input="", capture_output=True, text=True,
                          timeout=30, check=False)
    certificate = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", done.stdout, re.S)
    check(certificate, "the server shows a certificate", done.stdout + done.stderr)
    return subprocess.run(["openssl", "x509", "-noout", "-subject", "-serial"], input=certificate[0],
                          capture_output=True, text=True, check=True).stdout


def serial_of(certificate):
    return subprocess.run(["openssl", "x509", "-noout", "-serial", "-in", certificate], check=True,
                          capture_output=True, text=True).stdout.strip()


def with_daemon_settings(text, **settings):
    lines = "".join(f'{key} = "{value}"\n' for key, value in settings.items())
    return text.replace("[daemon]\n", "[daemon]\n" + lines)


def certified_servers(cloud, machines, old_node, data):
    ours = Authority(cloud.root / "ours", "Example CA")
    other = Authority(cloud.root / "other", "Other CA")
    uri = "https://data.example/daemon"
    certificate, key = ours.sign("daemon", f"URI:{uri},DNS:data.example")
    plain = cloud.config.read_text()
    port = int(re.search(r'"tls://127.0.0.1:(\d+)"\]', plain)[1])
    cloud.stop_daemon()

    def daemon_refuses(*words, **settings):
        cloud.config.write_text(with_daemon_settings(plain, authorities=ours.certificate, **settings))
        done = subprocess.run([BUILD / "bin" / "datacloudd", "--config", cloud.config, "-f"],
                              capture_output=True, text=True, timeout=60, check=False)
        check(done.returncode == 1 and all(word in done.stderr for word in words),
              f"the daemon does not start: {done.stderr.strip()[:160]}", done.stderr)
    daemon_refuses("has no \"key\"", certificate=certificate)
    daemon_refuses("is for another key", certificate=certificate, key=ours.sign("x", "DNS:x")[1])
    client = ours.sign("client", "DNS:client", use="clientAuth")
    daemon_refuses("is not for servers", "client.pem", certificate=client[0], key=client[1])
    key.chmod(0o644)
    daemon_refuses("can be read by others", "chmod 600", certificate=certificate, key=key)
    key.chmod(0o600)
    daemon_refuses("\"x\"", "dns:NAME", certificate=certificate, key=key, identity="x")

    # A site's too: its machine shows it, and the daemon is told by what it knows it.
    site = machines["site2"]
    site_files = ours.sign("site2", "DNS:site2.example")
    site.stop()
    site.change(f'serve = "tls://127.0.0.1:{site.port}"\n',
                f'serve = "tls://127.0.0.1:{site.port}"\ncertificate = "{site_files[0]}"\n'
                f'key = "{site_files[1]}"\nwindow_bytes = "2MiB"\n')
    site.serve()

    def with_sites(text, identity):
        for name, line in (("site2", f'identity = "{identity}"\n'), ("site3", "window_bytes = 0\n"),
                           ("site4", 'window_bytes = "5MiB"\n')):
            address = f'address = "tls://127.0.0.1:{machines[name].port}"\n'
            text = text.replace(address, address + line)
        return text
    settings = with_daemon_settings(plain, authorities=ours.certificate, certificate=certificate,
                                    key=key)
    cloud.config.write_text(with_sites(settings, "dns:site9.example"))
    cloud.start_daemon()
    wait_for(lambda: "dns:site9.example" in (cloud.root / "daemon.log").read_text(), 20,
             "a site with another name to be refused")
    check("site2.example" in (cloud.root / "daemon.log").read_text(), "and both names to be told")
    cloud.stop_daemon()
    cloud.config.write_text(with_sites(settings, "dns:site2.example"))
    cloud.start_daemon()
    wait_for(lambda: all(s["up"] for s in cloud.status()["sites"]), 20, "all sites to be up")
    windows(cloud)

    # Who asks for the organisation's certificate gets it, all others the cloud's own.
    check("CN = Example" not in shown(port) and "daemon" in shown(port), "one is the cloud's own")
    check(serial_of(certificate) in shown(port, "-requestCAfile", ours.certificate),
          "and one is the organisation's")
    check(serial_of(certificate) not in shown(port, "-requestCAfile", other.certificate),
          "which is not shown to those that ask for another's")
    check("gpu07" in old_node.tool("status").stdout + old_node.tool("status").stderr,
          "a node that joined before goes on")

    node = Node(cloud, None, "gpu08")
    check_equal(node.join(invite(cloud, "gpu08", "mount")).returncode, 0, "a node joins by its line")
    text = node.config.read_text()
    check(f'daemon_identity = ["{uri}"]' in text and 'identity = ["dns:site2.example"]' in text
          and (node.directory / "test.organisation.crt").exists(), "and is told who the servers are",
          text)
    admin = Node(cloud, None, "laptop")
    check_equal(admin.join(invite(cloud, "laptop", "admin")).returncode, 0, "an administrator, too")
    check_equal(admin.tool("status").returncode, 0, "and reaches the daemon by that certificate")
    point = node.mount()
    check((point / "file").read_bytes() == data, "and the node reads")

    renewed = ours.sign("daemon2", f"URI:{uri}")
    shutil.copy(renewed[0], certificate)  # alone it fits no key: the last pair counts
    check(serial_of(renewed[0]) not in shown(port, "-requestCAfile", ours.certificate),
          "half a renewal changes nothing")
    shutil.copy(renewed[1], key)
    check(serial_of(renewed[0]) in shown(port, "-requestCAfile", ours.certificate),
          "a renewed certificate is shown without a restart")
    check_equal(admin.tool("status").returncode, 0, "and known by the same name")
    shutil.copy(ours.sign("site2b", "DNS:site2.example")[0], site_files[0])
    shutil.copy(ours.directory / "site2b.key", site_files[1])
    check(serial_of(site_files[0]) in shown(site.port, "-requestCAfile", ours.certificate),
          "and that of a site")

    def told(name, certificate_and_key, *words):
        shutil.copy(certificate_and_key[0], certificate)
        shutil.copy(certificate_and_key[1], key)
        refused(admin.tool("status"), *words)
        # A node that trusts the cloud's authority alone does not see it.
        check("role" in old_node.tool("status").stderr, f"{name}: others do not see it")
    told("name", ours.sign("elsewhere", "DNS:elsewhere.example"), "elsewhere.example", uri,
         "correct the identity")
    told("time", ours.sign("late", f"URI:{uri}", days=0), "has expired", "CN=late")
    shutil.copy(renewed[0], certificate)
    shutil.copy(renewed[1], key)
    shutil.copy(other.certificate, admin.directory / "test.organisation.crt")
    check_equal(admin.tool("status").returncode, 0, "with other authorities it is shown the cloud's own")
    (point / "more").write_bytes(b"still")
    node.unmount()


def windows(cloud):
    """What the daemon shares with the servers on its machine, by the configuration of both."""
    def sizes():
        found = []
        for line in Path(f"/proc/{cloud.daemon.pid}/maps").read_text().splitlines():
            if "memfd:datacloud-site" in line:
                begin, end = (int(word, 16) for word in line.split()[0].split("-"))
                found.append((end - begin) >> 20)
        return sorted(found)
    # For objects and for the journal: site1 and site5 by default, site2 as its server allows, site3
    # none, site4 as the daemon asks.
    wait_for(lambda: sizes() == [2, 2, 5, 5, 32, 32, 32, 32], 20, "windows of the configured sizes")
    note("ok: windows have the configured sizes, bound by the server's")


def test(options):
    rng = random.Random(options.seed)
    with Cloud(create=False, stores="directory") as cloud:
        machines = {name: Machine(cloud, name, free_port()) for name in cloud.names}
        try:
            created(cloud, machines)
            finished(cloud, machines)
            node, data = used(cloud, rng)
            not_begun_anew(cloud, machines)
            certified_servers(cloud, machines, node, data)
            cloud.stop_daemon()
        finally:
            for machine in machines.values():
                if machine.server:
                    machine.server.kill()
                    machine.server.wait()


if __name__ == "__main__":
    harness.main(test, 240)
