"""Manual pages, completion and configuration keys say what the programs say: no drift."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("DATACLOUD_BUILD", SOURCE / "build"))
sys.path.insert(0, str(SOURCE / "tools"))
import help_text  # noqa: E402

problems = []


def check(condition, what):
    if not condition:
        problems.append(what)


def rendered(page):
    """The page as a reader sees it; groff's warnings are problems."""
    done = subprocess.run(["groff", "-ww", "-man", "-Tutf8", "-P-cbou", "-rLL=2000n", "-rHY=0",
                           page], capture_output=True, text=True, timeout=60)
    check(done.returncode == 0 and not done.stderr.strip(), f"{page.name}: {done.stderr.strip()}")
    return " ".join(done.stdout.replace("\u2010", "-").split())


def normal(text):
    return " ".join(text.replace("`", "").split())


def everything(found):
    yield found
    for sub in found.subcommands:
        yield from everything(sub)


def pages_tell_the_help():
    tool = help_text.read(BUILD / "bin" / "datacloud")
    pages = {"datacloud.1": [tool]}
    for sub in tool.subcommands:
        pages[f"datacloud-{sub.words[-1]}.1"] = list(everything(sub))
    for name in ("datacloudd", "datacloud-audit", "mount.datacloud"):
        pages[f"{name}.8"] = [help_text.read(BUILD / "bin" / name)]
    for name, commands in pages.items():
        page = BUILD / "man" / name
        if not page.exists():
            check(False, f"{name}: there is no such page; build the target man")
            continue
        text = rendered(page)
        for command in commands:
            where = f"{name}: {' '.join(command.words)}"
            check(command.usage and command.description, f"{where}: --help tells no usage")
            check(normal(command.description) in text, f"{where}: its description is missing")
            for section in command.sections:
                for term, explanation in section.entries:
                    if section.title == "Subcommands":
                        term = term if len(command.words) > 1 else f"datacloud-{term}(1)"
                    check(normal(term) in text and normal(explanation) in text,
                          f"{where}: {term!r} of --help is missing")
    expected = set(pages) | {"datacloud.toml.5"}
    made = {p.name for p in (BUILD / "man").glob("*.[1-8]")}
    check(made == expected, f"pages made: {sorted(made ^ expected)} are too many or missing")
    return tool


def texts_name_real_options():
    """Options that the additional texts mention exist in some program."""
    known = {"-"}
    for name in ("datacloud", "datacloud-audit", "datacloudd", "mount.datacloud"):
        for found in everything(help_text.read(BUILD / "bin" / name)):
            known.update(found.options())
    foreign = {"--now", "--no-same-owner"}  # of systemctl, tar
    for text in (SOURCE / "docs" / "man").glob("*.[1-8].txt"):
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", text.read_text()):
            check(option in known | foreign, f"{text.name}: {option} is an option of no program")


def keys_in_source():
    """{(table, key)} that common/config/config*.cc reads."""
    found = set()
    for source in sorted((SOURCE / "common").glob("config/config*.cc")):
        for body in re.finditer(r"^result<void> read_(cloud|daemon|keys|place|windows|site|rados_site|"
                                r"directory_site|remote_site|node|daemon_addresses|node_keys|"
                                r"journal)\b.*?^}",
                                source.read_text(), re.S | re.M):
            table = {"place": "daemon", "daemon_addresses": "node", "windows": "daemon", "site": "[site]",
                     "rados_site": "[site]", "directory_site": "[site]",
                     "remote_site": "[site]", "node_keys": "keys"}.get(body[1], body[1])
            found |= {(f"[{table}]", key) for key in
                      re.findall(r'(?:s\.(?:text|number|absolute_path|find|flag|boolean)\(|'
                                 r'read_site_address\(s, )"(\w+)"',
                                 body[0])}
    return found


def keys_are_documented():
    documented, table = set(), ""
    for page in [SOURCE / "docs" / "man" / "datacloud.toml.5.txt"]:
        lines = page.read_text().split("\n")
        for line, following in zip(lines, lines[1:] + [""]):
            if line.startswith("# "):
                table = line[2:]
            elif following.startswith(":   ") and table not in ("", "[mount]"):
                documented.add((table, line))
    read = keys_in_source()
    check(len(read) > 15, "the keys that the program reads were not found in its source")
    for table, key in sorted(read ^ documented):
        check(False, f"datacloud.toml.5: {key} of {table} is "
              + ("not documented" if (table, key) in read else "documented and not read"))
    mount = rendered(BUILD / "man" / "datacloud.toml.5")
    table = (SOURCE / "common" / "config" / "mount_options.cc").read_text()
    for name in re.findall(r"^      \{\"(\w+)\"", table, re.M):
        check(name in mount, f"datacloud.toml.5: {name} of [mount] is missing")


def complete(*words):
    script = f"""
      source {BUILD}/man/datacloud.bash
      COMP_WORDS=({' '.join(repr(w) for w in words)}); COMP_CWORD={len(words) - 1}
      _datacloud; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=30,
                          cwd=SOURCE)
    check(done.returncode == 0 and not done.stderr, f"completion of {words}: {done.stderr}")
    return set(done.stdout.split())


def completion_knows_everything(tool):
    for found in everything(tool):
        commands = {sub.words[-1] for sub in found.subcommands}
        if commands:
            check(complete(*found.words, "") == commands,
                  f"completion after {' '.join(found.words)}: not its commands")
        check(set(o for o in found.options() if o.startswith("--"))
              <= complete(*found.words, "--"),
              f"completion after {' '.join(found.words)} --: options are missing")
    check(complete("datacloud", "--config", "common/proto/rpc.pr") == {"common/proto/rpc.proto"},
          "completion of a file name")
    check(complete("datacloud", "--json", "tra") == {"traffic"}, "completion after an option")


def main():
    if not shutil.which("groff"):
        sys.exit("groff is needed: tools/install-deps.sh --test")
    tool = pages_tell_the_help()
    texts_name_real_options()
    keys_are_documented()
    completion_knows_everything(tool)
    for problem in problems:
        print(problem)
    print(f"{len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
