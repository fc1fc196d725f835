"""docs/operations.md from a bare Ceph cluster to a mounted cloud, word for word.

The cluster has no pool, no user and no class of ours. The blocks marked `ceph` are executed on it,
then those of "The first cloud" with the documented [[site]] in place of a directory. In the end
`status` and `locate` must show what the document says they do.
"""

import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from doc_room import BUILD, SOURCE, Script, blocks  # noqa: E402
from harness import check_equal  # noqa: E402

CHAPTER = "## The first cloud"

EXPECTED = r"""
import json, subprocess, sys
def told(*words):
    return json.loads(subprocess.run(["datacloud", *words, "--json"], check=True, text=True,
                                     capture_output=True).stdout)
status = told("status")
site = {s["name"]: s for s in status["sites"]}["tsukuba"]
assert site["up"] and site["osd_class"] == "yes", site
assert status["capacity"]["raw_overhead"] >= status["capacity"]["overhead"] > 0, status["capacity"]
places = [shard["location"] for stripe in told("locate", "/datacloud/picture")["stripes"]
          for shard in stripe["shards"] if shard["site"] == "tsukuba"]
assert places and all(p.startswith("datacloud/demo/") for p in places), places
assert not told("audit")["bad"]
"""


def first_cloud(site):
    """The blocks of the first cloud up to its mount, with `site` as tsukuba's."""
    lines = (SOURCE / "docs" / "operations.md").read_text().splitlines()
    first = lines.index(CHAPTER) + 1
    last = next(i for i, line in enumerate(lines[first:], first) if line.startswith("## "))
    for where, mark, text in blocks("operations.md", "sh run", r"toml /\S+"):
        if not first < int(where.split(":")[1]) < last:
            continue
        if mark != "sh run":
            text, count = re.subn(r'\[\[site\]\]\nname  = "tsukuba"\n.*?\n\n', site + "\n", text,
                                  flags=re.S)
            check_equal(count, 1, "the document's cloud has a directory site to replace")
        yield where, mark, text


def test(options):
    del options
    script = Script()
    control = SOURCE / "tests/support/ceph-sites.sh"
    script.run("a bare cluster", f"{control} up 1 --plain --bare --dir $DATACLOUD_TEST_DIR/sites\n"
                                 "export CEPH_CONF=$DATACLOUD_TEST_DIR/sites/site1/ceph.conf\n"
                                 f"cd {json.dumps(str(BUILD / 'lib'))}")
    site = None
    for where, mark, text in blocks("operations.md", "sh ceph.*", "toml ceph"):
        if mark == "sh ceph restart":
            check_equal(text, "systemctl restart ceph-osd.target\n", "what the harness stands for")
            script.run(where, f"{control} restart site1 --dir $DATACLOUD_TEST_DIR/sites")
        elif mark == "sh ceph":
            script.run(where, text)
        else:
            site = text
    check_equal(site is not None, True, "the document shows the site's configuration")
    script.run("back", "unset CEPH_CONF; cd /root")
    for where, mark, text in first_cloud(site):
        if mark == "sh run":
            script.run(where, text)
        else:
            script.write(where, mark.split()[1], text)
    script.run("a file", "head -c 3000000 /dev/urandom >/datacloud/picture; sync /datacloud\n"
                         f"/usr/bin/python3 - <<'END'\n{EXPECTED}END\n"
                         "umount /datacloud; datacloud status >/dev/null")
    script.run("the end", f"{control} down --dir $DATACLOUD_TEST_DIR/sites")
    check_equal(script.execute(240), 0, "the walk from a bare cluster to a mounted cloud")


if __name__ == "__main__":
    harness.main(test, 260)
