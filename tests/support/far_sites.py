"""A cloud whose five sites are far away: each is served over TLS behind a relay that delays both directions. The
daemon and the mounts are on one machine. With a journal at all sites."""

import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from cloud import BUILD, Cloud, CloudError, _die_with_parent, tail, wait_for
from joined_nodes import Node, free_port, invite, listen_on

HERE = Path(__file__).resolve().parent


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


class FarSite(Node):
    def __init__(self, cloud, name, round_trip_ms):
        super().__init__(cloud, None, name)
        self.port, self.relay_port = free_port(), free_port()
        self.folder = cloud.root / "sites" / name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.relay = subprocess.Popen(
            [sys.executable, HERE / "delay_relay.py", str(self.relay_port), str(self.port), str(round_trip_ms)],
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=_die_with_parent)
        self.server = None

    @property
    def address(self):
        return f"tls://127.0.0.1:{self.relay_port}"

    def serve(self):
        done = self.join(invite(self.cloud, self.name, "site"))
        if done.returncode != 0:
            raise CloudError(f"{self.name} does not join: {done.stderr}")
        text = self.config.read_text()
        self.config.write_text(text.replace(
            f'store = "remote"\naddress = "{self.address}"\n',
            f'store = "directory"\npath = "{self.folder}"\nserve = "tls://127.0.0.1:{self.port}"\n'
            'window_bytes = 0\n'))  # no way past the relay
        log_path = self.cloud.root / f"{self.name}.log"
        with open(log_path, "ab") as log:
            self.server = subprocess.Popen(
                [BUILD / "bin" / "datacloudd", "--site", self.name, "--config", self.config, "-f"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent)
        self.cloud._note_process(self.server.pid)

        def serves():
            if self.server.poll() is not None:
                raise CloudError(f"{self.name}: {tail(log_path, 3)}")
            return listens(self.port) and listens(self.relay_port)
        wait_for(serves, 20, f"{self.name} to be served")

    def stop(self):
        for process in (self.server, self.relay):
            if process and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(30)


class FarCloud:
    """`with FarCloud(35) as (cloud, node):` a started cloud, whose sites are so many milliseconds, there and back,
    away; and a joined node beside the daemon, to mount it."""

    def __init__(self, round_trip_ms):
        self.cloud = Cloud(create=False)
        self.sites = [FarSite(self.cloud, name, round_trip_ms) for name in self.cloud.names]

    def __enter__(self):
        cloud = self.cloud
        text = cloud.config.read_text()
        for site in self.sites:
            text = text.replace(f'store = "directory"\npath = "{site.folder}"',
                                f'store = "remote"\naddress = "{site.address}"')
        cloud.config.write_text(text)
        listen_on(cloud, f"tls://127.0.0.1:{free_port()}")
        cloud.tool("create", "--journal")
        cloud.start_daemon()
        for site in self.sites:
            site.serve()
        cloud.tool("create", "--finish", "--journal", seconds=120)
        wait_for(lambda: all(s["up"] for s in cloud.status()["sites"]), 60, "all sites")
        node = Node(cloud, None, "beside")
        done = node.join(invite(cloud, node.name, "mount"))
        if done.returncode != 0:
            raise CloudError(f"the node does not join: {done.stderr}")
        return cloud, node

    def __exit__(self, kind, value, trace):
        if kind is not None:
            self.cloud.print_logs()
        self.cloud.close()
        for site in self.sites:
            site.stop()
