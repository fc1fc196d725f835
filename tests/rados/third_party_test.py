"""A third party audits Ceph sites as a user that can read and nothing else: answers are computed at
the sites, cost a thousandth of the data, and name what an administrator of a site has done."""

import json
import random
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import cloud as cloud_module  # noqa: E402
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import Cloud  # noqa: E402
from harness import check, check_equal, note  # noqa: E402

USER = "client.auditor"


def ceph(site, *words):
    return subprocess.run(["ceph", "-c", site.dir / "ceph.conf", "-n", "client.admin", "--keyring",
                           site.dir / "ceph.client.admin.keyring", *map(str, words)],
                          capture_output=True, text=True, timeout=60, check=True).stdout


def reader_of(cloud, name, at):
    """The [[site]] table of a user who may only read there."""
    site = cloud.sites[name]
    if not hasattr(site, "pool"):
        return "[[site]]\n" + "".join(f"{k} = {json.dumps(str(v))}\n"
                                      for k, v in {**site.settings(), "name": name}.items())
    keyring = at / f"{name}.keyring"
    pools = f"pool={site.pool} namespace={site.namespace}"
    ceph(site, "auth", "get-or-create", USER, "mon", "allow r", "osd", f"allow r class-read {pools}",
         "-o", keyring)
    settings = {**site.settings(), "name": name, "user": USER, "keyring": keyring}
    return "[[site]]\n" + "".join(f"{k} = {json.dumps(str(v))}\n" for k, v in settings.items())


def columns_are_compared_at_the_sites(rng):
    """With a code of several packets, at three Ceph sites and two directories."""
    with Cloud(sites=5, code="msr-5-3", stores="rados", cloud={"compress": "none"},
               daemon={"audit_cycle_ms": 0, "fold": "manual"}) as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        trees.write_file(mount / "large", rng.randbytes(24 << 20))
        trees.fsync_path(mount.point)
        at = cloud.root / "auditor"
        at.mkdir()
        sites, bundle = at / "sites.toml", at / "bundle"
        try:
            sites.write_text("".join(reader_of(cloud, name, at) for name in cloud.names))
            cloud.tool("auditor", "export", "--output", bundle)
            signer = cloud.tool("auditor", "signer").strip()
            for compare in (0, 1):
                report = at / f"report{compare}.json"
                done = subprocess.run(
                    [cloud_module.BUILD / "bin" / "datacloud-audit", "--bundle", bundle, "--sites", sites,
                     "--signer", signer, "--report", report, "--key", at / "key", "--compare",
                     str(compare)], capture_output=True, text=True, timeout=120, check=False)
                check(done.returncode == 0, f"datacloud-audit --compare {compare}: exit code 0",
                      done.stdout + done.stderr)
                told = json.loads(report.read_text())["report"]
                check_equal((told["findings"], told["doubts"]), ([], []), "a sound cloud")
                check_equal(told["stripes_compared"], compare * told["stripes_asked"],
                            f"columns of {told['stripes_compared']} stripes are compared")
        finally:
            for site in cloud.sites.values():
                if hasattr(site, "pool"):
                    ceph(site, "auth", "rm", USER)
        mount.unmount()


def test(options):
    rng = random.Random(options.seed)
    columns_are_compared_at_the_sites(rng)
    with Cloud(sites=3, code="rs-2-1", stores="rados", cloud={"compress": "none"},
               daemon={"audit_cycle_ms": 0, "fold": "manual"}) as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        trees.write_file(mount / "large", rng.randbytes(48 << 20))
        trees.fsync_path(mount.point)
        at = cloud.root / "auditor"
        at.mkdir()
        sites = at / "sites.toml"
        try:
            sites.write_text("".join(reader_of(cloud, name, at) for name in cloud.names))
            name = rng.choice(cloud.names)
            denied = subprocess.run(["rados", "-c", cloud.sites[name].dir / "ceph.conf", "-n", USER,
                                     "--keyring", at / f"{name}.keyring", "-p", cloud.sites[name].pool,
                                     "-N", cloud.sites[name].namespace, "put", "x", sites],
                                    capture_output=True, timeout=60, check=False)
            check(denied.returncode != 0, "the auditor's user cannot write")
            bundle, signer = at / "bundle", cloud.tool("auditor", "signer").strip()
            cloud.tool("auditor", "export", "--output", bundle)

            def audit(code):
                report = at / f"report{code}.json"
                done = subprocess.run(
                    [cloud_module.BUILD / "bin" / "datacloud-audit", "--bundle", bundle, "--sites", sites,
                     "--signer", signer, "--report", report, "--key", at / "key"],
                    capture_output=True, text=True, timeout=120, check=False)
                check(done.returncode == code, f"datacloud-audit: exit code {code}",
                      done.stdout + done.stderr)
                return json.loads(report.read_text())["report"]

            clean = audit(0)
            share = clean["bytes_transferred"] / clean["bytes_covered"]
            note(f"{clean['shards_checked']} shards, {100 * share:.3f} % between sites")
            check(clean["bytes_covered"] > 70 << 20 and clean["read_remotely"] == 0,
                  "every byte is proven, computed at the sites", clean)
            check(share < 0.0011, "for a thousandth of the traffic")
            shard = rng.choice([s for s in cloud.shards(mount / "large") if s["state"] == "present"])
            site, name = cloud.sites[shard["site"]], shard["location"].split("/")[-1]
            flipped = bytearray(site.rados("get", name, "/dev/stdout"))
            flipped[rng.randrange(len(flipped))] ^= 1
            damaged = at / "damaged"
            damaged.write_bytes(flipped)
            site.rados("put", name, damaged)  # keeps the attributes: instance and tags
            found = audit(3)["findings"]
            check_equal([(f["stripe"], f["column"], f["site"], f["reason"]) for f in found],
                        [(shard["stripe"], shard["column"], shard["site"], "corrupt")],
                        "a flipped bit is named")
        finally:
            for site in cloud.sites.values():
                ceph(site, "auth", "rm", USER)
        mount.unmount()


if __name__ == "__main__":
    harness.main(test, 240)
