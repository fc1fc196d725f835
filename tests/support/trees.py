"""Trees of files with known contents, for tests."""

import os
import shutil
from pathlib import Path


def write_file(path, data, sync=False):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
        if sync:
            file.flush()
            os.fsync(file.fileno())


def text_like(rng, size):
    """Compressible bytes: words of a small vocabulary."""
    words = [bytes(rng.choices(b"abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9)))
             for _ in range(200)]
    return b" ".join(rng.choices(words, k=size // 4 + 1))[:size]


def make_tree(root, rng, small=40, large=(1 << 20, 5 << 20)):
    """Small files of all awkward sizes, some empty, some compressible, and a few large ones."""
    root = Path(root)
    sizes = [0, 1, 511, 4095, 4096, 4097, 65535, 65536, 65537, 131072, 200000]
    for i in range(small):
        size = sizes[i] if i < len(sizes) else rng.randint(1, 150_000)
        data = rng.randbytes(size) if rng.random() < 0.5 else text_like(rng, size)
        write_file(root / f"dir{i % 5}" / f"small-{i}.bin", data)
    for i, size in enumerate(large):
        write_file(root / "large" / f"large-{i}.bin", rng.randbytes(size))
    os.symlink("large/large-0.bin", root / "link")
    return root


def fsync_tree(root):
    """fsync of every file and directory below (and of) root."""
    for directory, _, files in os.walk(root):
        for name in files:
            path = os.path.join(directory, name)
            if not os.path.islink(path):
                fsync_path(path)
        fsync_path(directory)


def fsync_path(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def copy_into(source, target):
    """Copies a tree with its symlinks, as `cp -a` does."""
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
