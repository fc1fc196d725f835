"""Groups source files so that each group compiles as one translation unit.

Prints "GROUP;FILE;GROUP;FILE..." for CMake. Sanitizer builds spend their time instantiating the same
templates again in every file; compiled together, that is done once. What a file keeps to itself
(an unnamed namespace, a macro, an alias) would be seen by the files after it, so a file whose own
names occur anywhere in another is never in that file's group.
"""

import re
import sys
from pathlib import Path

LINES_MAX = 2500
# Definitions begin in column 0: every file is as clang-format leaves it.
TYPE = re.compile(r"^(?:template <.*> *)?(?:class|struct|union|enum|enum class) (\w+)", re.M)
ALIAS = re.compile(r"^(?:using|namespace) (\w+) =", re.M)
MACRO = re.compile(r"^#define (\w+)", re.M)
VALUE = re.compile(r"^[A-Za-z][\w:<>,*&\[\] ]*?[ &*](\w+)(?:\[\w*\])* ?(?:=|\(|\{|;)", re.M)
ENUMERATOR = re.compile(r"\b(k[A-Z]\w*)\b(?= *[,=}])")
TEST = re.compile(r"^TEST(?:_[FP])?\((\w+), (\w+)", re.M)
KEYWORDS = {"return", "if", "for", "while", "switch", "operator", "namespace", "else", "case"}


def own_names(text):
    names = set()
    for pattern in (TYPE, ALIAS, MACRO, VALUE):
        names.update(pattern.findall(text))
    names.update(f"{suite}_{test}_Test" for suite, test in TEST.findall(text))
    return names - KEYWORDS


def private_names(text):
    """Of the unnamed namespaces, static definitions, aliases and macros."""
    inner = re.findall(r"^namespace \{\n(.*?)^\}  // namespace$", text, re.S | re.M)
    names = own_names("".join(inner)) | set(ALIAS.findall(text)) | set(MACRO.findall(text))
    names.update(own_names("".join(re.findall(r"^static .*\n", text, re.M))))
    return names


def main(paths):
    files = []
    for path in sorted(paths):
        text = Path(path).read_text()
        code = re.sub(r"//.*", "", text)
        files.append((path, text.count("\n"), private_names(text), set(re.findall(r"\w+", code))))
    groups = []
    for file in files:
        _, lines, names, words = file
        for group in groups:
            if sum(other[1] for other in group) + lines > LINES_MAX:
                continue
            if any(names & other[3] or other[2] & words for other in group):
                continue
            group.append(file)
            break
        else:
            groups.append([file])
    print(";".join(f"batch{i};{file[0]}" for i, group in enumerate(groups) for file in group), end="")


main(sys.argv[1:])
