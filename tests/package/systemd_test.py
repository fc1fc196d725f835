"""The packages under systemd: what the documents show, in a machine of its own that boots.

A minimal root (minimal_root.py) with systemd is booted in name spaces (machine.py). There the
packages are installed, and the blocks of operations.md marked `systemd` are executed, with those of
"The first cloud" that they build on; around them everything that a unit promises must hold: ready
means serving, what dies or hangs is started again, nothing written is lost by stop, upgrade or
shutdown, all is back after a boot, and the daemon runs without root.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from doc_room import BUILD, SOURCE, chapter  # noqa: E402
from harness import check, check_equal  # noqa: E402
from machine import Machine  # noqa: E402

# apt: the documents install with it.
FURTHER = ("systemd", "apt")
CLUSTERS = SOURCE / "tests/support/ceph-sites.sh"
WITHOUT = "datacloud-osd-class_"  # where there are no OSDs
# What would talk to hardware or users, of which the machine has none.
MASKED = ("console-getty.service", "systemd-logind.service", "systemd-networkd.socket",
          "systemd-networkd.service", "systemd-remount-fs.service", "sys-kernel-debug.mount",
          "sys-kernel-tracing.mount")
WRITER = r"""
i=0
while [ ! -e /run/writer.stop ]; do
  i=$((i + 1))
  echo line $i | dd of=/datacloud/log conv=fsync,notrunc oflag=append status=none
  echo $i >/run/writer.count
done
"""


def make_root(root):
    debs = sorted(path for path in (BUILD / "packages").glob("*.deb")
                  if not path.name.startswith(WITHOUT))
    check_equal(len(debs), 3, "packages to install")
    command = [sys.executable, "-B", Path(__file__).parent / "minimal_root.py", root, *debs]
    for name in FURTHER:
        command += ["--with", name]
    subprocess.run(command, check=True)
    place = root / "root/datacloud/build/packages"
    place.mkdir(parents=True)
    for deb in debs:
        shutil.copy(deb, place)
    for name in MASKED:
        (root / "etc/systemd/system" / name).unlink(missing_ok=True)
        (root / "etc/systemd/system" / name).symlink_to("/dev/null")
    # As systemd's own installation does.
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "remote-fs.target").symlink_to("/lib/systemd/system/remote-fs.target")
    (root / "etc/machine-id").write_text("0" * 31 + "1\n")
    (root / "etc/apt/apt.conf.d").mkdir(parents=True, exist_ok=True)
    (root / "etc/apt/apt.conf.d/90test").write_text(
        'APT::Get::Assume-Yes "true";\nAPT::Sandbox::User "root";\n')


def write(machine, mark, text):
    """A block that is a file: lines of fstab are added to it."""
    path = machine.root / mark.split()[1].lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a" if mark.startswith("fstab") else "w", encoding="utf-8") as file:
        file.write(text)


def follow(machine, title, only=None):
    """Executes what a chapter of operations.md shows; how many blocks that were."""
    count = 0
    for where, mark, text in chapter("operations.md", title, "sh systemd", r"(ini|fstab) /\S+",
                                     *([only] if only else [])):
        harness.note(f"{where}")
        if mark.startswith("sh "):
            print(machine.run(text).stdout, end="", flush=True)
        else:
            write(machine, mark, text)
        count += 1
    check(count > 0, f"operations.md, {title}: {count} blocks")
    return count


def show(machine, unit, name):
    return machine.run(f"systemctl show -P {name} {unit}").stdout.strip()


def wait_until(machine, seconds, script, what):
    deadline = time.monotonic() + seconds
    while machine.run(script, check=False).returncode != 0:
        if time.monotonic() > deadline:
            raise harness.CheckFailed(f"{what}: not within {seconds} s\n" + machine.run(
                "systemctl --no-pager -l status 'datacloud*'; journalctl -n 60", False).stdout)
        time.sleep(0.1)
    harness.note(f"ok: {what}")


def install(machine):
    line = [line for _, _, text in chapter("operations.md", "Install", "sh install")
            for line in text.splitlines() if line.startswith("apt install")]
    check_equal(len(line), 1, "operations.md installs the packages with apt")
    machine.run(f"cd /root/datacloud; {line[0]}")
    check("datacloud:" in machine.run("getent passwd datacloud").stdout, "the daemons' user")


def first_cloud(machine):
    """The chapter up to where it starts the daemon, and the daemon and its mounts by systemd."""
    for _, mark, text in chapter("operations.md", "The first cloud", "sh run", r"toml /\S+"):
        if mark.startswith("toml"):
            write(machine, mark, text)
        elif "datacloudd --config" in text:
            break
        else:
            machine.run(text.replace("export ", "") if text.startswith("export") else
                        "export DATACLOUD_CONFIG=/etc/datacloud/demo.toml\n" + text)
    follow(machine, "The first cloud")
    check_equal(show(machine, "datacloudd@demo", "Type"), "notify", "the daemon says it serves")
    check("5 of 5 sites" in show(machine, "datacloudd@demo", "StatusText"), "and what it serves")
    for point in ("/datacloud", "/mnt/demo"):
        check(machine.run(f"findmnt -n -o FSTYPE {point}").stdout.strip() == "fuse.datacloud",
              f"{point} is mounted")
    check("noatime" in machine.run("findmnt -n -o OPTIONS /mnt/demo").stdout,
          "OPTIONS of /etc/default are used")
    machine.run("echo hello >/datacloud/greeting; sync /datacloud; "
                "[ $(cat /mnt/demo/greeting) = hello ]")


def daemon_restarts(machine):
    """A program that writes and syncs all the time sees no error, whatever befalls the daemon."""
    unit = "datacloudd@demo"
    machine.run("rm -f /run/writer.*")
    machine.run(f"systemd-run --unit=writer --property=Type=exec bash -euc '{WRITER}'")
    moved = "[ $(cat /run/writer.count || echo 0) -gt {} ]"
    wait_until(machine, 30, moved.format(3), "a writer")

    def now():
        return int(machine.run("cat /run/writer.count").stdout)

    def goes_on(what):
        wait_until(machine, 40, moved.format(now() + 3), f"the writer goes on after {what}")
        check_equal(show(machine, unit, "ActiveState"), "active", f"the daemon after {what}")

    before = show(machine, unit, "MainPID")
    machine.run(f"systemctl restart {unit}")
    check(show(machine, unit, "MainPID") != before, "systemctl restart")
    goes_on("a restart")
    machine.run(f"systemctl kill -s KILL {unit}")
    wait_until(machine, 30, f"[ $(systemctl show -P NRestarts {unit}) = 1 ]", "started again")
    goes_on("kill -9")

    machine.run("mkdir -p /run/systemd/system/datacloudd@.service.d; cd $_; "
                f"printf '[Service]\\nWatchdogSec=2\\n' >fast.conf; systemctl daemon-reload; "
                f"systemctl restart {unit}; systemctl kill -s STOP {unit}")
    wait_until(machine, 30, f"journalctl -u {unit} | grep -q 'Watchdog timeout'",
               "the watchdog sees a daemon that hangs")
    wait_until(machine, 30, f"[ $(systemctl show -P NRestarts {unit}) = 1 ]", "started again")
    goes_on("a hang")
    machine.run("rm -r /run/systemd/system/datacloudd@.service.d; systemctl daemon-reload; "
                f"systemctl restart {unit}")
    goes_on("all this")
    old = show(machine, unit, "MainPID")
    machine.run(f"systemctl reset-failed {unit}; "
                "apt install --reinstall /root/datacloud/build/packages/*.deb")
    check(show(machine, unit, "MainPID") != old, "new packages restart the daemon")
    goes_on("an upgrade")
    machine.run("touch /run/writer.stop")
    wait_until(machine, 30, "! systemctl is-active --quiet writer", "the writer ends")
    check(machine.run("systemctl is-failed writer", False).stdout.strip() != "failed",
          "without any error")
    lines = machine.run("cat /datacloud/log").stdout.splitlines()
    lost = [i + 1 for i, line in enumerate(lines) if line != f"line {i + 1}"]
    check(not lost and len(lines) >= now(), "every line is there", f"but not line {lost[:1]}")


def mount_restarts(machine):
    unit = "datacloud-mount@demo"
    machine.run(f"systemctl kill -s KILL --kill-who=main {unit}")
    wait_until(machine, 30, "[ $(cat /mnt/demo/greeting) = hello ]", "a killed mount is made again")
    machine.run("head -c 30000000 /dev/urandom >/run/random; cp /run/random /mnt/demo/unsynced; "
                f"systemctl stop {unit}")
    check(not os.path.exists(machine.root / "mnt/demo/greeting") and
          machine.run("findmnt /mnt/demo", check=False).returncode != 0, "stopped and not mounted")
    machine.run("cmp /run/random /datacloud/unsynced")
    harness.note("ok: what was written before the stop is there")
    check_equal(show(machine, unit, "Result"), "success", "how the mount's unit ended")
    status = machine.run("systemctl stop datacloud.mount; "
                         "datacloud --config /etc/datacloud/demo.toml status --json").stdout
    check_equal(json.loads(status)["mounts"], [], "umount returns when the mount has ended")
    machine.run("systemctl start datacloud.mount; cmp /run/random /datacloud/unsynced; "
                "systemctl start datacloud-mount@demo")
    harness.note("ok: fstab's unit stops and starts")


def boots_again(machine):
    """Shutdown with data not yet synced; after boot all is there without a hand."""
    digest = machine.run("head -c 60000000 /dev/urandom >/run/late; "
                         "sha256sum </run/late; cp /run/late /datacloud/late; "
                         "cp -r /usr/share/doc/datacloud-tools /datacloud/").stdout
    started = time.monotonic()
    machine.power_off()
    check(time.monotonic() - started < 30, "the machine is off at once",
          f"{time.monotonic() - started:.0f} s\n{machine.console()[-2000:]}")
    machine.boot()
    for unit in ("datacloudd@demo", "datacloud.mount", "datacloud-mount@demo"):
        check_equal(show(machine, unit, "ActiveState"), "active", f"{unit} after boot")
    for point in ("/datacloud", "/mnt/demo"):
        check_equal(machine.run(f"sha256sum <{point}/late").stdout, digest,
                    f"{point}: what was written before the shutdown")
    machine.run("diff -r /usr/share/doc/datacloud-tools /datacloud/datacloud-tools")
    follow(machine, "Logs, and help from others")
    check("datacloudd" in machine.run("journalctl -u 'datacloud*'").stdout, "the journal")


def sites_of_rados(machine):
    """A Ceph cluster in the machine's network, and the cloud's sites as namespaces of its pool."""
    place = machine.root.parent / "ceph"
    subprocess.run(["nsenter", f"--target={machine.first_process()}", "--net", "--", CLUSTERS, "up",
                    "1", "--plain", "--dir", place], check=True)
    settings = (place / "site1/ceph.conf").read_text().split("[mon]")[0].splitlines()
    ceph = machine.root / "etc/ceph"
    ceph.mkdir(exist_ok=True)
    minimal = ("[global]", "fsid", "mon_host", "auth_")
    (ceph / "tsukuba.conf").write_text(
        "".join(line + "\n" for line in settings if line.startswith(minimal)))
    shutil.copy(place / "site1/ceph.client.datacloud.keyring", ceph / "datacloud.keyring")
    machine.run("chown datacloud: /etc/ceph/*; chmod 600 /etc/ceph/*.keyring")
    config = machine.root / "etc/datacloud/demo.toml"
    tables = [f"""[[site]]
name = "site{i}"
store = "rados"
conf = "/etc/ceph/tsukuba.conf"
keyring = "/etc/ceph/datacloud.keyring"
pool = "datacloud"
namespace = "demo-{i}"
""" for i in range(5)]
    config.write_text(config.read_text().split("[[site]]")[0] + "".join(tables))


def take_down(place):
    if place.exists():
        subprocess.run([CLUSTERS, "down", "--dir", place], check=False)


def without_root(machine):
    """The drop-in, on a new cloud of RADOS sites."""
    machine.run("systemctl disable --now datacloud-mount@demo; systemctl stop datacloud.mount "
                "datacloudd@demo; rm -r /srv/* /var/lib/datacloud/demo /etc/datacloud/demo.*key")
    sites_of_rados(machine)
    follow(machine, "The daemon without root")
    (daemon,) = machine.host_pids("datacloudd")
    status = Path(f"/proc/{daemon}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    check(fields["Uid"].split()[0] != "0", "the daemon is not root", fields["Uid"])
    check_equal({fields[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")}, {"0" * 16},
                "and has no capability")
    machine.run("systemctl start datacloud.mount; echo hello >/datacloud/greeting; "
                "sync /datacloud; [ $(cat /datacloud/greeting) = hello ]")
    told = json.loads(machine.run("export DATACLOUD_CONFIG=/etc/datacloud/demo.toml; "
                                  "datacloud audit >&2; datacloud status --json").stdout)
    check_equal((told["health"], [site["up"] for site in told["sites"]]), ("ok", [True] * 5),
                "its health, and its sites in RADOS")
    owner = machine.run("stat -c %U /run/datacloud/demo.sock").stdout
    check_equal(owner, "datacloud\n", "its socket")


def removal(machine):
    machine.run("systemctl stop datacloud.mount; "
                "apt remove datacloud-daemon datacloud-fs datacloud-tools")
    left = machine.run("systemctl list-units --plain --no-legend 'datacloudd@*'").stdout.strip()
    check_equal(left, "", "no daemon is left after the packages' removal")


def walk(machine):
    machine.boot()
    harness.note("booted")
    install(machine)
    first_cloud(machine)
    daemon_restarts(machine)
    mount_restarts(machine)
    boots_again(machine)
    without_root(machine)
    removal(machine)
    take_down(machine.root.parent / "ceph")
    machine.power_off()


def test(options):
    del options
    base = os.environ.get("DATACLOUD_TEST_DIR", "/var/tmp")
    work = Path(tempfile.mkdtemp(prefix="datacloud-systemd-", dir=base))
    try:
        make_root(work / "root")
        harness.note("the root is there")
        with Machine(work / "root") as machine:
            try:
                walk(machine)
            except Exception:
                print(f"--- console\n{machine.console()[-1500:]}\n--- journal", flush=True)
                if machine.first_process():
                    print(machine.run("journalctl -b -n 60 -o short-precise", False).stdout)
                raise
    finally:
        take_down(work / "ceph")
        subprocess.run(["rm", "-rf", "--one-file-system", work], check=False)


if __name__ == "__main__":
    harness.main(test, 240)
