"""Groups source files so that each group compiles as one translation unit.

    batches.py first|again LINES_MAX DIRECTORY FILE...

writes DIRECTORY/FOLDER-N.cc, each of which includes the files of a group, only where that changes, and
prints them for CMake: "A;B;...". Groups are of one folder. What a file keeps to itself (an unnamed
namespace, a macro, an alias) would be seen by the files after it, so a file whose own names occur
anywhere in another is never in that file's group.

A file stays where an earlier run put it while it can, so that an edit compiles one group again. CMake
runs `first` and fixes how many groups there are; `again` runs in a build when a source has changed.
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
# Definitions begin in column 0: every file is as clang-format leaves it.
TYPE = re.compile(r"^(?:template <.*> *)?(?:class|struct|union|enum|enum class) (\w+)", re.M)
ALIAS = re.compile(r"^(?:using|namespace) (\w+) =", re.M)
MACRO = re.compile(r"^#define (\w+)", re.M)
VALUE = re.compile(r"^[A-Za-z][\w:<>,*&\[\] ]*?[ &*](\w+)(?:\[\w*\])* ?(?:=|\(|\{|;)", re.M)
ENUMERATOR = re.compile(r"\b(k[A-Z]\w*)\b(?= *[,=}])")
TEST = re.compile(r"^TEST(?:_[FP])?\((\w+), (\w+)", re.M)
# Holds for the rest of a translation unit.
LASTING = re.compile(r"^#pragma GCC (?:diagnostic|target|optimize)", re.M)
KEYWORDS = {"return", "if", "for", "while", "switch", "operator", "namespace", "else", "case"}


def own_names(text):
    names = set()
    for pattern in (TYPE, ALIAS, MACRO, VALUE, ENUMERATOR):
        names.update(pattern.findall(text))
    names.update(f"{suite}_{test}_Test" for suite, test in TEST.findall(text))
    return names - KEYWORDS


def private_names(text):
    """Of the unnamed namespaces, static definitions, aliases and macros."""
    inner = re.findall(r"^namespace \{\n(.*?)^\}  // namespace$", text, re.S | re.M)
    names = own_names("".join(inner)) | set(ALIAS.findall(text)) | set(MACRO.findall(text))
    names.update(own_names("".join(re.findall(r"^static .*\n", text, re.M))))
    return names


class Source:
    def __init__(self, path):
        text = Path(path).read_text()
        path = Path(path).resolve()
        self.include = path.relative_to(SOURCE) if SOURCE in path.parents else path
        self.lines = text.count("\n")
        self.private = private_names(text)
        self.words = set(re.findall(r"\w+", re.sub(r"//.*", "", text)))
        self.alone = bool(LASTING.search(text))

    def agrees_with(self, other):
        return not (self.alone or other.alone or self.private & other.words or
                    other.private & self.words)


def fits(file, members, lines_max):
    return (sum(other.lines for other in members) + file.lines <= lines_max and
            all(file.agrees_with(other) for other in members))


def group(files, lines_max, groups):
    """Puts each file into the first of `groups` that takes it, or into a new one."""
    for file in files:
        for members in groups:
            if fits(file, members, lines_max):
                members.append(file)
                break
        else:
            groups.append([file])
    return groups


def earlier_groups(files, lines_max, paths):
    """Groups as they were, so that an edit moves no other file; and the files left over."""
    groups, left = [], {str(file.include): file for file in files}
    for path in paths:
        groups.append([])
        for name in re.findall(r'#include "(.*)"', path.read_text()):
            if name in left and fits(left[name], groups[-1], lines_max * 3 // 2):
                groups[-1].append(left.pop(name))
    return groups, list(left.values())


def write(path, members):
    text = "".join(f'#include "{file.include}"\n' for file in members)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return path


def main(mode, lines_max, directory, paths):
    directory.mkdir(parents=True, exist_ok=True)
    folders = defaultdict(list)
    for path in sorted(paths):
        file = Source(path)
        folders[str(file.include.parent)].append(file)
    written = []
    for folder, files in folders.items():
        stem = folder.replace("/", "_").strip("_")
        earlier = sorted(directory.glob(f"{stem}-*.cc"))
        groups, left = earlier_groups(files, lines_max, earlier)
        groups = group(left, lines_max, groups)
        if mode == "again" and len(groups) > len(earlier):
            sys.exit(f"{folder} needs more groups, because names clash: run cmake {directory.parents[1]}")
        written += [write(directory / f"{stem}-{i:02}.cc", members) for i, members in enumerate(groups)]
    return written


if __name__ == "__main__":
    print(*main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:]), sep=";", end="")
