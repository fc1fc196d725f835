#!/usr/bin/env python3
"""Manual pages and shell completion from the programs' own --help (help_text.py).

    man_pages.py --texts docs/man --out build/man --version 1.2 SECTION:PROGRAM...

What --help has no room for is in docs/man/PAGE.SECTION.txt: sections ("# NAME"), paragraphs, lists
("* "), terms (a line, then ":   explanation"), examples (indented by four). A text without a program
(datacloud.toml.5) is a page of its own. A text may say @MOUNT-OPTIONS@ for the mount's table.
"""

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import bash_completion  # noqa: E402
import help_text  # noqa: E402


def roff(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", text)
    return re.sub(r"^([.'])", r"\\&\1", text)


def entries(pairs):
    return [line for term, what in pairs for line in (".TP", f".B {roff(term)}", roff(what))]


def text_page(text):
    """The small markup of docs/man as roff lines."""
    out = []
    for block in re.split(r"\n\n+", text.strip("\n")):
        lines = block.split("\n")
        if lines[0].startswith("# "):
            title = lines[0][2:]
            out.append(f".SH {title if title.startswith('[') else title.upper()}")
            lines = lines[1:]
            if not lines:
                continue
        if lines[0].startswith("    "):
            out += [".PP", ".RS 4", ".EX", *(roff(line[4:]) for line in lines), ".EE", ".RE"]
        elif len(lines) > 1 and lines[1].startswith(":   "):
            words = " ".join(line.lstrip(": ") if i == 0 else line.strip()
                             for i, line in enumerate(lines[1:]))
            out += entries([(lines[0], words)])
        elif lines[0].startswith("* "):
            items = re.split(r"\n\* ", "\n" + block)[1:]
            for item in items:
                out += [".IP \\(bu 2", roff(" ".join(item.split()))]
        else:
            out += [".PP", roff(" ".join(" ".join(lines).split()))]
    return out


def header(name, section, version, description):
    return [f'.TH {name.upper()} {section} "" "Data Cloud {version}" "Data Cloud"',
            ".SH NAME", f"{roff(name)} \\- {roff(description.rstrip('.'))}"]


def command_body(found, heading):
    out = [f".{heading} {'OPTIONS' if heading == 'SH' else roff(' '.join(found.words))}"]
    if heading == "SS":
        out += [roff(found.description), ".PP", *(f".B {roff(u)}" for u in found.usage)]
    for section in found.sections:
        if section.title == "Subcommands":
            continue
        if section.title not in ("", "Options", "Positionals"):
            out.append(f".PP\n{roff(section.title)}:")
        out += entries(section.entries)
        # The common footer of `datacloud` is told once, on its own page.
        if len(found.words) == 1:
            out += [line for p in section.paragraphs for line in (".PP", roff(p))]
    return out


def summary(found):
    return re.split(r"\.(?:\s|$)|;", found.description)[0]


def page(found, name, section, version, extra, related):
    out = header(name, section, version, summary(found))
    out += [".SH SYNOPSIS"]
    for one in found.subcommands if found.subcommands and len(found.words) > 1 else [found]:
        out += [f".B {roff(u)}\n.br" for u in one.usage]
    first, _, rest = extra.partition("# ") if not extra.startswith("# ") else ("", "", extra[2:])
    out += [".SH DESCRIPTION", roff(found.description), *text_page(first)]
    if found.subcommands and len(found.words) == 1:
        out += [".SH COMMANDS"]
        out += entries((f"{name}-{sub.words[-1]}(1)", sub.description)
                       for sub in found.subcommands)
    out += command_body(found, "SH")
    if found.subcommands and len(found.words) > 1:
        out += [".SH COMMANDS"]
        for sub in found.subcommands:
            out += command_body(sub, "SS")
    out += text_page("# " + rest) if rest else []
    others = [r for r in related if r != f"{name}({section})"]
    out += [".SH SEE ALSO", ", ".join(f"\\fB{roff(r[:-3])}\\fR{r[-3:]}" for r in others)]
    return "\n".join(out) + "\n"


def mount_table(programs):
    for found, _ in programs:
        for section in found.sections:
            if section.title.startswith("Limits"):
                return "\n\n".join(f"{term.split('=')[0]}\n:   {what}"
                                   for term, what in section.entries)
    return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("programs", nargs="+", metavar="SECTION:PROGRAM")
    given = parser.parse_args()

    programs = [(help_text.read(p.split(":", 1)[1]), p.split(":", 1)[0]) for p in given.programs]
    texts = {t.name[:-len(".txt")]: t.read_text() for t in sorted(given.texts.glob("*.[1-8].txt"))}
    wanted = []  # (help, name, section)
    for found, section in programs:
        wanted.append((found, found.words[0], section))
        wanted += [(sub, "-".join(sub.words), section) for sub in found.subcommands]
    own = sorted(set(texts) - {f"{name}.{section}" for _, name, section in wanted})
    stray = [name for name in own if "# name" not in texts[name].lower()]
    if stray:
        sys.exit(f"docs/man: no program has the page {', '.join(stray)}")
    related = [f"{found.words[0]}({section})" for found, section in programs]
    related += [f"{name.rsplit('.', 1)[0]}({name.rsplit('.', 1)[1]})" for name in own]

    given.out.mkdir(parents=True, exist_ok=True)
    for stale in given.out.glob("*"):
        stale.unlink()
    for found, name, section in wanted:
        text = page(found, name, section, given.version, texts.get(f"{name}.{section}", ""),
                    related)
        (given.out / f"{name}.{section}").write_text(text)
    for full in own:
        name, section = full.rsplit(".", 1)
        body = texts[full].replace("@MOUNT-OPTIONS@", mount_table(programs))
        title = header(name, section, given.version, "")[:1]
        others = ", ".join(f"\\fB{roff(r[:-3])}\\fR{r[-3:]}" for r in related
                           if r != f"{name}({section})")
        (given.out / full).write_text(
            "\n".join(title + text_page(body) + [".SH SEE ALSO", others]) + "\n")
    tool = next(found for found, _ in programs if found.subcommands)
    (given.out / "datacloud.bash").write_text(bash_completion.script(tool))


if __name__ == "__main__":
    main()
