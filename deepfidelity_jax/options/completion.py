"""Shell completion: a script for bash, zsh or fish, made from the modes and their flags."""

from deepfidelity_jax.errors import InputError
from deepfidelity_jax.options.help import ABOUT, FLAGS

NO_VALUE = ("distributed", "list", "exit_code", "quiet")

_BASH = """\
# eval "$(deepfidelity completion bash)"
_deepfidelity() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" flags=""
    if [[ $COMP_CWORD == 1 && $word != -* ]]; then
        COMPREPLY=($(compgen -W "{modes}" -- "$word"))
        return
    fi
    case "${{COMP_WORDS[1]}}" in
{cases}
    esac
    # An option is one word to bash only without `=`; after it, and without a dash, come files.
    if [[ $word == -* ]]; then
        compopt -o nospace
        COMPREPLY=($(compgen -W "$flags" -- "$word"))
    else
        compopt -o default
        COMPREPLY=()
    fi
}}
complete -F _deepfidelity deepfidelity
"""
_ZSH = """\
# eval "$(deepfidelity completion zsh)"
_deepfidelity() {{
    if (( CURRENT == 2 )); then
        local modes=({described})
        _describe mode modes
    else
        case $words[2] in
{cases}
        esac
    fi
}}
compdef _deepfidelity deepfidelity
"""


def script(shell: str = "", *more: str) -> str:
    """What the user's start-up file evaluates. Raises InputError for an unknown shell."""
    if more:
        raise InputError(f"completion takes one shell, not {1 + len(more)}")
    if shell == "bash":
        cases = (f'        {mode}) flags="{" ".join(_spelt(mode))}" ;;' for mode in FLAGS)
        return _BASH.format(modes=" ".join(FLAGS), cases="\n".join(cases))
    if shell == "zsh":
        described = " ".join(f"'{mode}:{about}'" for mode, about in ABOUT.items())
        cases = (
            f"        {mode}) _arguments {' '.join(map(_zsh, _spelt(mode)))} '*:file:_files' ;;"
            for mode in FLAGS
        )
        return _ZSH.format(described=described, cases="\n".join(cases))
    if shell == "fish":
        lines = ["# deepfidelity completion fish | source"]
        lines += [
            f"complete -c deepfidelity -n __fish_use_subcommand -a {mode} -d '{about}'"
            for mode, about in ABOUT.items()
        ]
        for mode in FLAGS:
            for flag in _spelt(mode):
                name, needs = flag.strip("-="), " -r" if flag.endswith("=") else ""
                lines.append(
                    "complete -c deepfidelity "
                    f"-n '__fish_seen_subcommand_from {mode}' -l {name}{needs}"
                )
        return "\n".join(lines) + "\n"
    raise InputError(f"completion is for bash, zsh or fish{shell and f', not {shell!r}'}")


def _spelt(mode: str) -> list[str]:
    """The flags of a mode as they are typed, with `=` where a value follows."""
    names = ("workdir", *(name for name in FLAGS[mode] if name != "ema"), "help")
    spelt = [f"--{name}" + ("" if name in (*NO_VALUE, "help") else "=") for name in names]
    return spelt + (["--noema"] if "ema" in FLAGS[mode] else [])


def _zsh(flag: str) -> str:
    return f"'{flag}:value:_files'" if flag.endswith("=") else f"'{flag}'"
