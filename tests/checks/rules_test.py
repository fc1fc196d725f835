"""layers.py and includes.py find what they are for, in small trees made here; and nothing else."""

import subprocess
import sys
import tempfile
from pathlib import Path

CHECKS = Path(__file__).resolve().parent
GOOD = {
    "common/base/ids.h": "#pragma once\n#include <cstdint>\nstruct InodeId {\n  uint64_t number;\n};\n",
    "common/codes/code.h": "#pragma once\n#include <vector>\n"
                           "#include \"common/base/ids.h\"\nstd::vector<InodeId> all();\n",
    "common/codes/code.cc": "#include \"common/codes/code.h\"\n"
                            "std::vector<InodeId> all() { return {}; }\n",
    "daemon/metadata/store.cc": "#include <leveldb/db.h>\n#include \"common/base/ids.h\"\n",
    "fs/base/clock.h": "#pragma once\n#include <memory>\nstd::shared_ptr<int> clock();\n",
}
# (check, file, its text, what the check says of it)
BAD = [
    ("layers", "common/base/up.cc", '#include "common/codes/code.h"\n',
     "common/base/up.cc:1: common/codes/code.h: common/codes is above common/base"),
    ("layers", "daemon/records/up.h", '\n#  include "daemon/service/service.h"\n',
     "daemon/records/up.h:2: daemon/service/service.h: daemon/service is above daemon/records"),
    ("layers", "common/store/pool.h", '#include "common/store/rados/rados_pool.h"\n',
     "common/store/rados is above common/store"),
    ("layers", "daemon/records/up.cc", "#include <leveldb/db.h>\n", "only daemon/metadata includes leveldb/*"),
    ("layers", "common/store/up.cc", "#include <rados/librados.hpp>\n",
     "only common/store/rados includes rados/librados*"),
    ("layers", "fs/file/other.cc", '#include "daemon/metadata/record_keys.h"\n', "fs includes only common, fs"),
    ("layers", "daemon/loop/other.cc", '#include "fs/base/clock.h"\n', "daemon includes only common, daemon"),
    ("layers", "tools/other.cc", '#include "daemon/records/block_map.h"\n', "tools includes only"),
    ("layers", "common/base/other.cc", '#include "tools/main.h"\n', "common includes only common"),
    ("layers", "daemon/novel/new.cc", "", "daemon/novel has no layer"),
    ("includes", "common/base/up.cc", "std::vector<int> v;\n", "std::vector: include <vector>"),
    ("includes", "common/base/up.cc", '#include "common/codes/code.h"\nstd::map<int, int> m;\n',
     "std::map: include <map>"),
    ("includes", "daemon/loop/other.cc", "InodeId* id();\n", 'InodeId: include "common/base/ids.h"'),
    ("includes", "fs/base/text.cc", 'auto text = fmt::format("{}", 1);\n', "fmt::: include <fmt/...>"),
    ("includes", "tests/fs/a_test.cc", "TEST(A, B) {}\n", "include <gtest/...>"),
    ("includes", "tests/fs/b_test.cc", '#include "fs/gone.h"\n', "fs/gone.h: there is no such file"),
]


def run(check, files):
    with tempfile.TemporaryDirectory() as directory:
        for name, text in files.items():
            path = Path(directory) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        done = subprocess.run([sys.executable, "-B", CHECKS / f"{check}.py", directory], text=True,
                              capture_output=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr


def main():
    for check in ("layers", "includes"):
        status, said = run(check, GOOD)
        if status:
            sys.exit(f"{check}: a good tree is refused: {said}")
        if not run(check, {"README.md": ""})[0]:
            sys.exit(f"{check}: an empty tree passes")
    for check, name, text, expected in BAD:
        status, said = run(check, {**GOOD, name: text})
        if not status or expected not in said or not said.startswith(name):
            sys.exit(f"{check}: of {name} with {text!r} it says: {said or 'nothing'}")
    print(f"{len(BAD)} violations are found")


if __name__ == "__main__":
    main()
