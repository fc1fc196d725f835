"""Prometheus' metrics: both programs export them by the conventions, they tell the truth, and
dashboard, alerts and document use exactly the names that exist. And the support bundle."""

import io
import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import BUILD, Cloud, _die_with_parent, wait_for  # noqa: E402
from harness import check, check_equal  # noqa: E402

DOCS = Path(__file__).resolve().parents[2] / "docs"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Scrape:
    """One answer of /metrics: types, and values by name and labels."""

    def __init__(self, port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        self.types, self.values, self.helps = {}, {}, set()
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                self.types[name] = kind
            elif line.startswith("# HELP "):
                self.helps.add(line.split()[2])
            elif line:
                name, labels, value = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)(?: \d+)?",
                                                   line).groups()
                pairs = frozenset(re.findall(r'(\w+)="([^"]*)"', labels or ""))
                self.values[name, pairs] = float(value)

    def ours(self):
        return {name for name in self.types if name.startswith("datacloud_")}

    def get(self, name, **labels):
        return self.values[name, frozenset(labels.items())]

    def total(self, name):
        return sum(v for (n, _), v in self.values.items() if n == name)


def conventions(scrape, what):
    for name in scrape.ours():
        kind = scrape.types[name]
        if not re.fullmatch(r"datacloud_[a-z][a-z_]*", name):
            raise harness.CheckFailed(f"{name} is no Prometheus name")
        if (kind == "counter") != name.endswith("_total"):
            raise harness.CheckFailed(f"{name} is a {kind}")
        if re.search(r"_(ms|milliseconds|kb|mib|percent)\b", name):
            raise harness.CheckFailed(f"{name}: base units only")
        if name not in scrape.helps:
            raise harness.CheckFailed(f"{name} has no help")
    harness.note(f"ok: {what}: {len(scrape.ours())} metrics keep the conventions")


def names_in(text):
    return set(re.findall(r"\bdatacloud_[a-z_]+\b", text))


def documents_use_what_exists(exported):
    dashboard = json.loads((DOCS / "grafana-dashboard.json").read_text())
    shown = set()
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            shown |= names_in(target["expr"])
    alerts = set()
    rules = (DOCS / "alerts.yml").read_text()
    for expression in re.findall(r"^ *expr: (.*)$", rules, re.M):
        alerts |= names_in(expression)
    check_equal(shown - exported, set(), "the dashboard shows only metrics that exist")
    check_equal(alerts - exported, set(), "alerts watch only metrics that exist")
    check_equal(exported - shown, set(), "every metric is on the dashboard")
    chapter = (DOCS / "operations.md").read_text().split("\n## Metrics\n")[1].split("\n## ")[0]
    listed = set(re.findall(r"^\| `(datacloud_\w+)`", chapter, re.M))
    check_equal(listed, exported, "operations.md lists exactly the metrics that exist")


def support_bundle(cloud):
    out = cloud.root / "bundle.tar"
    cloud.tool("support-bundle", "--output", out)
    check_equal(out.stat().st_mode & 0o777, 0o600, "the bundle's mode")
    raw = out.read_bytes()
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        names = {Path(n).name for n in tar.getnames()}
    for name in ("versions.txt", "configuration.toml", "status.json", "keys.txt", "sites.txt"):
        check(name in names, f"the bundle holds {name}")
    for key in ("data.key", "service.key"):
        secret = re.search(r"^key (\w+)$", (cloud.root / key).read_text(), re.M)[1]
        check(len(secret) == 64 and secret.encode() not in raw
              and bytes.fromhex(secret) not in raw, f"and not {key}")


def keys_of(value, found=frozenset()):
    if isinstance(value, dict):
        for key, below in value.items():
            found = keys_of(below, found | {key})
    elif isinstance(value, list):
        for below in value:
            found = keys_of(below, found)
    return found


def json_is_documented(cloud):
    """status, top and fsck print no key that docs/status-json.md does not explain."""
    text = (DOCS / "status-json.md").read_text()
    for command in (["status"], ["top", "--rounds", "1", "--interval", "0.3"], ["fsck", "-n"]):
        answer = json.loads(cloud.tool(*command, "--json"))
        for free in ("operations", "requests_per_second"):  # keys are the requests' names
            answer.pop(free, None)
        unknown = {key for key in keys_of(answer) if not re.search(rf"\b{key}\b", text)}
        check_equal(unknown, set(), f"every key of {command[0]} --json is documented")


def served_site(cloud):
    """What the server of a site shows, after a peer that is no node."""
    port, metrics = free_port(), free_port()
    path = f'path = "{cloud.sites["site1"].path}"\n'
    config = cloud.root / "served.toml"
    config.write_text(cloud.config.read_text().replace(
        path, f'{path}serve = "tls://127.0.0.1:{port}"\nmetrics = "127.0.0.1:{metrics}"\n'))
    with open(cloud.root / "site1.log", "wb") as log:
        process = subprocess.Popen(
            [BUILD / "bin" / "datacloudd", "--site", "site1", "--config", config, "-f"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent)
    cloud._note_process(process.pid)

    def stranger():
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) != 0:
                return False
            s.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return s.recv(100) is not None
    wait_for(stranger, 20, "the site's server")
    wait_for(lambda: Scrape(metrics).total("datacloud_site_server_peers_refused_total"), 20,
             "the stranger to be counted")
    scrape = Scrape(metrics)
    process.terminate()
    check_equal(process.wait(20), 0, "the site's server ends cleanly")
    return scrape


def standby(cloud, daemon_port):
    """What a daemon that stands by shows, and what the leader then shows of it."""
    port = free_port()
    config = cloud.root / "standby.toml"
    config.write_text(cloud.config.read_text()
                      .replace(str(cloud.root / "state"), str(cloud.root / "standby-state"))
                      .replace(str(cloud.socket), str(cloud.root / "standby.sock"))
                      .replace(f"127.0.0.1:{daemon_port}", f"127.0.0.1:{port}")
                      .replace("[daemon]", '[daemon]\nname = "second"\norder = 1'))
    with open(cloud.root / "standby.log", "wb") as log:
        process = subprocess.Popen(
            [BUILD / "bin" / "datacloudd", "--standby", "--config", config, "-f"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_die_with_parent)
    cloud._note_process(process.pid)

    def connected():
        shown = Scrape(daemon_port)
        return ("datacloud_leader_standby_connected" in shown.ours()
                and shown.get("datacloud_leader_standby_connected", daemon="second") == 1)
    wait_for(connected, 60, "the standby to be noted")
    wait_for(lambda: Scrape(port).get("datacloud_standby_leader_answers") == 1, 20,
             "the standby to be answered")
    leader, scrape = Scrape(daemon_port), Scrape(port)
    check_equal(leader.get("datacloud_leader"), 1, "the leader leads")
    check_equal(scrape.get("datacloud_leader"), 0, "the standby does not")
    process.terminate()
    check_equal(process.wait(20), 0, "the standby ends cleanly")
    cloud.tool("leader", "show")
    return leader, scrape


def test(options):
    daemon_port, mount_port = free_port(), free_port()
    with Cloud(create=False) as cloud:
        cloud.write_config(daemon={"metrics": f"127.0.0.1:{daemon_port}", "log_format": "json"})
        cloud.tool("create", "--journal")
        cloud.start_daemon()
        mount = cloud.mount(f"metrics=127.0.0.1:{mount_port}")
        (mount / "file").write_bytes(os.urandom(3 << 20))
        os.sync()
        wait_for(lambda: Scrape(daemon_port).get("datacloud_logical_bytes") >= 3 << 20, 30,
                 "the daemon's metrics to tell what was written")
        daemon, own = Scrape(daemon_port), Scrape(mount_port)
        conventions(daemon, "daemon")
        conventions(own, "mount")
        site = served_site(cloud)
        conventions(site, "site server")
        leader, second = standby(cloud, daemon_port)
        conventions(leader, "leader")
        conventions(second, "standby")
        documents_use_what_exists(daemon.ours() | own.ours() | site.ours() | leader.ours()
                                  | second.ours())
        check_equal(site.get("datacloud_site_server_connections_total"), 0, "nobody is admitted")
        check(site.total("datacloud_site_server_peers_refused_total") >= 1, "a stranger is counted")
        wait_for(lambda: Scrape(daemon_port).total("datacloud_mount_round_trip_seconds") > 0, 30,
                 "the mount's round trip")

        check_equal(daemon.get("datacloud_health"), 0, "health is ok")
        check_equal(daemon.total("datacloud_site_up"), 5, "five sites are up")
        check_equal(daemon.get("datacloud_mounts", connected="true"), 1, "one mount")
        status = cloud.status()
        check_equal(daemon.get("datacloud_stored_bytes"), status["capacity"]["stored_bytes"],
                    "stored bytes are those of status")
        check(own.total("datacloud_mount_site_written_bytes_total") > 5 << 20,
              "the mount counts what it wrote")
        check(own.get("datacloud_mount_operations_total") > 3, "and its operations")

        json_is_documented(cloud)
        cloud.take_away("site2")
        wait_for(lambda: Scrape(daemon_port).get("datacloud_site_up", site="site2") == 0, 30,
                 "a site that is away to be told")
        check_equal(Scrape(daemon_port).get("datacloud_health"), 1, "health is degraded")
        wait_for(lambda: Scrape(mount_port).get("datacloud_mount_site_up", site="site2") == 0, 30,
                 "and by the mount")
        cloud.put_back("site2")
        support_bundle(cloud)

        mount.unmount()
        cloud.stop_daemon()
        lines = (cloud.root / "daemon.log").read_text().splitlines()
        parsed = [json.loads(line) for line in lines]
        check(parsed and all({"time", "level", "program", "pid", "message"} <= set(p)
                             for p in parsed), f"{len(lines)} log lines are JSON objects")


if __name__ == "__main__":
    harness.main(test, 180)
