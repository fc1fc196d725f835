"""What a program's --help says, as data: the one source of manual pages and shell completion.

All programs print the same shape: a description, "Usage: ..." lines, then titled sections whose
entries are indented by two spaces, with two or more spaces (or a new line) before the explanation.
Lines that fit no entry are paragraphs of their section.
"""

import dataclasses
import re
import subprocess


@dataclasses.dataclass
class Section:
    title: str
    entries: list  # [(term, explanation)]
    paragraphs: list


@dataclasses.dataclass
class Help:
    words: list  # ["datacloud", "key", "backup"]
    description: str
    usage: list
    sections: list
    subcommands: list  # of Help

    def options(self):
        """Every option's spellings."""
        found = []
        for section in self.sections:
            for term, _ in section.entries:
                if term.startswith("-"):
                    found += re.findall(r"(?:^|[\s,])(--?[A-Za-z][\w-]*)", term)
        return found


def _usage_words(line):
    words = line.split()
    words[0] = words[0].rsplit("/", 1)[-1]
    return " ".join(words)


def parse(words, text):
    result = Help(words, "", [], [], [])
    section = Section("", [], [])
    for line in text.split("\n") + [""]:
        title = re.fullmatch(r"([A-Z][^:\n]*):", line)
        usage = re.match(r"[Uu]sage: +(.*)", line)
        entry = re.match(r"  (\S(?:\S| (?! ))*)(?: {2,}(.*))?$", line)
        if usage:
            result.usage.append(_usage_words(usage[1]))
        elif title:
            result.sections.append(section)
            section = Section(title[1], [], [])
        elif entry:
            section.entries.append((entry[1], entry[2] or ""))
        elif line.startswith("      ") and section.entries:
            term, explanation = section.entries[-1]
            section.entries[-1] = (term, f"{explanation} {line.strip()}".strip())
        elif not line.strip():
            section.paragraphs.append("")
        else:
            if section.paragraphs and section.paragraphs[-1]:
                section.paragraphs[-1] += " " + line.strip()
            else:
                section.paragraphs.append(line.strip())
    result.sections.append(section)
    for part in result.sections:
        part.paragraphs = [p for p in part.paragraphs if p]
    first = result.sections[0]
    if first.paragraphs and not first.title:
        result.description = first.paragraphs.pop(0)
    result.sections = [s for s in result.sections if s.entries or s.paragraphs]
    return result


def read(program, *words):
    """The help of a program's command and of all commands below it."""
    done = subprocess.run([program, *words, "--help"], capture_output=True, text=True, timeout=60,
                          check=True)
    name = str(program).rsplit("/", 1)[-1]
    found = parse([name, *words], done.stdout)
    for section in list(found.sections):
        if section.title == "Subcommands":
            found.subcommands = [read(program, *words, name) for name, _ in section.entries]
    return found
