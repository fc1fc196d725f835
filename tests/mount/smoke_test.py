"""The way of a new user: create, start, mount, copy, remount, compare; and the usual mistakes."""

import os
import random
import shutil
import stat
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import BUILD, Cloud, is_mounted, sha256_tree, tail, wait_for  # noqa: E402
from harness import check, check_equal  # noqa: E402


def copies_survive_a_remount(cloud, rng):
    local = trees.make_tree(cloud.root / "local", rng)
    mount = cloud.mount()
    trees.copy_into(local, mount / "copy")
    expected = sha256_tree(local)
    check_equal(sha256_tree(mount / "copy"), expected, "the copy is equal while it is fresh")
    mount.remount()
    check_equal(sha256_tree(mount / "copy"), expected, "and after unmount, drop_caches and mount")
    check_equal(os.readlink(mount / "copy" / "link"), "large/large-0.bin", "symlink target")
    cloud.stop_daemon()
    cloud.start_daemon()
    check_equal(sha256_tree(mount / "copy"), expected, "and after the daemon was restarted")
    wait_for(lambda: cloud.status()["health"] == "ok", 10, "status: health ok once the mount is back")
    located = cloud.locate(mount / "copy" / "large" / "large-0.bin")
    check_equal(located["size"], 1 << 20, "locate: size")
    shards = [s for stripe in located["stripes"] for s in stripe["shards"]]
    there = cloud.object_locations()
    check(all((s["site"], s["location"]) in there for s in shards if s["state"] == "present"),
          f"locate names {len(shards)} shards, and they are there")
    check_equal({s["site"] for s in shards}, set(cloud.names), "locate: one shard at every site")
    traffic = cloud.run_tool("traffic", "--json")
    check(traffic.returncode == 0 and '"client"' in traffic.stdout, "traffic tells client bytes")
    mount.unmount()


def mounts_in_the_background(cloud):
    point = cloud.root / "background"
    point.mkdir()
    done = subprocess.run([BUILD / "bin" / "mount.datacloud", cloud.config, point],
                          capture_output=True, text=True, timeout=60)
    check(done.returncode == 0, "mount.datacloud without -f returns 0", done.stderr)
    check(is_mounted(point), "and the file system is mounted by then")
    check("copy" in os.listdir(point), "and shows the cloud's files")
    twice = subprocess.run([BUILD / "bin" / "mount.datacloud", cloud.config, point],
                           capture_output=True, text=True, timeout=60)
    check(twice.returncode == 32 and "mounted there already" in twice.stderr,
          "a second mount over it is refused", twice.stderr)
    subprocess.run(["umount", point], check=True, timeout=60)
    wait_for(lambda: not is_mounted(point), 20, "umount")
    wait_for(lambda: not any(m.get("connected") for m in cloud.status()["mounts"]), 30,
             "the background process to say goodbye")
    harness.note("ok: umount ends it")


def mounts_through_mount8(cloud):
    """mount -t datacloud finds /sbin/mount.datacloud: tried in a private copy of /sbin."""
    point = cloud.root / "helper"
    point.mkdir()
    script = f"""
      set -e
      helper=/sbin/mount.datacloud
      mkdir -p {cloud.root}/sbin && cp -a --no-dereference /sbin/. {cloud.root}/sbin/
      ln -sf {BUILD}/bin/mount.datacloud {cloud.root}/sbin/mount.datacloud
      mount --bind {cloud.root}/sbin $(readlink -f /sbin)
      mount -t datacloud -o ro,site=site1 {cloud.config} {point}
      ls {point} && ! touch {point}/x 2>/dev/null
      umount {point}
    """
    done = subprocess.run(["unshare", "-m", "bash", "-c", script], capture_output=True, text=True,
                          timeout=90)
    check(done.returncode == 0 and "copy" in done.stdout,
          "mount -t datacloud -o ro,site=site1 through mount(8)", done.stdout + done.stderr)


def mount_fails(cloud, what, *words, config=None):
    point = cloud.root / "refused"
    point.mkdir(exist_ok=True)
    done = subprocess.run([BUILD / "bin" / "mount.datacloud", config or cloud.config, point],
                          capture_output=True, text=True, timeout=90)
    if done.returncode == 0:
        subprocess.run(["umount", point], check=False, timeout=60)
    text = done.stderr + done.stdout
    check(done.returncode != 0 and not is_mounted(point), f"{what}: the mount is refused")
    check(all(w in text for w in words), f"{what}: the error names {', '.join(words)}", text)


def mistakes(cloud):
    again = cloud.run_tool("create")
    check(again.returncode != 0 and "site" in again.stderr, "create refuses sites that hold a cloud",
          again.stderr)

    typo = cloud.root / "typo.toml"
    typo.write_text(cloud.config.read_text().replace("[daemon]", "[daemon]\nlisten_too = \"x\""))
    mount_fails(cloud, "an unknown configuration key", "typo.toml", "listen_too", config=typo)

    key = cloud.root / "data.key"
    key.chmod(0o640)
    mount_fails(cloud, "a key that its group may read", "data.key")
    key.chmod(0o600)

    other = Cloud(sites=5)
    saved = key.read_bytes()
    key.write_bytes((other.root / "data.key").read_bytes())
    mount_fails(cloud, "another cloud's data key", "data.key")
    key.write_bytes(saved)
    other.close()

    cloud.stop_daemon()
    status = cloud.run_tool("status")
    check(status.returncode != 0 and "daemon" in status.stderr, "status without a daemon says so",
          status.stderr)
    mount_fails(cloud, "no daemon", "daemon")
    cloud.start_daemon()

    unknown = cloud.run_tool("locate", "--json", "/no/such/file")
    check(unknown.returncode != 0 and "/no/such/file" in unknown.stderr,
          "locate of a name that does not exist names it", unknown.stderr)

    absent = Cloud(sites=5, create=False)
    shutil.rmtree(absent.site("site5"))
    refused = absent.run_tool("create")
    check(refused.returncode != 0 and "site5" in refused.stderr,
          "create with a missing site names it", refused.stderr)
    check(not absent.site("site5").exists(), "and does not make its directory")
    check(not list(absent.site("site4").iterdir()), "and leaves the other sites empty")
    absent.close()


def keys_are_private(cloud):
    for name in ("data.key", "service.key"):
        check_equal(stat.S_IMODE((cloud.root / name).stat().st_mode), 0o600, f"{name}: mode 0600")


def test(options):
    rng = random.Random(options.seed)
    with Cloud() as cloud:
        keys_are_private(cloud)
        cloud.start_daemon()
        copies_survive_a_remount(cloud, rng)
        mounts_in_the_background(cloud)
        mounts_through_mount8(cloud)
        mistakes(cloud)
        log = tail(cloud.root / "daemon.log", 1000)
        check("Traceback" not in log and "terminate called" not in log, "no crash in the log")


if __name__ == "__main__":
    harness.main(test, 180)
