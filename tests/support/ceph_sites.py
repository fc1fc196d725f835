"""Real single-OSD Ceph clusters for tests, each a site of its own, behind a wide-area network.

Each site is a ceph-mon and a ceph-osd (BlueStore on a sparse file), with cephx and without mgr, in
a network namespace that site_relay made; clients in the root namespace reach it through the relay,
which delays, limits, loses and cuts. With --plain there are neither namespaces nor a relay: the
clusters listen on 127.0.0.1.

Everything of one set of sites is below one directory, and every process of it names that
directory in its command line: that is how `down` finds what to end, also after a crash of the one
who started it. Only such processes are ever killed.
"""

import argparse
import base64
import concurrent.futures
import json
import os
import re
import secrets
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
from pathlib import Path

BASE = Path(os.environ.get("DATACLOUD_TEST_DIR", "/var/tmp"))
OWNED = "dcsites-"  # with-ceph-sites.sh: BASE/dcsites-PID belongs to the process PID
SOURCE = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("DATACLOUD_BUILD", SOURCE / "build"))
STATE = "sites.json"
USER = "client.datacloud"
POOL = "datacloud"
GIB = 1 << 30
FULL_FORCE = 128  # LIBRADOS_OPERATION_FULL_FORCE


class SitesError(Exception):
    pass


# --- quantities ---------------------------------------------------------------------------------


def quantity(text, units, what):
    match = re.fullmatch(r"([0-9.]+)\s*([A-Za-z%]*)", text)
    if not match or match[2].lower() not in units:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}; units: {' '.join(units)}")
    return float(match[1]) * units[match[2].lower()]


def nanoseconds(text):
    return int(quantity(text, {"us": 1e3, "ms": 1e6, "s": 1e9}, "a time"))


def bits(text):
    return int(quantity(text, {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}, "a rate"))


def ppm(text):
    return int(quantity(text, {"%": 1e4, "ppm": 1}, "a loss"))


def size(text):
    return int(quantity(text, {"": 1, "m": 1 << 20, "g": GIB}, "a size"))


# --- processes ----------------------------------------------------------------------------------


def command_line(pid):
    """The words of a living process, [] when there is none (a zombie has none either)."""
    for _ in range(200):  # for a moment in its exec a process has no words either
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
            kernel_thread = words == "" and not os.path.exists(f"/proc/{pid}/exe")
        except (OSError, IndexError):
            return []
        if words or state in "ZX" or kernel_thread:
            return words.split("\0")[:-1]
        time.sleep(0.005)
    return []


def belongs(pid, directory):
    """Whether a process is one that was started for this directory or something below it."""
    words = command_line(pid)
    inside = str(directory) + "/"
    programs = {"ceph-mon", "ceph-osd", "ceph-mgr", "ceph-mds", "ceph-fuse", "site_relay", "nsenter"}
    return bool(words) and os.path.basename(words[0]) in programs and any(
        word.startswith(inside) or word == str(directory) for word in words)


def processes_of(directory):
    return [int(p.name) for p in Path("/proc").iterdir()
            if p.name.isdigit() and belongs(int(p.name), directory)]


def end_process(pid, directory, signals=((signal.SIGTERM, 15), (signal.SIGKILL, 10))):
    """Ends one of our processes; nothing when it is not (or no longer) ours."""
    for number, seconds in signals:
        if not belongs(pid, directory):
            return
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        if seconds == 0:
            return
        end = time.monotonic() + seconds
        while belongs(pid, directory) and time.monotonic() < end:
            time.sleep(0.01)
    if belongs(pid, directory):
        raise SitesError(f"process {pid} does not end: {' '.join(command_line(pid))}")


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          timeout=120, **options)
    if done.returncode != 0:
        raise SitesError(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stderr}")
    return done.stdout


# --- one site -----------------------------------------------------------------------------------


def new_key():
    """A cephx secret: type AES, time, 16 random bytes."""
    header = struct.pack("<HIIH", 1, int(time.time()), 0, 16)
    return base64.b64encode(header + secrets.token_bytes(16)).decode()


def osd_capability(pools):
    """The least a cloud needs at a site: its pools' objects and our class's methods, nothing else."""
    return ", ".join(f"allow rwx pool={pool}" for pool in pools)


class Site:
    def __init__(self, directory, state):
        self.top, self.state = Path(directory), state
        self.name = state["name"]
        self.dir = self.top / self.name
        self.conf = self.dir / "ceph.conf"

    # Files.

    def write_files(self, options, class_dir):
        self.dir.mkdir()
        s = self.state
        address = s["address"]
        lines = [
            "[global]", f"fsid = {s['fsid']}", f"mon_host = v2:{address}:{s['port']}",
            "mon_initial_members = a",
            "auth_cluster_required = cephx", "auth_service_required = cephx",
            "auth_client_required = cephx", f"keyring = {self.dir}/ceph.$name.keyring",
            "osd_pool_default_size = 1", "osd_pool_default_min_size = 1",
            "osd_pool_default_pg_autoscale_mode = off", "osd_crush_chooseleaf_type = 0",
            "mon_allow_pool_size_one = true", "ms_bind_msgr1 = false",
            "[mon]", f"mon_data = {self.dir}/mon", f"run_dir = {self.dir}",
            f"admin_socket = {self.dir}/mon.asok", f"public_addr = {address}:{s['port']}",
            f"log_file = {self.dir}/mon.log", "mon_cluster_log_file = /dev/null",
            "mon_data_avail_warn = 1", "mon_data_avail_crit = 1", "paxos_propose_interval = 0.05",
            "auth_allow_insecure_global_id_reclaim = false",
            "[osd]", f"osd_data = {self.dir}/osd", f"run_dir = {self.dir}",
            f"admin_socket = {self.dir}/osd.asok", f"public_addr = {address}",
            f"cluster_addr = {address}", f"log_file = {self.dir}/osd.log",
            f"keyring = {self.dir}/osd/keyring",
            "osd_objectstore = bluestore", f"bluestore_block_size = {options.osd_bytes}",
            "bluestore_block_create = true", "bluestore_block_preallocate_file = false",
            f"osd_memory_target = {options.memory_target}", "osd_crush_initial_weight = 1",
            "osd_heartbeat_interval = 1", "osd_max_object_name_len = 256", "osd_max_object_namespace_len = 64",
        ]
        lines += ["[mgr]", f"mgr_data = {self.dir}/mgr", f"run_dir = {self.dir}",
                  f"admin_socket = {self.dir}/mgr.asok", f"public_addr = {address}",
                  f"log_file = {self.dir}/mgr.log", f"keyring = {self.dir}/mgr/keyring",
                  "mgr_initial_modules =", f"mgr_module_path = {self.dir}/mgr/modules",
                  "mgr_stats_period = 1"]
        lines += ["[mds]", f"mds_data = {self.dir}/mds", f"run_dir = {self.dir}",
                  f"admin_socket = {self.dir}/mds.asok", f"public_addr = {address}",
                  f"log_file = {self.dir}/mds.log", f"keyring = {self.dir}/mds/keyring"]
        lines += ["[osd]", "mgr_stats_period = 1"]  # what follows is the OSD's as well
        if s["plain"]:
            lines += [f"ms_bind_port_min = {s['port'] + 1}", f"ms_bind_port_max = {s['port'] + 15}"]
        if class_dir:
            lines += [f"osd_class_dir = {class_dir}", "osd_class_load_list = *",
                      "osd_class_default_list = *"]
        self.conf.write_text("\n".join(lines) + "\n")
        allow_all = {"mon": "allow *", "osd": "allow *", "mgr": "allow *", "mds": "allow *"}
        users = {"mon.": {"mon": "allow *"}, "client.admin": allow_all,
                 "osd.0": {"mon": "allow profile osd", "osd": "allow *", "mgr": "allow profile osd"},
                 "mgr.x": {"mon": "allow profile mgr", "osd": "allow *", "mds": "allow *"},
                 "mds.a": {"mon": "allow profile mds", "osd": "allow rwx", "mgr": "allow *"},
                 USER: {"mon": "allow r", "osd": osd_capability(s["pools"])}}
        if options.bare:
            del users[USER]
        for kind in ("mon", "osd", "mgr", "mgr/modules", "mds"):
            (self.dir / kind).mkdir()
        places = {"client.admin": self.dir / "ceph.client.admin.keyring",
                  USER: self.dir / f"ceph.{USER}.keyring", "mgr.x": self.dir / "mgr/keyring",
                  "mds.a": self.dir / "mds/keyring",
                  "osd.0": self.dir / "osd/keyring"}
        seed = ""
        for user, caps in users.items():
            entry = f"[{user}]\n\tkey = {new_key()}\n"
            seed += entry + "".join(f'\tcaps {kind} = "{cap}"\n' for kind, cap in caps.items())
            if user in places:
                places[user].write_text(entry)
                places[user].chmod(0o600)
        (self.dir / "seed.keyring").write_text(seed)
        (self.dir / "seed.keyring").chmod(0o600)

    # Processes.

    def inside(self):
        return [] if self.state["plain"] else ["nsenter", f"--net={self.state['namespace']}"]

    def pid(self, kind):
        """The living daemon's process id, or None."""
        try:
            pid = int((self.dir / f"{kind}.pid").read_text())
        except (OSError, ValueError):
            return None
        return pid if belongs(pid, self.dir) else None

    def start(self, kind):
        if self.pid(kind):
            return
        words = self.inside() + [f"ceph-{kind}", "-f", "-i", {"mon": "a", "osd": "0", "mgr": "x", "mds": "a"}[kind],
                                 "-c", str(self.conf)]
        with open(self.dir / f"{kind}.out", "ab") as out:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                       start_new_session=True, cwd="/")
        (self.dir / f"{kind}.pid").write_text(f"{process.pid}\n")

    def stop(self, kind, kill=False):
        pid = self.pid(kind)
        if pid is None:
            return
        if kill:
            end_process(pid, self.dir, ((signal.SIGKILL, 20),))
        else:
            end_process(pid, self.dir, ((signal.SIGTERM, 30), (signal.SIGKILL, 20)))

    def make_mon(self):
        s = self.state
        monmap = self.dir / "monmap"
        run("monmaptool", "--create", "--fsid", s["fsid"], "--addv", "a",
            f"[v2:{s['address']}:{s['port']}]", monmap)
        run("ceph-mon", "--mkfs", "-i", "a", "-c", self.conf, "--monmap", monmap, "--keyring",
            self.dir / "seed.keyring")
        (self.dir / "seed.keyring").unlink()

    def make_osd(self):
        run("ceph-osd", "--mkfs", "--no-mon-config", "-i", "0", "-c", self.conf, "--osd-uuid",
            self.state["osd"])

    # Commands to the monitor.

    def connect(self, seconds=30):
        import rados  # Debian's, only here: printing a configuration does not need it

        end = time.monotonic() + seconds
        while True:
            cluster = rados.Rados(conffile=str(self.conf), name="client.admin",
                                  conf={"client_mount_timeout": "5"})
            try:
                cluster.connect(timeout=5)
                return cluster
            except rados.Error as error:
                cluster.shutdown()
                if time.monotonic() > end or self.pid("mon") is None:
                    raise SitesError(f"{self.name}: the monitor does not answer: {error}; see "
                                     f"{self.dir}/mon.log") from None
                time.sleep(0.1)

    def command(self, cluster, prefix, **arguments):
        data = arguments.pop("inbuf", b"")
        status, out, text = cluster.mon_command(
            json.dumps({"prefix": prefix, "format": "json", **arguments}), data, timeout=30)
        if status != 0:
            raise SitesError(f"{self.name}: {prefix}: {text} ({status})")
        return out

    def wait_for_osd(self, cluster, seconds=60):
        end = time.monotonic() + seconds
        while True:
            # The map tells a restarted OSD from the dead one by the process id in its address.
            osds = json.loads(self.command(cluster, "osd dump"))["osds"]
            if osds and osds[0]["up"] and osds[0]["public_addr"].endswith(f"/{self.pid('osd')}"):
                return
            if time.monotonic() > end or self.pid("osd") is None:
                raise SitesError(f"{self.name}: the OSD does not come up; see {self.dir}/osd.log")
            time.sleep(0.1)

    def write_something(self, cluster):
        """Returns once the first pool serves."""
        with cluster.open_ioctx(POOL) as io:
            io.write_full("ready", b"")
            io.remove_object("ready")

    def wait_for_statistics(self, cluster, seconds=90):
        end = time.monotonic() + seconds
        while json.loads(self.command(cluster, "df"))["stats"]["total_bytes"] == 0:
            if time.monotonic() > end or self.pid("mgr") is None:
                raise SitesError(f"{self.name}: no statistics; see {self.dir}/mgr.log")
            time.sleep(0.2)

    def make_pool(self, cluster, name, **arguments):
        self.command(cluster, "osd pool create", pool=name, pg_num=16, pgp_num=16, **arguments)
        self.command(cluster, "osd pool application enable", pool=name, app="datacloud")

    def allow_pool(self, cluster, name):
        if name not in self.state["pools"]:
            self.state["pools"].append(name)
        self.command(cluster, "auth caps", entity=USER,
                     caps=["mon", "allow r", "osd", osd_capability(self.state["pools"])])

    def bring_up(self, options, class_dir):
        self.write_files(options, class_dir)
        self.make_mon()
        self.start("mon")
        self.make_osd()
        cluster = self.connect()
        try:
            self.command(cluster, "osd new", uuid=self.state["osd"])
            self.start("osd")
            if not options.bare:
                self.make_pool(cluster, POOL)
            self.wait_for_osd(cluster)
            if not options.bare:
                self.write_something(cluster)
            if options.mgr:
                self.start("mgr")
                self.wait_for_statistics(cluster)
        finally:
            cluster.shutdown()


# --- a set of sites -----------------------------------------------------------------------------


class Sites:
    """The sites below one directory."""

    def __init__(self, directory):
        self.dir = Path(directory).absolute()
        try:
            self.state = json.loads((self.dir / STATE).read_text())
        except (OSError, ValueError):
            raise SitesError(f"no sites are up at {self.dir} (give --dir)") from None
        self.sites = [Site(self.dir, s) for s in self.state["sites"]]

    def save(self):
        temporary = self.dir / (STATE + ".new")
        temporary.write_text(json.dumps(self.state, indent=1))
        temporary.rename(self.dir / STATE)

    def site(self, which):
        for number, site in enumerate(self.sites, 1):
            if which in (site.name, str(number)):
                return site
        raise SitesError(f"no site {which!r}: there are {', '.join(s.name for s in self.sites)}")

    def ask_relay(self, text):
        if self.state["plain"]:
            raise SitesError("sites started with --plain have no network to control")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
            control.settimeout(20)
            try:
                control.connect(relay_socket(self.dir))
                control.send(text.encode())
                return control.recv(1 << 16).decode()
            except OSError as error:
                raise SitesError(f"the relay does not answer: {error}") from None

    def tell_relay(self, text):
        reply = self.ask_relay(text)
        if reply != "ok":
            raise SitesError(f"relay: {text}: {reply}")

    def link(self, site, rtt=None, rate=None, loss=None, cut=False, heal=False):
        number = self.sites.index(site) + 1
        if rtt is not None or rate is not None or loss is not None:
            half = -1 if rtt is None else rtt // 2
            self.tell_relay(f"link {number} {half} {-1 if rate is None else rate} "
                            f"{-1 if loss is None else loss}")
        if cut or heal:
            self.tell_relay(f"{'cut' if cut else 'heal'} {number}")

    def link_as_started(self):
        for site in self.sites:
            self.link(site, heal=True, **self.state["link"])

    def counters(self):
        rows = json.loads(self.ask_relay("counters"))
        return [{"name": site.name, **row} for site, row in zip(self.sites, rows)]


def relay_socket(directory):
    """A short name through /proc, since socket paths are limited to 107 bytes."""
    path = str(Path(directory) / "relay.sock")
    if len(path) >= 107:
        raise SitesError(f"{directory}: give a directory with a shorter name")
    return path


def relay_program(directory):
    for place in (BUILD / "tests" / "site_relay", directory / "site_relay"):
        if os.access(place, os.X_OK):
            return place
    built = directory / "site_relay"
    run("g++", "-std=c++20", "-O2", "-o", built, SOURCE / "tests/support/site_relay.cc")
    return built


def start_relay(directory, count, mtu):
    program = relay_program(directory)
    with open(directory / "relay.log", "wb") as log:
        process = subprocess.Popen([program, str(count), relay_socket(directory), str(mtu)],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                                   start_new_session=True, cwd="/")
    (directory / "relay.pid").write_text(f"{process.pid}\n")
    line = process.stdout.readline()
    process.stdout.close()
    if not line:
        raise SitesError("the relay did not start: " + (directory / "relay.log").read_text()
                         + "(root and /dev/net/tun are needed; --plain does without)")
    return json.loads(line)


def free_port_block(taken):
    """16 free ports in a row on 127.0.0.1, below the range the kernel gives out by itself."""
    for _ in range(200):
        first = 20000 + 16 * secrets.randbelow(750)
        if first in taken:
            continue
        try:
            for port in range(first, first + 16):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        taken.add(first)
        return first
    raise SitesError("no free ports")


def class_directory(directory, given):
    """The stock classes of this machine and ours beside them; None when ours is not built."""
    ours = given
    if ours is None:
        found = [p for pattern in ("libcls_datacloud.so", "*/libcls_datacloud.so",
                                   "*/*/libcls_datacloud.so") for p in BUILD.glob(pattern)]
        ours = found[0] if found else None
    if ours is None:
        return None
    if not Path(ours).is_file():
        raise SitesError(f"--class {ours}: no such file")
    classes = directory / "classes"
    classes.mkdir()
    for stock in Path("/usr/lib").glob("*/rados-classes/libcls_*.so"):
        (classes / stock.name).symlink_to(stock)
    (classes / "libcls_datacloud.so").unlink(missing_ok=True)
    # A copy: building again must not change what a running OSD has mapped.
    shutil.copy(ours, classes / "libcls_datacloud.so")
    return classes


def take_down(directory):
    """Kills every process that belongs to the directory, then removes it."""
    directory = Path(directory).absolute()
    for _ in range(10):  # a starter that still lives may add some
        pids = processes_of(directory)
        for pid in pids:
            end_process(pid, directory, ((signal.SIGKILL, 0),))
        for pid in pids:
            end_process(pid, directory, ((signal.SIGKILL, 20),))
        if not pids:
            break
    if (directory / STATE).exists():
        shutil.rmtree(directory, ignore_errors=True)


def clean_stale():
    """Takes down what dead owners have left."""
    for directory in BASE.glob(OWNED + "*"):
        owner = directory.name[len(OWNED):]
        if owner.isdigit() and not command_line(owner):
            take_down(directory)


def watch(directory, owner):
    """A process of its own that takes the sites down when their owner has ended."""
    if os.fork() > 0:
        return
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    try:
        handle = os.pidfd_open(owner)
        while (directory / STATE).exists():
            if select.select([handle], [], [], 2)[0]:
                break
    except OSError:
        pass  # it has ended already
    take_down(directory)
    os._exit(0)


def bring_up(options):
    directory = Path(options.dir).absolute()
    clean_stale()
    if (directory / STATE).exists():
        take_down(directory)
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise SitesError(f"{directory} is not empty and holds no sites: refused")
    state = {"plain": options.plain, "sites": [],
             "link": {"rtt": options.rtt, "rate": options.rate, "loss": options.loss}}
    (directory / STATE).write_text(json.dumps(state))
    if options.owner:
        watch(directory, options.owner)
    try:
        classes = None if options.no_class or options.bare else class_directory(directory, options.class_file)
        ports = set()
        if options.plain:
            places = [{"address": "127.0.0.1", "port": free_port_block(ports)}
                      for _ in range(options.count)]
        else:
            relay = start_relay(directory, options.count, options.mtu)
            state["device"], state["client"] = relay["device"], relay["client"]
            places = [{"port": 3300, **place} for place in relay["sites"]]
        state["class"] = str(classes) if classes else None
        state["sites"] = [{"name": f"site{number}", "plain": options.plain, "fsid": str(uuid.uuid4()),
                           "osd": str(uuid.uuid4()), "pools": [] if options.bare else [POOL],
                           **place}
                          for number, place in enumerate(places, 1)]
        (directory / STATE).write_text(json.dumps(state, indent=1))
        sites = Sites(directory)
        with concurrent.futures.ThreadPoolExecutor(options.count) as pool:
            for done in [pool.submit(s.bring_up, options, classes) for s in sites.sites]:
                done.result()
        if not options.plain:
            sites.link_as_started()
    except BaseException:
        if options.keep:
            print(f"kept for a look: {directory}", file=sys.stderr)
        else:
            take_down(directory)
        raise


# --- command line -------------------------------------------------------------------------------


def site_toml(site, pool=POOL, name=None):
    return (f'[[site]]\nname = "{name or site.name}"\nstore = "rados"\nconf = "{site.conf}"\n'
            f'user = "{USER}"\nkeyring = "{site.dir}/ceph.{USER}.keyring"\npool = "{pool}"\n')


def show_status(sites, options):
    rows = []
    links = [{}] * len(sites.sites) if sites.state["plain"] else sites.counters()
    for site, link in zip(sites.sites, links):
        row = {"name": site.name, "address": site.state["address"], "port": site.state["port"],
               "pools": site.state["pools"], "mon": site.pid("mon"), "osd": site.pid("osd")}
        rows.append({**row, **{k: v for k, v in link.items() if k not in row}})
    if options.json:
        print(json.dumps({"directory": str(sites.dir), "class": sites.state["class"],
                          "sites": rows}))
        return
    print(f"{sites.dir}: {len(rows)} sites, class {sites.state['class'] or 'not installed'}")
    for row in rows:
        daemons = ", ".join(f"{kind} {'up' if row[kind] else 'down'}" for kind in ("mon", "osd"))
        link = "" if sites.state["plain"] else (
            "; link cut" if row["cut"] else
            f"; round trip {row['rtt_ms']:g} ms, {row['rate_bits'] / 1e6:g} Mbit/s (0: no limit), "
            f"loss {row['loss_ppm'] / 1e4:g} %")
        print(f"  {row['name']} {row['address']}:{row['port']}: {daemons}{link}")


def show_counters(sites, options):
    rows = sites.counters()
    if options.json:
        print(json.dumps(rows))
        return
    for row in rows:
        for way in ("to_site", "from_site"):
            c = row[way]
            print(f"{row['name']} {way}: {c['bytes']} bytes of IP payload, {c['tcp_bytes']} within "
                  f"TCP, {c['packets']} packets, {c['dropped']} lost")


def make_ec_pool(sites, site, name):
    """k=2 m=1 over the one OSD, by a rule that takes it three times."""
    cluster = site.connect()
    try:
        compiled, text = site.dir / "crush", site.dir / "crush.txt"
        compiled.write_bytes(site.command(cluster, "osd getcrushmap"))
        run("crushtool", "-d", compiled, "-o", text)
        if "rule thrice " not in text.read_text():
            takes = "\tstep take osd.0\n\tstep emit\n" * 3
            text.write_text(text.read_text().replace("# end crush map", (
                "rule thrice {\n\tid 7\n\ttype erasure\n\tmin_size 3\n\tmax_size 3\n" + takes
                + "}\n# end crush map")))
            run("crushtool", "-c", text, "-o", compiled)
            site.command(cluster, "osd setcrushmap", inbuf=compiled.read_bytes())
        site.command(cluster, "osd erasure-code-profile set", name="k2m1",
                     profile=["k=2", "m=1", "crush-failure-domain=osd"])
        site.make_pool(cluster, name, pool_type="erasure", erasure_code_profile="k2m1",
                       rule="thrice")
        site.allow_pool(cluster, name)
    finally:
        cluster.shutdown()
    sites.save()


def make_pool(sites, site, name):
    cluster = site.connect()
    try:
        site.make_pool(cluster, name)
        site.allow_pool(cluster, name)
    finally:
        cluster.shutdown()
    sites.save()


def make_cephfs(sites, site):
    """An MDS, and a file system with a data pool of size 1 and an erasure-coded one, for comparison."""
    make_pool(sites, site, "cephfs-meta")
    make_pool(sites, site, "cephfs-data")
    make_ec_pool(sites, site, "cephfs-coded")
    cluster = site.connect()
    try:
        site.command(cluster, "osd pool set", pool="cephfs-coded", var="allow_ec_overwrites",
                     val="true")
        for pool in ("cephfs-meta", "cephfs-data", "cephfs-coded"):
            site.command(cluster, "osd pool application enable", pool=pool, app="cephfs",
                         yes_i_really_mean_it=True)
        site.command(cluster, "fs new", fs_name="cephfs", metadata="cephfs-meta",
                     data="cephfs-data")
        site.command(cluster, "fs add_data_pool", fs_name="cephfs", pool="cephfs-coded")
        site.start("mds")
        end = time.monotonic() + 60
        while b"up:active" not in site.command(cluster, "fs dump"):
            if time.monotonic() > end or site.pid("mds") is None:
                raise SitesError(f"{site.name}: the MDS does not become active; see "
                                 f"{site.dir}/mds.log")
            time.sleep(0.2)
    finally:
        cluster.shutdown()


def empty(site, pool, namespace):
    """Removes all objects of a namespace, many at a time, also from a full pool."""
    import rados

    cluster = site.connect()
    try:
        with cluster.open_ioctx(pool) as io:
            io.set_namespace(namespace)
            names = [found.key for found in io.list_objects()]
            for first in range(0, len(names), 200):
                calls = []
                for name in names[first:first + 200]:
                    with rados.WriteOpCtx() as op:
                        op.remove()
                        calls.append(io.operate_aio_write_op(op, name, flags=FULL_FORCE))
                for call in calls:
                    call.wait_for_complete()
    finally:
        cluster.shutdown()


def wait_until_up(site):
    # Two connections: one that has seen the old OSD in the map asks for a newer after 10 s only.
    for step in (site.wait_for_osd, site.write_something):
        cluster = site.connect()
        try:
            step(cluster)
        finally:
            cluster.shutdown()


def start(site, *kinds):
    for kind in kinds:
        site.start(kind)


def restart(site):
    for kind in ("osd", "mon"):
        site.stop(kind)
    start(site, "mon", "osd")


def reset(sites):
    """Undoes what a test that died may have left: cut links, stopped and ended daemons."""
    if not sites.state["plain"]:
        sites.link_as_started()
    for site in sites.sites:
        for pid in filter(None, map(site.pid, ("mon", "osd"))):
            os.kill(pid, signal.SIGCONT)
        missing = [kind for kind in ("mon", "osd") if site.pid(kind) is None]
        start(site, *missing)
        if missing:
            wait_until_up(site)


def ask_monitor(site, prefix, words):
    """A monitor command by its JSON name; the `ceph` program wants a whole ceph-mgr."""
    arguments = {}
    for word in words:
        key, _, value = word.partition("=")
        try:
            arguments[key] = json.loads(value)
        except ValueError:
            arguments[key] = value
    cluster = site.connect()
    try:
        print(site.command(cluster, prefix, **arguments).decode())
    finally:
        cluster.shutdown()


def ceph_command(site, words):
    environment = {**os.environ, "CEPH_CONF": str(site.conf), "CEPH_ARGS": ""}
    os.execvpe("nsenter" if site.inside() else words[0], site.inside() + words, environment)


def parse(arguments):
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--dir", default=os.environ.get("DATACLOUD_CEPH_SITES",
                                                        str(BASE / "ceph-sites")),
                        help="where everything of these sites is (default: $DATACLOUD_CEPH_SITES "
                             "or %(default)s)")
    parser = argparse.ArgumentParser(prog="ceph-sites.sh", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)

    def verb(name, text, site=False, json_option=False):
        sub = verbs.add_parser(name, parents=[common], help=text, description=text)
        if site:
            sub.add_argument("site", metavar="SITE", help="its name or number")
        if json_option:
            sub.add_argument("--json", action="store_true")
        return sub

    def link_options(sub, unset):
        sub.add_argument("--rtt", type=nanoseconds, default=unset, help="round trip, as 35ms")
        sub.add_argument("--rate", type=bits, default=unset, help="each way, as 200mbit (0mbit: any)")
        sub.add_argument("--loss", type=ppm, default=unset, help="of packets each way, as 0.1%%")

    up = verb("up", "start N sites (and take down what is at the directory)")
    up.add_argument("count", metavar="N", type=int, choices=range(1, 33))
    link_options(up, 0)
    up.add_argument("--mgr", action="store_true", help="with a ceph-mgr, for free space and `ceph df`")
    up.add_argument("--mtu", type=int, default=1500)
    up.add_argument("--plain", action="store_true", help="on 127.0.0.1, without a network between")
    up.add_argument("--class", dest="class_file", metavar="PATH", help="our OSD class "
                    "(default: libcls_datacloud.so of the build directory when it is there)")
    up.add_argument("--no-class", action="store_true")
    up.add_argument("--bare", action="store_true", help="no pool, no user of ours, no class")
    up.add_argument("--osd-bytes", type=size, default=20 * GIB, help="as 20G; the file is sparse")
    up.add_argument("--memory-target", type=size, default=size("900M"), help="of each OSD")
    up.add_argument("--owner", type=lambda t: os.getppid() if t == "parent" else int(t),
                    metavar="PID", help="take down when this process (or `parent`) ends")
    up.add_argument("--keep", action="store_true", help="when the start fails, leave logs for a look")
    verb("down", "end everything and remove the directory")
    verb("clean", "take down what owners that no longer live have left")
    verb("status", "what runs, and how the links are", json_option=True)
    verb("counters", "bytes the relay has passed, per site and way", json_option=True)
    verb("reset", "links as at the start, and every daemon running")
    verb("config-snippet", "the [[site]] parts of a cloud's configuration")
    link = verb("link", "change a site's link", site=True)
    link_options(link, None)
    link.add_argument("--cut", action="store_true")
    link.add_argument("--heal", action="store_true")
    for name, text in (("start-osd", "start the OSD"), ("start-mon", "start the monitor"),
                       ("restart", "stop and start monitor and OSD"),
                       ("wait", "until monitor and OSD serve")):
        verb(name, text, site=True)
    verb("cephfs", "a CephFS beside, with a pool of size 1 and an erasure-coded one", site=True)
    for name, text in (("kill-osd", "end the OSD; -9 without a warning"),
                       ("stop-mon", "end the monitor")):
        verb(name, text, site=True).add_argument("-9", dest="kill", action="store_true")
    for name, text in (("pool", "one more pool"), ("ec-pool", "an erasure-coded pool, k=2 m=1")):
        verb(name, text + ", which client.datacloud may use", site=True).add_argument("name")
    ask = verb("monitor", "a monitor command, as: 'osd set-full-ratio' ratio=0.5", site=True)
    ask.add_argument("prefix")
    ask.add_argument("words", nargs="*", metavar="KEY=VALUE")
    clear = verb("empty", "remove all objects of a namespace", site=True)
    clear.add_argument("pool")
    clear.add_argument("namespace")
    execute = verb("exec", "run a command, such as `ceph -s`, in the site's network", site=True)
    execute.add_argument("words", nargs=argparse.REMAINDER)
    return parser.parse_args(arguments)


def obey(options):
    if options.verb == "up":
        began = time.monotonic()
        bring_up(options)
        print(f"{options.count} sites are up at {options.dir} after "
              f"{time.monotonic() - began:.1f} s; client.admin and {USER} have their keyrings there")
        return
    if options.verb == "down":
        return take_down(options.dir)
    if options.verb == "clean":
        return clean_stale()
    sites = Sites(options.dir)
    site = sites.site(options.site) if "site" in options else None
    actions = {
        "status": lambda: show_status(sites, options),
        "counters": lambda: show_counters(sites, options),
        "config-snippet": lambda: print("\n".join(site_toml(s) for s in sites.sites), end=""),
        "reset": lambda: reset(sites),
        "link": lambda: sites.link(site, options.rtt, options.rate, options.loss, options.cut,
                                   options.heal),
        "kill-osd": lambda: site.stop("osd", options.kill),
        "stop-mon": lambda: site.stop("mon", options.kill),
        "start-osd": lambda: start(site, "osd"),
        "start-mon": lambda: start(site, "mon"),
        "restart": lambda: restart(site),
        "wait": lambda: wait_until_up(site),
        "cephfs": lambda: make_cephfs(sites, site),
        "pool": lambda: make_pool(sites, site, options.name),
        "ec-pool": lambda: make_ec_pool(sites, site, options.name),
        "monitor": lambda: ask_monitor(site, options.prefix, options.words),
        "empty": lambda: empty(site, options.pool, options.namespace),
        "exec": lambda: ceph_command(site, options.words),
    }
    actions[options.verb]()


def main():
    # A signal unwinds, so that what was started half-way is taken down.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))
    try:
        obey(parse(sys.argv[1:]))
    except SitesError as error:
        sys.exit(f"ceph-sites: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
