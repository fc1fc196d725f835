"""The sites a test cloud stands on: directories, and pools of the Ceph clusters of ceph-sites.sh.

Both kinds can be taken away, emptied in place and put back, and tell which objects they hold, so
that one test runs on either.
"""

import json
import os
import shutil
import subprocess
import uuid
from pathlib import Path

CEPH_SITES = Path(__file__).resolve().parent / "ceph-sites.sh"
MARKER = "datacloud-site"


class SiteError(Exception):
    pass


def name_in(location):
    """The object's name in pool/namespace/object."""
    return location.rsplit("/", 1)[1]


class DirectorySite:
    kind = "directory"

    def __init__(self, name, root):
        self.name, self.path, self.elsewhere = name, root / "sites" / name, root / "away" / name
        self.path.mkdir(parents=True)
        self.elsewhere.parent.mkdir(exist_ok=True)

    def settings(self):
        return {"store": "directory", "path": self.path}

    def take_away(self):
        """Nothing is at its path."""
        self.path.rename(self.elsewhere)

    def empty_in_place(self):
        """What an unmounted disk looks like: an empty directory where the site was."""
        self.take_away()
        self.path.mkdir()

    def put_back(self):
        """A site filled meanwhile is an error."""
        if self.path.exists():
            filled = [str(p.relative_to(self.path)) for p in self.path.rglob("*")]
            if filled:
                raise SiteError(f"{self.name}: the empty directory of an away site was filled: "
                                f"{filled[:5]}")
            self.path.rmdir()
        self.elsewhere.rename(self.path)

    def locations(self):
        """Of all its objects, as `locate` writes them."""
        found = set()
        for fan in os.scandir(self.path / "objects"):
            if fan.is_dir():
                found |= {e.path for e in os.scandir(fan.path) if not e.name.startswith(".")}
        return found

    def location_of(self, name):
        """Where an object of this name would be."""
        hashed = 2166136261
        for byte in name.encode():
            hashed = (hashed ^ byte) * 16777619 & 0xffffffff
        hashed ^= hashed >> 16
        return str(self.path / "objects" / f"{(hashed ^ hashed >> 8) & 0xff:02x}" / name)

    def everything(self):
        """(place, bytes) of all that its operator sees."""
        for directory, _, files in os.walk(self.path):
            yield directory, b""
            for name in files:
                yield f"{directory}/{name}", Path(directory, name).read_bytes()

    # Mischief, by location.

    def read(self, location):
        return Path(location).read_bytes()

    def write(self, location, data):
        Path(location).write_bytes(data)

    def lose(self, location):
        Path(location).unlink()

    def replace(self, location, other):
        """The bytes and attributes of another of its objects."""
        shutil.copyfile(other, location)

    def replace_by_empty(self):
        """A new disk."""
        shutil.rmtree(self.path)
        self.path.mkdir()

    def remove(self):
        pass  # with the cloud's directory


class RadosSite:
    kind = "rados"

    def __init__(self, name, ceph, number, pool, namespace, alone):
        self.name, self.ceph, self.number, self.pool = name, ceph, number, pool
        self.namespace, self.alone = namespace, alone
        self.dir = ceph.dir / f"site{number}"
        self.away = None  # "cut", "stopped", or the marker that was taken, and the objects then

    def settings(self):
        return {"store": "rados", "conf": self.dir / "ceph.conf", "user": "client.datacloud",
                "keyring": self.dir / "ceph.client.datacloud.keyring", "pool": self.pool,
                "namespace": self.namespace}

    def rados(self, *words, data=None):
        command = ["rados", "-c", self.dir / "ceph.conf", "-n", "client.admin", "-p", self.pool,
                   "-N", self.namespace, *words]
        done = subprocess.run([str(w) for w in command], input=data, capture_output=True,
                              timeout=120, check=False)
        if done.returncode != 0:
            raise SiteError(f"{self.name}: rados {' '.join(map(str, words[:3]))}: "
                            f"{done.stderr.decode().strip()}")
        return done.stdout

    def take_away(self):
        """Its link is cut; where it shares a cluster with another site its marker goes instead."""
        if not self.alone:
            self.empty_in_place()
            return
        self.ceph.run("link", self.number, "--cut")
        self.away = "cut"

    def empty_in_place(self):
        """What a pool made anew looks like: no marker."""
        marker = self.rados("get", MARKER, "/dev/stdout")
        self.rados("rm", MARKER)
        self.away = (marker, self.locations())

    def put_back(self):
        if self.away == "cut":
            self.ceph.run("link", self.number, "--heal")
        elif self.away is not None:
            marker, before = self.away
            filled = self.locations() - before
            if filled:
                raise SiteError(f"{self.name}: a pool without its marker was filled: "
                                f"{sorted(filled)[:5]}")
            self.rados("put", MARKER, "/dev/stdin", data=marker)
        self.away = None

    def locations(self):
        names = self.rados("ls").decode().split("\n")
        return {f"{self.pool}/{self.namespace}/{n}" for n in names if n and n != MARKER}

    def location_of(self, name):
        return f"{self.pool}/{self.namespace}/{name}"

    def everything(self):
        for location in sorted(self.locations()):
            yield location, self.read(location)
            for attribute in self.rados("listxattr", name_in(location)).decode().split():
                yield f"{location} {attribute}", self.rados("getxattr", name_in(location), attribute)

    def read(self, location):
        return self.rados("get", name_in(location), "/dev/stdout")

    def write(self, location, data):
        self.rados("put", name_in(location), "/dev/stdin", data=data)  # attributes stay

    def lose(self, location):
        self.rados("rm", name_in(location))

    def replace(self, location, other):
        self.rados("rm", name_in(location))
        self.rados("cp", name_in(other), name_in(location), "--target-nspace", self.namespace)

    def replace_by_empty(self):
        """A pool made anew."""
        self.ceph.run("empty", self.number, self.pool, self.namespace)

    def remove(self):
        if self.away == "cut":
            self.put_back()
        self.ceph.run("empty", self.number, self.pool, self.namespace)


class CephSites:
    """The clusters below a directory, through ceph-sites.sh."""

    def __init__(self, directory):
        self.dir = Path(directory)
        self.run("reset")  # a test that died may have left a link cut
        self.count = len(self.status()["sites"])

    def run(self, *words, seconds=120):
        done = subprocess.run([str(CEPH_SITES), words[0], *map(str, words[1:]), "--dir",
                               str(self.dir)], capture_output=True, text=True, timeout=seconds,
                              check=False)
        if done.returncode != 0:
            raise SiteError(f"ceph-sites.sh {' '.join(map(str, words))}: {done.stderr.strip()}")
        return done.stdout

    def status(self):
        return json.loads(self.run("status", "--json"))

    def counters(self):
        """{site number: the relay's row}"""
        return {row["site"]: row for row in json.loads(self.run("counters", "--json"))}

    def make_sites(self, names, root, pools_only):
        """A pool of each cluster; then directories, or with pools_only further pools."""
        namespace = f"test-{os.getpid()}-{uuid.uuid4().hex[:12]}"
        shared = pools_only and len(names) > self.count
        sites = []
        for i, name in enumerate(names):
            number, layer = i % self.count + 1, i // self.count
            if layer > 0 and not pools_only:
                sites.append(DirectorySite(name, root))
                continue
            pool = "datacloud" if layer == 0 else f"datacloud{layer + 1}"
            if pool not in self.status()["sites"][number - 1]["pools"]:
                self.run("pool", number, pool)
            alone = not shared or number > len(names) - self.count
            sites.append(RadosSite(name, self, number, pool, namespace, alone))
        return sites


def make_sites(names, root, stores):
    """Sites for a cloud below `root`. `stores`: "directory"; "rados" (a pool of each cluster of
    $DATACLOUD_CEPH_SITES, and directories for the rest); "pools" (pools only); or a function of
    names and root that returns them."""
    if callable(stores):
        return stores(names, root)
    if stores == "directory":
        return [DirectorySite(name, root) for name in names]
    where = os.environ.get("DATACLOUD_CEPH_SITES")
    if not where:
        raise SiteError("DATACLOUD_CEPH_SITES is not set: run this through with-ceph-sites.sh")
    return CephSites(where).make_sites(names, root, stores == "pools")


def default_stores():
    return "rados" if os.environ.get("DATACLOUD_CEPH_SITES") else "directory"
