"""A Ceph user for each node: `node add` makes it with what the role needs, `node revoke` removes it."""

import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from cloud import Cloud  # noqa: E402
from harness import check, check_equal  # noqa: E402
from joined_nodes import Node, free_port, listen_on, refused  # noqa: E402


def admin_keyring(site):
    return site.dir / "ceph.client.admin.keyring"


def capabilities(site, entity):
    done = subprocess.run(["ceph", "-c", site.dir / "ceph.conf", "-n", "client.admin", "--keyring",
                           admin_keyring(site), "auth", "get", entity, "--format", "json"],
                          capture_output=True, text=True, timeout=60, check=False)
    return json.loads(done.stdout)[0]["caps"] if done.returncode == 0 else None


def rados(node, site, name, *words):
    """As the node's user: the exit status and what it said."""
    keyring = node.directory / f"test.{site.name}.keyring"
    done = subprocess.run(["rados", "-c", site.dir / "ceph.conf", "-n", f"client.datacloud.{name}",
                           "--keyring", keyring, "-p", site.pool, "-N", site.namespace, *words],
                          capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


def add(cloud, name, role, *words):
    return cloud.run_tool("node", "add", name, "--role", role, *words)


def joined(cloud, name, role, keyrings):
    done = add(cloud, name, role, *keyrings)
    check_equal(done.returncode, 0, f"{name} is added {done.stderr}")
    check(f"client.datacloud.{name}" in done.stderr, "and its users are told", done.stderr)
    node = Node(cloud, None, name)
    check_equal(node.join(done.stdout.strip()).returncode, 0, f"{name} joins")
    return node


def test(options):
    del options
    with Cloud(sites=3, code="rs-2-1", stores="rados") as cloud:
        listen_on(cloud, f"tls://127.0.0.1:{free_port()}")
        cloud.start_daemon()
        pools = [site for site in cloud.sites.values() if site.kind == "rados"]
        keyrings = [word for site in pools
                    for word in ("--ceph-admin", f"{site.name}={admin_keyring(site)}")]
        site = pools[0]
        refused(add(cloud, "w", "mount", "--ceph-admin", "/nowhere"), "/nowhere", "No such file")
        refused(add(cloud, "w", "mount", "--ceph-admin", f"mars={admin_keyring(site)}"), "mars")
        refused(add(cloud, "w", "auditor", *keyrings), "only nodes that mount")
        wrong = add(cloud, "w", "mount", "--ceph-admin", site.dir / "ceph.client.datacloud.keyring")
        refused(wrong, site.name, "ceph auth get-or-create")
        try:
            writer = joined(cloud, "w", "mount", keyrings)
            reader = joined(cloud, "r", "mount-ro", keyrings)
            where = f"pool={site.pool} namespace={site.namespace}"
            check_equal(capabilities(site, "client.datacloud.w"),
                        {"mon": "allow r", "osd": f"allow rwx {where}"}, "what a mount may")
            check_equal(capabilities(site, "client.datacloud.r"),
                        {"mon": "allow r", "osd": f"allow r class-read {where}"}, "and who reads")
            keyring = writer.directory / f"test.{site.name}.keyring"
            check_equal(keyring.stat().st_mode & 0o777, 0o600, "the keyring's mode")

            point = writer.mount()
            (point / "file").write_bytes(b"x" * 300_000)
            subprocess.run(["sync", point / "file"], check=True)
            writer.unmount()
            point = reader.mount()
            check_equal((point / "file").read_bytes() == b"x" * 300_000, True, "the reader reads")
            reader.unmount()
            check_equal(rados(reader, site, "r", "stat", "datacloud-site")[0], 0, "it reads a site")
            for words in (["put", "stolen", keyring], ["rm", "datacloud-site"],
                          ["setxattr", "datacloud-site", "a", "b"]):
                code, said = rados(reader, site, "r", *words)
                check(code != 0 and "not permitted" in said, f"and cannot {words[0]}", said)

            done = cloud.run_tool("node", "revoke", "r")
            check(f"ceph --conf {site.dir / 'ceph.conf'} auth rm client.datacloud.r" in done.stdout
                  and "until keys change" in done.stdout, "revoke tells what is left", done.stdout)
            check_equal(rados(reader, site, "r", "stat", "datacloud-site")[0], 0, "which it is")
            done = cloud.run_tool("node", "revoke", "r", *keyrings)
            check("are removed" in done.stdout and done.returncode == 0, "the users are removed",
                  done.stdout + done.stderr)
            check_equal(capabilities(site, "client.datacloud.r"), None, "at the cluster, too")
            code, _ = rados(reader, site, "r", "stat", "datacloud-site")
            check(code != 0, "and the revoked node reads nothing any more")
            check_equal(rados(writer, site, "w", "stat", "datacloud-site")[0], 0, "the other does")

            printed = add(cloud, "p", "mount-ro", "--ceph-print")
            check(f"auth get-or-create client.datacloud.p mon 'allow r' osd 'allow r class-read {where}'"
                  in printed.stderr, "--ceph-print shows the commands", printed.stderr)
            check_equal(capabilities(site, "client.datacloud.p"), None, "and runs none")
            by_hand = Node(cloud, None, "p")
            done = by_hand.join(printed.stdout.strip())
            check(f"test.{site.name}.keyring" in done.stdout and done.returncode == 0,
                  "join names the keyring that is needed", done.stdout + done.stderr)
            shared = add(cloud, "s", "mount")
            check("the same Ceph user as all nodes" in shared.stderr, "without: that is told")
        finally:
            cloud.run_tool("node", "revoke", "w", *keyrings)
            cloud.run_tool("node", "revoke", "r", *keyrings)


if __name__ == "__main__":
    harness.main(test, 240)
