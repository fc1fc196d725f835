"""Groups source files so that each group compiles as one translation unit.

    batches.py first|again LINES_MAX DIRECTORY FILE...

writes DIRECTORY/N.cc, each of which includes the files of a group, only where that changes, and
prints them for CMake: "A;B;...". Files of one folder come together where they can. What a file keeps to
itself (an unnamed namespace, a macro, an alias) would be seen by the files after it, so a file whose own
names occur in another, in a way that could mean them, is never in that file's group.

A file stays where an earlier run put it while it can, so that an edit compiles one group again. CMake
runs `first` and fixes how many groups there are; `again` runs in a build when a source has changed.
"""

import functools
import re
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
# Definitions begin in column 0: every file is as clang-format leaves it.
TYPE = re.compile(r"^(?:template <.*> *)?(?:class|struct|union|enum class|enum) (\w+)", re.M)
ALIAS = re.compile(r"^(?:using|namespace) (\w+) =", re.M)
MACRO = re.compile(r"^#define (\w+)", re.M)
VALUE = re.compile(r"^(?!class |struct |union |enum )[A-Za-z][\w:<>,*&\[\] ]*?[ &*](\w+)(?:\[\w*\])* ?(?:=|\(|\{|;)", re.M)
ENUMERATORS = re.compile(r"^enum (?!class )[^{]*\{(.*?)\}", re.S | re.M)
TEST = re.compile(r"^TEST(?:_[FP])?\((\w+), (\w+)", re.M)
# Hold for the rest of a translation unit.
LASTING = re.compile(r"^#pragma GCC (?:diagnostic|target|optimize)", re.M)
DIRECTIVE = re.compile(r"^using namespace (\w+);", re.M)
COMMENT_OR_TEXT = re.compile(r'//.*|"(?:[^"\\\n]|\\.)*"')
# What a scope or an object in front of a name makes another name. Scopes in lower case may be ours.
ELSEWHERE = re.compile(r"(?:\.|->|\b(?:std|pb|fmt|spdlog|leveldb|testing|[A-Z]\w*)::)\w+")
HEADER_TYPE = re.compile(r"^(?:template <.*>\n?)?(?:class|struct|union|enum class|enum|using) (\w+)", re.M)
INCLUDE = re.compile(r'^#include "(.*)"', re.M)
KEYWORDS = {"return", "if", "for", "while", "switch", "operator", "namespace", "else", "case"}


def own_names(text):
    names = set()
    for pattern in (TYPE, ALIAS, MACRO, VALUE):
        names.update(pattern.findall(text))
    for listed in ENUMERATORS.findall(text):
        names.update(re.findall(r"\b\w+(?= *(?:[,=]|$))", listed))
    names.update(f"{suite}_{test}_Test" for suite, test in TEST.findall(text))
    return names - KEYWORDS


def private_names(text):
    """Of the unnamed namespaces, static definitions, aliases and macros."""
    inner = re.findall(r"^namespace \{\n(.*?)^\}  // namespace$", text, re.S | re.M)
    names = own_names("".join(inner)) | set(ALIAS.findall(text)) | set(MACRO.findall(text))
    names.update(own_names("".join(re.findall(r"^static .*\n", text, re.M))))
    return names


@functools.cache
def types_reached(header):
    """Types and aliases of a header of ours and of all it includes."""
    return _types_reached(header, set())


def _types_reached(header, seen):
    path = SOURCE / header
    if header in seen or not path.exists():
        return set()
    seen.add(header)
    text = path.read_text()
    names = set(HEADER_TYPE.findall(text))
    for below in INCLUDE.findall(text):
        names |= _types_reached(below, seen)
    return names


class Source:
    def __init__(self, path):
        text = Path(path).read_text()
        path = Path(path).resolve()
        self.include = path.relative_to(SOURCE) if SOURCE in path.parents else path
        self.lines = text.count("\n")
        self.private = private_names(text)
        code = COMMENT_OR_TEXT.sub("", text)
        self.macros = set(MACRO.findall(text))
        self.words = set(re.findall(r"\w+", ELSEWHERE.sub("", code)))
        self.all_words = set(re.findall(r"\w+", code))
        self.directives = set(DIRECTIVE.findall(text))  # files that see the same share a group
        self.alone = bool(LASTING.search(text))
        # A private name like a type that another file sees would hide it there, or be ambiguous.
        self.types = set().union(*map(types_reached, INCLUDE.findall(text)))

    def agrees_with(self, other):
        return not (self.alone or other.alone or self.directives != other.directives or
                    self.private & other.words or
                    other.private & self.words or self.private & other.types or
                    other.private & self.types or self.macros & other.all_words or
                    other.macros & self.all_words)


def fits(file, members, lines_max):
    return (sum(other.lines for other in members) + file.lines <= lines_max and
            all(file.agrees_with(other) for other in members))


def group(files, lines_max, groups):
    """Puts each file into the newest of `groups` that takes it, or into a new one."""
    for file in files:
        for members in reversed(groups):
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
        for name in INCLUDE.findall(path.read_text()):
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
    files = [Source(path) for path in sorted(paths)]
    earlier = sorted(directory.glob("[0-9][0-9].cc"))
    groups, left = earlier_groups(files, lines_max, earlier)
    groups = group(left, lines_max, groups)
    if mode == "again" and len(groups) > len(earlier):
        sys.exit(f"{directory.name} needs more groups, because names clash: run cmake {directory.parents[1]}")
    return [write(directory / f"{i:02}.cc", members) for i, members in enumerate(groups)]


if __name__ == "__main__":
    print(*main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:]), sep=";", end="")
