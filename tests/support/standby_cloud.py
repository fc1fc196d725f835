"""A cloud with two daemons on machines of their own, and nodes on others, behind one switch.

The sites are directories that all machines see, until one is cut from them. What kills, stops, cuts and moves is here.
"""

import json
import signal
import subprocess

from cloud import BUILD, Cloud, CloudError, _die_with_parent, tail, wait_for
from joined_nodes import Node

PORT = 7411


class Daemon:
    def __init__(self, cloud, name, order, machine):
        self.cloud, self.name, self.machine = cloud, name, machine
        self.config = cloud.root / name / "cloud.toml"
        self.log = cloud.root / f"daemon-{name}.log"
        self.process = None
        self.config.parent.mkdir()
        text = cloud.config.read_text()
        text = text.replace(str(cloud.root / "state"), str(cloud.root / name / "state"))
        self.socket = self.config.parent / "daemon.sock"
        listen, advertise = [f"unix:{self.socket}"], ""
        if machine is not None:
            listen.append(f"tls://{machine.there}:{PORT}")
            advertise = f'\nadvertise = "tls://{machine.there}:{PORT}"'
        text = text.replace(f'listen = "unix:{cloud.socket}"',
                            f'listen = {json.dumps(listen)}\nname = "{name}"\norder = {order}\n'
                            f'standby = true{advertise}')
        self.config.write_text(text)

    def start(self):
        # Files of its own: it can be cut from the sites. Mounts that it saw there would stay in use.
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c",
                   "awk '$3 ~ /^fuse/ {print $2}' /proc/self/mounts | xargs -r -n1 umount -l; "
                   'exec "$@"', "sh", BUILD / "bin" / "datacloudd", "--config", self.config, "-f"]
        if self.machine is not None:
            command = self.machine.command(*command)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=_die_with_parent)
        self.cloud._note_process(self.process.pid)

    def alive(self):
        if self.process.poll() is not None:
            raise CloudError(f"the daemon {self.name} ended: {tail(self.log, 5)}")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        self.process.terminate()
        if self.process.wait(60) != 0:
            raise CloudError(f"the daemon {self.name} did not end well: {tail(self.log, 5)}")

    def _in_its_files(self, *command):
        subprocess.run(["nsenter", f"--mount=/proc/{self.process.pid}/ns/mnt", *map(str, command)],
                       check=True, capture_output=True)

    def cut_from_sites(self):
        """It sees empty folders in place of them; everybody else sees the sites."""
        self._in_its_files("mount", "-t", "tmpfs", "none", self.cloud.root / "sites")

    def mend_sites(self):
        self._in_its_files("umount", "-l", self.cloud.root / "sites")

    def stop(self):
        self.process.send_signal(signal.SIGSTOP)

    def wake(self):
        self.process.send_signal(signal.SIGCONT)


class StandbyCloud(Cloud):
    """`east` leads, `west` stands by. Times are shorter than the defaults, for the test's sake.
    Without a switch both are on this machine, and so are mounts, without nodes."""

    def __init__(self, switch, nodes=0, stores="directory"):
        self.daemons = {}
        super().__init__(sites=3, code="rs-2-1", create=False, stores=stores)
        with open(self.config, "a") as text:
            text.write('\n[journal]\nleader_lease_ms = 1000\ntakeover_after_ms = 1000\n'
                       'leader_stay_ms = 3600000\n')
        machines = iter(switch.machines if switch else [None, None])
        for order, name in enumerate(("east", "west")):
            self.daemons[name] = Daemon(self, name, order, next(machines))
        self.config = self.daemons["east"].config
        self.tool("create", "--journal")
        self.leading, self.other = self.daemons["east"], self.daemons["west"]
        self.leading.start()
        wait_for(lambda: self.run_tool("status", "--json").returncode == 0, 30,
                 "the first daemon to serve")
        self.nodes = [Node(self, next(machines), f"node{i + 1}") for i in range(nodes)]
        for i, node in enumerate(self.nodes):
            roles = ["--role", "mount"] + (["--role", "admin"] if i == 0 else [])
            line = self.tool("node", "add", node.name, "--valid", "10min", *roles).strip()
            done = node.join(line)
            if done.returncode != 0:
                raise CloudError(f"{node.name} cannot join: {done.stderr}")
        self.other.start()
        self.wait_for_standby()

    def run_tool(self, *arguments, seconds=60):
        """At whichever daemon leads: by the first node once there are nodes."""
        if not getattr(self, "nodes", None) or not self.nodes[0].config.exists():
            return super().run_tool(*arguments, seconds=seconds)
        return self.nodes[0].run("datacloud", "--config", self.nodes[0].config,
                                 *map(str, arguments), seconds=seconds)

    def leader(self):
        if self.daemons and not getattr(self, "nodes", None):
            # Without nodes, who is asked on one's socket knows of no other one.
            for daemon in (self.leading, self.other):
                self.config = daemon.config
                done = self.run_tool("leader", "show", "--json")
                if done.returncode == 0:
                    return json.loads(done.stdout)
            return None
        done = self.run_tool("leader", "show", "--json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def wait_for_standby(self, seconds=60):
        """Until one leads, whichever, and the other one stands by and is caught up."""
        def settled():
            self.leading.alive()
            self.other.alive()
            told = self.leader()
            if not told or told["plan"] not in ("A", "B"):
                return False
            self.note_leader(told)
            return True
        wait_for(settled, seconds, "one daemon to lead and the other one to stand by")

    def find_leader(self, seconds=60):
        """After what may or may not have made the other one lead."""
        wait_for(lambda: self.note_leader(self.leader()), seconds, "a daemon to lead")

    def note_leader(self, told):
        names = [d["name"] for d in told["daemons"] if d["leads"]] if told else []
        if names and names[0] != self.leading.name:
            self.swap()
        return names

    def swap(self):
        self.leading, self.other = self.other, self.leading
        self.config = self.leading.config

    def close(self):
        if not self._closed:
            for daemon in self.daemons.values():
                if daemon.process is not None and daemon.process.poll() is None:
                    daemon.wake()
                    daemon.kill()
        super().close()
