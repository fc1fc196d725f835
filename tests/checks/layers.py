"""A folder includes only folders below it: `layers.py [ROOT]`.

LAYERS is the order, lowest first. Beside it some libraries are the business of one folder, and
programs stay apart: LIBRARIES, APART. tests/ may include anything.
"""

import re
import sys
from pathlib import Path

LAYERS = {
    "common": ["base", "codes", "crypto", "net", "tls", "proto", "locks", "rpc", "stripe", "tags", "plan", "config",
               "store", "store/rados", "store/remote", "site", "audit"],
    "daemon": ["loop", "journal", "metadata", "checkpoint", "records", "leadership", "sessions", "jobs", "repair", "fold", "audit", "fsck",
               "scrub", "maintenance", "service", "program"],
    "watermark": ["pixels", "record", "picture", "work"],
    "fs": ["base", "read", "write", "file", "fuse/raw", "fuse"],
}
# A library's headers, and the one folder that includes them.
LIBRARIES = {
    "leveldb/": "daemon/metadata",
    "rados/librados": "common/store/rados",
    "rados/objclass": "cls",
    "tiff": "watermark/picture",
    "png.h": "watermark/picture",
}
# What a program may include of the others' trees.
APART = {
    "common": ["common"],
    "cls": ["common", "cls"],
    "daemon": ["common", "daemon"],
    "fs": ["common", "fs"],
    "watermark": ["common", "watermark"],
    "tools": ["common", "tools", "watermark", "daemon/metadata", "daemon/fsck",
              "daemon/checkpoint", "daemon/journal"],
}
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.M)


def below(path, folders):
    return any(path == folder or path.startswith(folder + "/") for folder in folders)


def layer(folder):
    """(top, number of the layer) of a folder such as daemon/fold, or None without layers."""
    top, _, rest = folder.partition("/")
    return (top, LAYERS[top].index(rest)) if rest in LAYERS.get(top, []) else None


def wrong(file, bracket, included):
    """Why a file of this path may not include that one, or None."""
    folder = str(Path(file).parent)
    top = folder.split("/")[0]
    for library, owner in LIBRARIES.items():
        if included.startswith(library) and folder != owner:
            return f"only {owner} includes {library}*"
    if bracket == "<" or included.split("/")[0] not in APART:
        return None
    target = str(Path(included).parent)
    if not below(target, APART[top]):
        return f"{top} includes only {', '.join(APART[top])}"
    mine, theirs = layer(folder), layer(target)
    if mine and theirs and mine[0] == theirs[0] and theirs[1] > mine[1]:
        return f"{target} is above {folder}"
    return None


def violations(root):
    for top in APART:
        for path in sorted((root / top).rglob("*")):
            if path.suffix not in (".cc", ".h"):
                continue
            file = path.relative_to(root).as_posix()
            if top in LAYERS and not layer(str(Path(file).parent)):
                yield f"{file}: {Path(file).parent} has no layer in {Path(__file__).name}"
            for match in INCLUDE.finditer(text := path.read_text()):
                reason = wrong(file, *match.groups())
                if reason:
                    line = text.count("\n", 0, match.start(1)) + 1
                    yield f'{file}:{line}: {match[2]}: {reason}'


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2]).resolve()
    if not list((root / "common").rglob("*.h")):
        sys.exit(f"{root}: there are no sources here")
    found = list(violations(root))
    print(*found, sep="\n")
    if found:
        sys.exit(f"{len(found)} includes go up: move what is needed to the folder it belongs to")


if __name__ == "__main__":
    main()
