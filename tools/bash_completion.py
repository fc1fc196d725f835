"""The bash completion of `datacloud`, from its help: commands, their options, files for the rest."""


def _commands(found):
    yield found
    for sub in found.subcommands:
        yield from _commands(sub)


def _takes_value(found, option):
    """Whether the help shows a value after the option."""
    for section in found.sections:
        for term, _ in section.entries:
            words = term.replace(",", " ").split()
            if option in words:
                return not words[-1].startswith("-")
    return False


def script(tool):
    name = tool.words[0]
    common = [o for o in tool.options() if o not in ("--version",)]
    cases, values = [], []
    for found in _commands(tool):
        options = found.options() if found is tool else found.options() + common
        words = [sub.words[-1] for sub in found.subcommands]
        cases.append(f'    "{" ".join(found.words)}") '
                     f'commands="{" ".join(words)}" options="{" ".join(dict.fromkeys(options))}" ;;')
        values += [o for o in found.options() if _takes_value(found, o)]
    return f"""# bash completion of {name}; made from its --help, do not edit
_{name}() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}} path={name}
  local commands options word i
  _{name}_table() {{
    case $1 in
{chr(10).join('  ' + case for case in cases)}
      *) return 1 ;;
    esac
  }}
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${{COMP_WORDS[i]}}
    _{name}_table "$path $word" && path="$path $word"
  done
  _{name}_table "$path"
  case $prev in
    {"|".join(dict.fromkeys(values))}) COMPREPLY=($(compgen -f -- "$cur")); return ;;
  esac
  if [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W "$options" -- "$cur"))
  elif [[ -n $commands ]]; then
    COMPREPLY=($(compgen -W "$commands" -- "$cur"))
  else
    COMPREPLY=($(compgen -f -- "$cur"))
  fi
}}
complete -o filenames -F _{name} {name}
"""
