"""Executes the commands that the documents show.

Every command line of ours in any document, executed or not, must be one that the programs take: its
command and options are looked up in --help. And blocks that begin with "```sh run" are run in order;
blocks that begin with "```toml PATH" are written to that path (doc_room.py says where).
"""

import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
from doc_room import BUILD, SOURCE, Script, blocks  # noqa: E402

DOCUMENTS = ["operations.md", "containers.md"]
BLOCKS_MIN = 15  # fewer: the documents' marks were not found


def make_script():
    script = Script()
    count = 0
    for document in DOCUMENTS:
        for where, mark, text in blocks(document, "sh run", r"toml /\S+"):
            count += 1
            if mark == "sh run":
                script.run(where, text)
            else:
                script.write(where, mark.split()[1], text)
    if count < BLOCKS_MIN:
        sys.exit(f"only {count} blocks are marked in {DOCUMENTS}")
    return script, count


def help_of(*words):
    """(commands, options) that --help of a command names."""
    if words not in help_of.known:
        text = subprocess.run([BUILD / "bin" / words[0], *words[1:], "--help"], text=True,
                              capture_output=True, timeout=60, check=False).stdout
        below = text.partition("Subcommands:")[2].partition("Exit codes")[0]
        help_of.known[words] = (set(re.findall(r"^  ([a-z][\w-]*) ", below, re.M)),
                                set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", text)))
    return help_of.known[words]


help_of.known = {}


def wrong_commands(name, text):
    """Lines that begin with a program of ours and are not what it takes."""
    for block in re.findall(r"^```[^\n]*\n(.*?)^```", text, re.S | re.M):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            for part in re.split(r"[|;&]+", line.split("#")[0]):
                words = part.split()
                if not words or words[0] not in ("datacloud", "datacloudd", "datacloud-audit"):
                    continue
                path = [words[0]]
                general = help_of(words[0])[1]
                options = set(general)
                for word in words[1:]:
                    if word in help_of(*path)[0]:
                        path.append(word)
                        options |= help_of(*path)[1]
                    elif word.startswith("-") and word != "-" and word.split("=")[0] not in options:
                        yield f"{name}: {part.strip()}: there is no option {word}"
                if help_of(*path)[0] and "..." not in part and len(words) > 1 and (
                        "--version" not in words):
                    yield f"{name}: {part.strip()}: no command of {' '.join(path)}"


def check_all_documents():
    problems = []
    for document in [SOURCE / "README.md", *sorted((SOURCE / "docs").glob("*.md"))]:
        problems += wrong_commands(document.name, document.read_text())
    print("\n".join(problems))
    if problems:
        sys.exit(f"{len(problems)} commands are shown that the programs do not take")


def main():
    check_all_documents()
    script, count = make_script()
    status = script.execute(240)
    print(f"{count} blocks, status {status}")
    sys.exit(1 if status else 0)


if __name__ == "__main__":
    main()
