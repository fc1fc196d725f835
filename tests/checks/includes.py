"""Every file includes what it needs: `includes.py [ROOT]`.

Builds compile files in groups with common headers precompiled (cmake/groups.cmake), where a missing
include is not noticed. Here each name in STANDARD and LIBRARIES, and each type and constant of ours, that
a file uses must come from a header which the file includes, itself or through headers of ours. Functions
are not looked at. The whole proof, each file compiled by itself, is a build of the preset `dev`, which
takes many minutes; this takes seconds.
"""

import re
import sys
from functools import lru_cache
from pathlib import Path

FOLDERS = ("common", "cls", "daemon", "fs", "tools", "watermark", "tests")
# std:: name: the headers that define it for sure.
STANDARD = {}
for header, names in {
    "algorithm": "sort stable_sort max_element min_element find_if find_if_not any_of all_of none_of copy_n "
                 "lower_bound upper_bound equal_range shuffle remove_if transform reverse rotate unique "
                 "count_if partition nth_element partial_sort binary_search set_difference includes "
                 "set_intersection set_union is_sorted clamp mismatch adjacent_find",
    "array": "array",
    "atomic": "atomic memory_order_relaxed atomic_flag",
    "bit": "bit_cast countr_zero countl_zero bit_ceil bit_floor bit_width has_single_bit popcount rotl",
    "charconv": "from_chars to_chars",
    "condition_variable": "condition_variable condition_variable_any",
    "deque": "deque",
    "fstream": "ifstream ofstream fstream",
    "functional": "function hash bind_front greater less plus",
    "future": "future promise async packaged_task shared_future",
    "list": "list",
    "map": "map multimap",
    "memory": "unique_ptr shared_ptr weak_ptr make_unique make_shared enable_shared_from_this",
    "mutex": "mutex recursive_mutex lock_guard unique_lock scoped_lock once_flag call_once",
    "numeric": "accumulate iota gcd lcm reduce",
    "optional": "optional nullopt",
    "queue": "queue priority_queue",
    "random": "mt19937 mt19937_64 random_device uniform_int_distribution uniform_real_distribution",
    "set": "set multiset",
    "shared_mutex": "shared_mutex shared_lock",
    "sstream": "istringstream ostringstream stringstream",
    "thread": "thread jthread",
    "unordered_map": "unordered_map",
    "unordered_set": "unordered_set",
    "variant": "variant visit get_if holds_alternative monostate",
    "vector": "vector",
    "regex": "regex smatch regex_match regex_search regex_replace",
    "filesystem": "filesystem",
}.items():
    for name in names.split():
        STANDARD.setdefault(name, set()).add(header)
# Headers that bring in <chrono>, and std::hash of their types.
STANDARD["chrono"] = {"chrono", "condition_variable", "thread", "mutex", "future", "shared_mutex"}
STANDARD["hash"] |= {"string", "memory", "optional", "variant", "system_error", "string_view"}
# Other words, and the beginning of the header they come from.
LIBRARIES = {
    r"\bfmt::": "fmt/",
    r"\bspdlog::": "spdlog/",
    r"\bnlohmann::": "nlohmann/",
    r"\b(?:EXPECT|ASSERT)_[A-SU-Z]\w+\(|^TEST(?:_[FP])?\(": "gtest/|gmock/",
    r"\b(?:EXPECT|ASSERT)_THAT\(": "gmock/",
}
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', re.M)
TYPE = re.compile(r"^(?:template <.*>\s)?(?:class|struct|union|enum|enum class) (?:\[\[\w+\]\] )?(\w+)"
                  r"(?: final)?\s*(?::[^:;{]*)?\{", re.M)
ALIAS = re.compile(r"^using (\w+) =", re.M)
CONSTANT = re.compile(r"^(?:inline |extern |static )*(?:constexpr|const)\b[^;=({]*?\b(k[A-Z]\w*)", re.M)
DECLARED = re.compile(r"(?:^\s*|[<,>] *)(?:friend )?(?:enum class|class|struct|union|enum|typename) (\w+)|"
                      r"\busing (\w+) =|\b(k[A-Z]\w*)\b(?=\[|\{| =|,|\))|"
                      r"\b(?:TEST(?:_[FP])?|MATCHER(?:_P)?|TYPED_TEST_SUITE)\((\w+)(?:, (\w+))?", re.M)
MESSAGE = re.compile(r"^(?:message|enum) (\w+)", re.M)


def plain(text):
    """Without comments and strings."""
    text = re.sub(r'R"(\w*)\(.*?\)\1"', '""', text, flags=re.S)
    text = re.sub(r"//[^\n]*", "", text)
    return re.sub(r'^(?!\s*#)(.*)$', lambda m: re.sub(r'"(?:\\.|[^"\\])*"', '""', m[0]), text, flags=re.M)


class Tree:
    def __init__(self, root):
        self.root = root
        self.text = {}
        for folder in FOLDERS:
            for path in (root / folder).rglob("*"):
                if path.suffix in (".cc", ".h"):
                    self.text[path.relative_to(root).as_posix()] = path.read_text()
        self.direct = {file: INCLUDE.findall(text) for file, text in self.text.items()}
        self.code = {file: plain(text) for file, text in self.text.items()}
        self.homes = {}  # of our names: the headers that define them
        for file, code in self.code.items():
            if file.endswith(".h"):
                for pattern in (TYPE, ALIAS, CONSTANT):
                    for name in pattern.findall(code):
                        self.homes.setdefault(name, set()).add(file)
        for path in (root / "common").rglob("*.proto"):
            header = path.relative_to(root).with_suffix(".pb.h").as_posix()
            for name in MESSAGE.findall(path.read_text()):
                self.homes.setdefault(name, set()).add(header)

    @lru_cache(maxsize=None)
    def seen(self, file):
        """(our headers, headers of others) that the file includes, itself or through ours."""
        ours, others, todo = set(), set(), [file]
        while todo:
            for own, other in self.direct.get(todo.pop(), []):
                others.add(other) if other else None
                if own and own not in ours:
                    ours.add(own)
                    todo.append(own)
                    if own.endswith(".pb.h"):
                        others.update(("string", "map", "memory"))
        return ours, others

    @lru_cache(maxsize=None)
    def declared(self, file):
        """Names that a file declares anywhere: nested ones, and those of classes defined elsewhere."""
        return frozenset(name for names in DECLARED.findall(self.code.get(file, ""))
                         for name in names if name)

    def missing(self, file):
        code = self.code[file]
        for own, _ in self.direct[file]:
            if own and not own.endswith(".pb.h") and not (self.root / own).exists():
                yield f"{own}: there is no such file; name it from the top"
        ours, others = self.seen(file)
        for name in sorted(set(re.findall(r"\bstd::(\w+)", code))):
            if name in STANDARD and not STANDARD[name] & others:
                yield f"std::{name}: include <{sorted(STANDARD[name])[0]}>"
        for pattern, headers in LIBRARIES.items():
            if (match := re.search(pattern, code, re.M)) and not any(
                    re.match(headers, other) for other in others):
                yield f"{match[0].strip()}: include <{headers.split('|')[0]}...>"
        own = self.declared(file).union(*(self.declared(header) for header in ours))
        for name in sorted(set(re.findall(r"(?<![\w.:>])[A-Zk][A-Za-z0-9]*[a-z][A-Za-z0-9]*\b", code)) - own):
            homes = self.homes.get(name, set())
            if homes and file not in homes and not homes & ours:
                yield f'{name}: include "{sorted(homes)[0]}"'


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2]).resolve()
    tree = Tree(root)
    if not tree.text:
        sys.exit(f"{root}: there are no sources here")
    found = [f"{file}: {what}" for file in sorted(tree.text) for what in tree.missing(file)]
    print(*found, sep="\n")
    if found:
        sys.exit(f"{len(found)} names come from headers that are not included")


if __name__ == "__main__":
    main()
