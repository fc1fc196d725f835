"""What a file may look like after a crash: the model that crash tests compare with.

Files consist of 512-byte sectors that describe themselves: file id, sector number, generation and
a checksum. A writer logs every operation before it does it, and every fsync after it returned.
From that log the model knows, per 64 KiB block, each state the block has had since the last fsync:
after a crash the block must be exactly in one of them, never a mixture, never older, never
another file's.
"""

import copy
import hashlib
import struct
import zlib

SECTOR = 512
BLOCK_SECTORS = 128
MAGIC = b"DCsector"
_HEADER = struct.Struct("<8sQQQ")
_BODY_BYTES = SECTOR - _HEADER.size - 4


def make_sectors(file_id, first, count, generation):
    out = []
    for number in range(first, first + count):
        header = _HEADER.pack(MAGIC, file_id, number, generation)
        body = (hashlib.blake2b(header).digest() * 8)[:_BODY_BYTES]
        out.append(header + body + zlib.crc32(header + body).to_bytes(4, "little"))
    return b"".join(out)


_ZEROS = bytes(SECTOR)


class Violation(Exception):
    pass


def read_sectors(data, file_id, where):
    """The generation of each sector; 0 for a sector of zeros (a hole)."""
    if len(data) % SECTOR:
        raise Violation(f"{where}: size {len(data)} is not a whole number of sectors")
    generations = []
    for at in range(0, len(data), SECTOR):
        sector = data[at:at + SECTOR]
        if sector == _ZEROS:
            generations.append(0)
            continue
        magic, owner, number, generation = _HEADER.unpack_from(sector)
        place = f"{where}: sector {at // SECTOR}"
        if magic != MAGIC or zlib.crc32(sector[:-4]) != int.from_bytes(sector[-4:], "little"):
            raise Violation(f"{place}: damaged or torn: {sector[:32].hex()}")
        if owner != file_id:
            raise Violation(f"{place}: belongs to file {owner} instead of {file_id}")
        if number != at // SECTOR:
            raise Violation(f"{place}: is sector {number} of its file")
        generations.append(generation)
    return generations


class FileModel:
    def __init__(self, file_id, generations=()):
        self.file_id = file_id
        self.now = list(generations)
        self.sync()

    def sync(self):
        """What is now is durable: the only allowed state until the next change."""
        self.sizes = [len(self.now)]
        self.blocks = {}
        self.base = list(self.now)

    def _changed(self, first, last):
        """Records the state of blocks that sectors first..last (exclusive) lie in."""
        self.sizes.append(len(self.now))
        for block in range(first // BLOCK_SECTORS, (max(last, first + 1) - 1) // BLOCK_SECTORS + 1):
            at = block * BLOCK_SECTORS
            states = self.blocks.setdefault(block, [self.base[at:at + BLOCK_SECTORS]])
            states.append(self.now[at:at + BLOCK_SECTORS])

    def write(self, first, count, generation):
        old = len(self.now)
        if first + count > old:
            self.now.extend([0] * (first + count - old))
        self.now[first:first + count] = [generation] * count
        self._changed(min(first, old), first + count)

    def truncate(self, sectors):
        old = len(self.now)
        if sectors < old:
            del self.now[sectors:]
        else:
            self.now.extend([0] * (sectors - old))
        self._changed(min(old, sectors), max(old, sectors))

    def verify(self, data, where):
        """Violation unless data is an allowed state; then it becomes the durable one."""
        seen = read_sectors(data, self.file_id, where)
        if not min(self.sizes) <= len(seen) <= max(self.sizes):
            raise Violation(f"{where}: {len(seen)} sectors, but {min(self.sizes)} to "
                            f"{max(self.sizes)} since the last fsync")
        for at in range(0, len(seen), BLOCK_SECTORS):
            block = at // BLOCK_SECTORS
            part = seen[at:at + BLOCK_SECTORS]
            states = self.blocks.get(block, [self.base[at:at + BLOCK_SECTORS]])
            if not any(_matches(part, state) for state in states):
                raise Violation(f"{where}: block {block} is in no state it ever had since the last "
                                f"fsync: {_runs(part)}; allowed: "
                                f"{[_runs(s) for s in states[-6:]]} (of {len(states)})")
        self.now = seen
        self.sync()


def _matches(seen, state):
    common = min(len(seen), len(state))
    return seen[:common] == state[:common] and not any(seen[common:])


def _runs(generations):
    """[5,5,5,7] as "5x3 7x1"."""
    out = []
    for g in generations:
        if out and out[-1][0] == g:
            out[-1][1] += 1
        else:
            out.append([g, 1])
    return " ".join(f"{g}x{n}" for g, n in out) or "empty"


class DirectoryModel:
    """The files of one writer: which file each name may stand for, and each file's states."""

    def __init__(self):
        self.files = {}    # file id -> FileModel
        self.unmoved = {}  # file id -> FileModel, should the rename turn out not to have happened
        self.names = {}    # name -> file id or None, as of now
        self.allowed = {}  # name -> set of file ids or None, since the last directory sync

    def _set(self, name, file_id):
        self.allowed.setdefault(name, {self.names.get(name)}).add(file_id)
        self.names[name] = file_id

    def sync_names(self):
        self.allowed = {}

    def apply(self, record):
        """One line of the writer's log."""
        op = record["op"]
        if op == "create":
            self.files[record["file"]] = FileModel(record["file"])
            self._set(record["name"], record["file"])
        elif op == "write":
            for model in self._models(record):
                model.write(record["first"], record["count"], record["generation"])
        elif op == "truncate":
            for model in self._models(record):
                model.truncate(record["sectors"])
        elif op == "synced":
            # The metadata log is one sequence: a durable file is durable with its name.
            for model in self._models(record):
                model.sync()
            self.sync_names()
        elif op == "replace":
            # rename(2) over a file writes the new file's data first.
            self.unmoved[record["file"]] = copy.deepcopy(self.files[record["file"]])
            self.files[record["file"]].sync()
            self._set(record["name"], record["file"])
            self._set(record["from"], None)
        elif op == "unlink":
            self._set(record["name"], None)
        elif op == "names synced":
            self.sync_names()
        elif op != "error":
            raise ValueError(f"unknown record {record}")

    def _models(self, record):
        file_id = record["file"]
        return [m for m in (self.files[file_id], self.unmoved.get(file_id)) if m is not None]

    def verify(self, directory):
        """Compares with what is there; afterwards the model is what was seen. Returns bytes."""
        present = {}
        for name in sorted(p.name for p in directory.iterdir()):
            present[name] = (directory / name).read_bytes()
        size = 0
        for name in sorted(set(present) | set(self.names) | set(self.allowed)):
            where = f"{directory.name}/{name}"
            allowed = self.allowed.get(name, {self.names.get(name)})
            if name not in present:
                if None not in allowed:
                    raise Violation(f"{where}: is gone, but must be one of the files {allowed}")
                self.names[name] = None
                continue
            candidates = sorted(i for i in allowed if i is not None)
            if not candidates:
                raise Violation(f"{where}: is there, but was durably removed or never made")
            self._verify_file(name, where, present[name], candidates)
            size += len(present[name])
        self.sync_names()
        self.files = {i: self.files[i] for i in self.names.values() if i is not None}
        self.unmoved = {}
        return size

    def _verify_file(self, name, where, data, candidates):
        failure = None
        for file_id in reversed(candidates):
            # "new" is the name files have before the rename.
            model = self.unmoved.get(file_id) if name == "new" else None
            model = model or self.files[file_id]
            try:
                model.verify(data, where)
                self.files[file_id] = model
                self.names[name] = file_id
                return
            except Violation as violation:
                failure = failure or violation
        raise failure

    def sizes(self):
        """{name: (file id, sectors)} for the next writer."""
        return {n: (i, len(self.files[i].now)) for n, i in self.names.items() if i is not None}
