"""What a site's operator can read: no contents, no file names, in no usual encoding."""

import base64
import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
import trees  # noqa: E402
from cloud import Cloud  # noqa: E402
from harness import check  # noqa: E402

CONTENT = b"the harvest of the north field was forty-two bushels; "
NAMES = ["secret-harvest-report.txt", "classified-satellite-images", "Nordfeld-Ernte.tiff"]


def encodings(text):
    """A text as it is, in hex, in base64 at each of the three alignments, and as UTF-16."""
    yield text
    yield text.hex().encode()
    yield text.hex().upper().encode()
    for shift in range(3):
        coded = base64.b64encode(bytes(shift) + text)
        yield coded[(shift * 4 + 2) // 3 + 1:-4]
    yield text.decode().encode("utf-16-le")


def search(cloud, needles):
    hits = []
    looked = size = 0
    for site in cloud.sites.values():
        for place, data in site.everything():
            looked += data != b""
            size += len(data)
            hits += [f"{place}: {n[:40]!r}" for n in needles if n in data or n in place.encode()]
    return hits, looked, size


def nothing_readable(compress, rng):
    with Cloud(cloud={"compress": compress}) as cloud:
        cloud.start_daemon()
        mount = cloud.mount()
        directory = mount / NAMES[1]
        trees.write_file(directory / NAMES[0], CONTENT * 20_000)
        trees.write_file(directory / NAMES[2], CONTENT + rng.randbytes(500_000) + CONTENT * 3)
        trees.write_file(directory / "tiny", CONTENT)
        os.symlink(NAMES[0], directory / "link-to-the-harvest")
        os.setxattr(directory / "tiny", "user.harvest-comment", CONTENT[:40])
        trees.fsync_tree(mount)
        texts = [CONTENT[:30], CONTENT[8:36], b"user.harvest-comment", b"link-to-the-harvest"]
        texts += [n.encode() for n in NAMES]
        needles = sorted({e for t in texts for e in encodings(t) if len(e) >= 12})
        hits, looked, size = search(cloud, needles)
        check(looked >= 10 and size > 100_000 // 4, f"compress {compress}: {looked} objects of "
              f"{size} bytes at the sites searched")
        check(not hits, f"compress {compress}: neither contents nor names are found", hits[:5])
        words = (cloud.root / "data.key").read_bytes().split()
        secrets = [w for w in words if len(w) >= 40]  # the cloud's UUID is shorter, and public
        check(len(secrets) > 0, "the key file holds a long secret")
        hits, _, _ = search(cloud, secrets)
        check(not hits, "nor is the secret of the key file", len(hits))
        mount.unmount()


def test(options):
    rng = random.Random(options.seed)
    nothing_readable("none", rng)
    nothing_readable("zstd", rng)


if __name__ == "__main__":
    harness.main(test, 120)
