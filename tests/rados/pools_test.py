"""A cloud on pools alone: made by the documented line, on pools of size 1, replicated and erasure
coded ones, and what it costs at the sites. Real files are copied and read back, also without any one cluster."""

import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import BUILD, Cloud, sha256_of, sha256_tree, wait_for  # noqa: E402
from cloud_sites import CephSites, RadosSite  # noqa: E402
from harness import check, check_equal, note  # noqa: E402

FOLDERS = ("/usr/share/perl/5.36.0", "/etc", "/usr/share/cmake-3.25/Modules")
BYTES_MAX = 12 << 20


def a_pool_of_each_kind(names, _):
    """One pool a cluster: of size 1, replicated by Ceph, erasure coded by Ceph."""
    ceph = CephSites(os.environ["DATACLOUD_CEPH_SITES"])
    pools = ["datacloud", "twice", "coded"]
    there = [site["pools"] for site in ceph.status()["sites"]]
    if "twice" not in there[1]:
        ceph.run("pool", 2, "twice")
        for setting in ("size=2", "min_size=1"):  # with one OSD, for ever degraded
            name, value = setting.split("=")
            ceph.run("monitor", 2, "osd pool set", "pool=twice", f"var={name}", f'val="{value}"')
    if "coded" not in there[2]:
        ceph.run("ec-pool", 3, "coded")
    namespace = f"pools-{os.getpid()}"
    return [RadosSite(name, ceph, i, pool, namespace, True)
            for i, (name, pool) in enumerate(zip(names, pools), 1)]


def copy_real_files(target):
    """Up to BYTES_MAX of this machine's regular files; {relative path: SHA-256} of the originals."""
    total = 0
    for folder in FOLDERS:
        for directory, _, files in os.walk(folder):
            for name in sorted(files):
                path = Path(directory, name)
                if path.is_symlink() or not path.is_file() or total > BYTES_MAX:
                    continue
                total += path.stat().st_size
                copy = target / path.relative_to("/")
                trees.write_file(copy, path.read_bytes())
    return total


def user_by_the_documented_line(cloud):
    """A user with no more rights than `create --help` tells to give can do everything."""
    shown = subprocess.run([BUILD / "bin" / "datacloud", "create", "--help"], capture_output=True,
                           text=True, timeout=20, check=True).stdout
    line = " ".join(shown.replace("\\\n", " ").split())
    check("ceph auth get-or-create client.datacloud mon 'allow r' osd 'allow rwx pool=datacloud "
          "namespace=NAMESPACE'" in line, "create --help tells the user's capabilities", shown)
    for site in cloud.sites.values():
        keyring = cloud.root / f"{site.name}.keyring"
        made = subprocess.run(
            ["ceph", "-c", site.dir / "ceph.conf", "-n", "client.admin", "auth", "get-or-create",
             f"client.least-{os.getpid()}", "mon", "allow r", "osd",
             f"allow rwx pool={site.pool} namespace={site.namespace}"],
            capture_output=True, text=True, timeout=60, check=True).stdout
        keyring.write_text(made)
        keyring.chmod(0o600)
        text = cloud.config.read_text()
        text = text.replace(f'keyring = "{site.dir}/ceph.client.datacloud.keyring"',
                            f'keyring = "{keyring}"')
        cloud.config.write_text(text)
    cloud.config.write_text(cloud.config.read_text().replace(
        'user = "client.datacloud"', f'user = "client.least-{os.getpid()}"'))
    cloud.tool("create")


def each_cluster_may_go(cloud, mount, expected):
    for name in cloud.names:
        cloud.take_away(name)
        mount.remount()
        check_equal(sha256_tree(mount / "data"), expected, f"without {name}")
        cloud.put_back(name)


def audits_compute_at_the_osds(cloud):
    """A shard at a site with the class costs an answer, one at the erasure-coded pool itself."""
    has_class = {s["name"]: s["osd_class"] for s in cloud.status()["sites"]}
    check_equal(has_class, {"site1": "yes", "site2": "yes", "site3": "no"},
                "status tells which sites run the class")
    before = audited(cloud)
    report = json.loads(cloud.tool("audit", "--json", seconds=120))
    check_equal(report["bad"], [], f"all {report['shards_checked']} shards are proven")
    after = audited(cloud)
    each = {site: (after[site][0] - before[site][0]) / max(1, after[site][1] - before[site][1])
            for site in after}
    check(max(each["site1"], each["site2"]) < 5000 < each["site3"],
          f"bytes that left the site for each of them: {each}")


def audited(cloud):
    rows = json.loads(cloud.tool("traffic", "--json"))["sites"]
    return {row["site"]: (row["purposes"]["audit"]["read"], row["purposes"]["audit"]["operations"])
            for row in rows}


def overhead_is_told(cloud):
    status = cloud.status()
    note(json.dumps(status["capacity"]))
    check(status["capacity"]["raw_overhead"] > status["capacity"]["overhead"],
          "status shows our overhead and, larger, the one with the pools' own")
    ours, raw = status["capacity"]["overhead"], status["capacity"]["raw_overhead"]
    # A third each at a pool of size 1, at one of size 2, and at one of k=2 m=1.
    check(abs(raw / ours - 4.5 / 3) < 0.04, f"their ratio is {raw / ours:.3f}, of 1, 2 and 3/2")


def test(options):
    del options.rounds
    with Cloud(sites=3, code="rs-2-1", stores=a_pool_of_each_kind,
               create=False) as cloud:
        user_by_the_documented_line(cloud)
        cloud.start_daemon()
        mount = cloud.mount()
        total = copy_real_files(mount / "data")
        trees.fsync_tree(mount / "data")
        check(total > 5 << 20, f"{total >> 20} MiB of real files were copied")
        expected = sha256_tree(mount / "data")
        changed = [name for name, digest in expected.items() if sha256_of(Path("/", name)) != digest]
        check_equal(changed, [], "and equal the originals")
        wait_for(lambda: cloud.status()["capacity"].get("raw_overhead"), 20, "the pools to be known")
        overhead_is_told(cloud)
        audits_compute_at_the_osds(cloud)
        each_cluster_may_go(cloud, mount, expected)
        located = cloud.locate(mount / "data" / sorted(expected)[0])
        there = cloud.object_locations()
        check(all((s["site"], s["location"]) in there for stripe in located["stripes"]
                  for s in stripe["shards"] if s["state"] == "present"),
              "locate tells pool/namespace/object, and they are there")
        mount.unmount()


if __name__ == "__main__":
    harness.main(test, 240)
