"""A third party audits the cloud: with a bundle, the list of sites and read access, and nothing else.
Its report names the culprit, is signed, and tells no false finding after shards were replaced; the
bundle has no key that opens anything and no name. Where a site knows its audit key, so that its tags
are right for wrong bytes, the stripe's other columns give it away, whatever the code."""

import base64
import json
import os
import random
import stat
import struct
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common" / "tags"))
import audit_golden  # noqa: E402
import cloud as cloud_module  # noqa: E402
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import Cloud  # noqa: E402
from crc32c import crc32c  # noqa: E402
from harness import check, check_equal  # noqa: E402


class Auditor:
    """The third party's directory, and runs of datacloud-audit in it."""

    def __init__(self, cloud):
        self.cloud, self.at = cloud, cloud.root / "auditor"
        self.at.mkdir()
        text = cloud.config.read_text()
        self.sites = self.at / "sites.toml"
        self.sites.write_text("".join(f"[[site]]{part}" for part in text.split("[[site]]")[1:]))
        self.signer = json.loads(cloud.tool("auditor", "signer", "--json"))["signer"]
        self.runs = 0

    def run(self, bundle, *options, code=0, signer=None):
        self.runs += 1
        report = self.at / f"report{self.runs}.json"
        done = subprocess.run(
            [cloud_module.BUILD / "bin" / "datacloud-audit", "--bundle", bundle, "--sites",
             self.sites, "--signer", signer or self.signer, "--report", report, "--key",
             self.at / "auditor.key", *map(str, options)],
            capture_output=True, text=True, timeout=120, check=False)
        check(done.returncode == code, f"datacloud-audit {' '.join(map(str, options))}: exit code {code}",
              done.stdout + done.stderr)
        return report


def report_of(path):
    return json.loads(path.read_text())["report"]


def verify(cloud, path, code=0):
    done = cloud.run_tool("auditor", "verify", path, "--json")
    check(done.returncode == code, f"auditor verify {path.name}: exit code {code}",
          done.stdout + done.stderr)
    return json.loads(done.stdout) if code == 0 else done.stderr


def state_of_sites(cloud):
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size)
            for p in sorted((cloud.root / "sites").rglob("*"))}


def nothing_secret_in(bundle, cloud, names):
    raw = bundle.read_bytes()
    for name in ("data.key", "service.key"):
        text = (cloud.root / name).read_text()
        secrets = [w for w in text.split() if len(w) >= 64]
        check(secrets, f"{name} has its key as text")
        for word in secrets:
            key = bytes.fromhex(word[:64])
            for form in (key, key.hex().encode(), base64.b64encode(key)[:40]):
                check(form not in raw, f"the key of {name} is not in the bundle")
    for name in names:
        check(os.fsencode(name) not in raw, f"the name {name} is not in the bundle")
    check_equal(stat.S_IMODE(bundle.stat().st_mode), 0o600, "the bundle is its owner's alone")


def names_the_culprit(cloud, auditor, bundle, path, rng):
    shards = {(s["stripe"], s["column"], s["site"]): Path(s["location"])
              for s in cloud.shards(path) if s["state"] == "present"}
    missing, corrupt = rng.sample(sorted(shards), 2)
    shards[missing].unlink()
    data = bytearray(shards[corrupt].read_bytes())
    data[rng.randrange(len(data) // 2)] ^= 0x10
    shards[corrupt].write_bytes(data)
    path = auditor.run(bundle, code=3)
    found = {(f["stripe"], f["column"], f["site"]): f["reason"] for f in report_of(path)["findings"]}
    check_equal(found, {missing: "missing", corrupt: "corrupt"}, "a third party names the culprits")
    told = verify(cloud, path)
    check_equal((told["standing"], told["bundle_of_this_cloud"]), (2, True), "and the cloud agrees")
    return path


def reports_cannot_be_changed(cloud, auditor, path):
    changed = auditor.at / "changed.json"
    whole = json.loads(path.read_text())
    whole["report"]["findings"] = []
    changed.write_text(json.dumps(whole))
    check("does not match" in verify(cloud, changed, code=1), "a changed report is refused")
    # The signature is over compact JSON with sorted keys: any program can check it.
    again = auditor.at / "again.json"
    again.write_text(json.dumps(json.loads(path.read_text())))
    verify(cloud, again)


def forge(path, key, rng):
    """One bit of a shard's file is changed (docs/format-sites.md), and the tag of its block with it."""
    raw = bytearray(path.read_bytes())
    _, attributes_bytes, data_bytes, _, _ = struct.unpack("<IIQII", raw[-24:])
    at, bit = rng.randrange(data_bytes), 1 << rng.randrange(8)
    raw[at] ^= bit
    element = bytearray(16)
    element[at % 16] = bit
    power = audit_golden.power(key[16:], at % 4096 // 16 + 1)
    change = audit_golden.multiply(power, bytes(element))
    attributes, offset = raw[data_bytes:data_bytes + attributes_bytes], 0
    while offset < attributes_bytes:
        name_bytes, value_bytes = struct.unpack_from("<HI", attributes, offset)
        value = offset + 6 + name_bytes
        if attributes[offset + 6:value] == b"t":
            tag = slice(value + at // 4096 * 16, value + at // 4096 * 16 + 16)
            attributes[tag] = audit_golden.xor(attributes[tag], change)
        offset = value + value_bytes
    footer = struct.pack("<4sIQI", b"DCo1", attributes_bytes, data_bytes, crc32c(attributes))
    footer += struct.pack("<I", crc32c(footer))
    path.write_bytes(raw[:data_bytes] + attributes + footer + footer)


def a_site_that_knows_its_key_is_named(code, sites, rng):
    with Cloud(sites, code, daemon={"audit_cycle_ms": 0, "scrub_cycle_ms": 0, "fold": "manual"},
               stores="directory") as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        file = mount / "file"
        file.write_bytes(rng.randbytes(1_000_000))
        trees.fsync_path(file)
        auditor = Auditor(cloud)
        bundle = auditor.at / "bundle"
        cloud.tool("auditor", "export", "--output", bundle)
        clean = report_of(auditor.run(bundle))
        check_equal((clean["findings"], clean["doubts"]), ([], []), f"{code}: a sound cloud")
        check_equal(clean["stripes_compared"], clean["stripes_asked"],
                    "columns are compared for nothing where shards are read as a whole")
        check(clean["bytes_transferred"] < 1.1 * clean["bytes_covered"], "and read once", clean)
        shard = rng.choice([s for s in cloud.shards(file) if s["state"] == "present"])
        service = next(w for w in (cloud.root / "service.key").read_text().split() if len(w) >= 64)
        number = cloud.names.index(shard["site"]) + 1
        purpose = f"datacloud 1 audit {clean['cloud']['uuid']} {number}"
        key = audit_golden.hkdf(bytes.fromhex(service[:64]), purpose.encode(), 32)
        forge(Path(shard["location"]), key, rng)
        caught = report_of(auditor.run(bundle, code=3))
        check_equal(caught["findings"], [], "every tag is right")
        doubt = caught["doubts"][0] if caught["doubts"] else ""
        check(len(caught["doubts"]) == 1 and f"stripe {shard['stripe']}:" in doubt
              and f"column {shard['column']} is at {shard['site']}" in doubt,
              f"and yet the site is named: {doubt}", caught["doubts"])
        mount.unmount()


def test(options):
    rng = random.Random(options.seed)
    for code, sites in (("rs-3-2", 5), ("basic-4-8", 8), ("msr-5-3", 5)):
        a_site_that_knows_its_key_is_named(code, sites, rng)
    the_whole_of_it(rng)


def the_whole_of_it(rng):
    # Repair only when asked: damage stays until the third party has seen it.
    with Cloud(daemon={"audit_cycle_ms": 0, "scrub_cycle_ms": 0, "fold": "manual"}) as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        secret = "a-name-nobody-may-learn"
        trees.make_tree(mount / secret, rng, small=40, large=(9 << 20, 1 << 20))
        trees.fsync_path(mount.point)
        large = next(p for p in (mount / secret).rglob("*") if p.is_file() and not p.is_symlink()
                     and p.stat().st_size > 8 << 20)
        auditor = Auditor(cloud)
        bundle = auditor.at / "bundle"
        made = json.loads(cloud.tool("auditor", "export", "--output", bundle, "--json"))
        check(made["stripes"] > 0 and made["records_written"] == made["stripes"], "a whole bundle", made)
        check_equal(made["signer"], auditor.signer, "signed by the daemon's key")
        check(cloud.run_tool("auditor", "export", "--output", bundle).returncode == 1,
              "a bundle that exists is not written over")
        nothing_secret_in(bundle, cloud, [secret, large.name, "small"])

        before = state_of_sites(cloud)
        clean = report_of(auditor.run(bundle))
        check_equal(state_of_sites(cloud), before, "nothing is written at the sites")
        check(clean["shards_checked"] >= 4 * made["stripes"] and clean["bytes_covered"] > 15 << 20,
              "every shard is asked for", clean)
        check_equal(clean["findings"], [], "a sound cloud has no findings")
        check_equal(stat.S_IMODE((auditor.at / "auditor.key").stat().st_mode), 0o600, "the auditor's key")
        check_equal(report_of(auditor.run(bundle, "--sample", 5))["shards_checked"], 5, "a sample")
        sure = report_of(auditor.run(bundle, "--confidence", 0.99, "--damage", 0.2))
        check(5 < sure["shards_checked"] < clean["shards_checked"], "a confidence", sure["shards_checked"])
        auditor.run(bundle, code=1, signer="00" * 32)

        every = json.loads(cloud.tool("audit", "--full", "--json", large))
        some = json.loads(cloud.tool("audit", "--confidence", 0.9999, "--damage", 0.5, "--json"))
        check(0 < every["shards_checked"] and some["shards_checked"] == 14,
              "the daemon's own audit takes the same words", some["shards_checked"])
        check(every["read_remotely"] == every["shards_checked"]
              and "costs traffic" in cloud.tool("audit", "--sample", 3),
              "and says that directories cost traffic")

        report = names_the_culprit(cloud, auditor, bundle, large, rng)
        reports_cannot_be_changed(cloud, auditor, report)
        before = len(json.loads(cloud.tool("auditor", "history", "--json"))["audits"])
        check_equal(before, 3, "audits by others are not the daemon's")
        check_equal(len(json.loads(cloud.tool("audit", "--json"))["bad"]), 2,
                    "which asks again before it believes a report")
        history = json.loads(cloud.tool("auditor", "history", "--json"))["audits"]
        check_equal([h["audit"] for h in history], ["paths", "sample", "sample", "full"],
                    "its own audits are kept")
        check_equal(sum(s["missing"] + s["corrupt"] for s in history[3]["sites"]), 2, "site by site")
        cloud.tool("repair", "--wait", seconds=120)
        cloud.collect()
        trees.make_tree(mount / "another-hidden-name", rng, small=5, large=(3 << 20,))
        trees.fsync_path(mount.point)
        refresh = auditor.at / "refresh"
        changed = json.loads(cloud.tool("auditor", "export", "--output", refresh, "--since", bundle,
                                        "--json"))
        check(0 < changed["records_written"] < changed["stripes"], "a refresh has what has changed",
              changed)
        nothing_secret_in(refresh, cloud, [secret, "another-hidden-name"])
        check_equal(verify(cloud, report)["standing"], 0, "what was repaired stands no more")
        again = report_of(auditor.run(bundle, "--refresh", refresh, "--recheck", report))
        check_equal([f["reason"] for f in again["findings"]], ["outdated"] * 2,
                    "and is outdated, not bad, after a refresh")
        fresh = report_of(auditor.run(bundle, "--refresh", refresh))
        check_equal((fresh["findings"], fresh["bundle"]["stripes"]), ([], changed["stripes"]),
                    "the refreshed bundle is proven whole")
        mount.unmount()


if __name__ == "__main__":
    harness.main(test, 240)
