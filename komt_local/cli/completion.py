"""`komt-local completion`: the script that lets bash, zsh or fish complete our commands.

The script is click's: on Tab it runs `komt-local` with `_KOMT_LOCAL_COMPLETE` set, and click
answers in place of a command.
https://click.palletsprojects.com/en/stable/shell-completion/
"""

from __future__ import annotations

import click

from ..language import say
from .base import KomtCommand

_SHELLS = ("bash", "zsh", "fish")
_PROGRAM, _VARIABLE = "komt-local", "_KOMT_LOCAL_COMPLETE"

_BASH = """\
%(complete_func)s() {
    local line=${COMP_LINE:0:COMP_POINT} words answer type value kept=
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    answer=$(COMP_WORDS=$line COMP_CWORD=$((${#words[@]} - 1)) %(complete_var)s=bash_complete "$1")
    # bash replaces only what comes after the last ':'.
    [[ $COMP_WORDBREAKS == *:* && ${words[-1]} == *:* ]] && kept=${words[-1]%%:*}:
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            plain) COMPREPLY+=("${value#"$kept"}") ;;
            file) compopt -o default ;;
            dir) compopt -o dirnames ;;
        esac
    done <<< "$answer"
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


@click.command(
    cls=KomtCommand,
    help=say(
        "Print the completion script for SHELL. To use it, put one line into the shell's "
        'startup file. bash, ~/.bashrc: eval "$(komt-local completion bash)"; zsh, ~/.zshrc, after '
        'compinit: eval "$(komt-local completion zsh)"; fish, ~/.config/fish/config.fish: '
        "komt-local completion fish | source",
        "SHELL의 완성 스크립트를 출력합니다. 쓰려면 셸의 시작 파일에 한 줄을 넣습니다. bash는 "
        '~/.bashrc에 eval "$(komt-local completion bash)", zsh는 ~/.zshrc의 compinit 다음에 '
        'eval "$(komt-local completion zsh)", fish는 ~/.config/fish/config.fish에 '
        "komt-local completion fish | source",
    ),
)
@click.argument("shell", type=click.Choice(_SHELLS))
def command(shell: str) -> None:
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    completion = kind(click.Command(_PROGRAM), {}, _PROGRAM, _VARIABLE)
    script = _BASH % completion.source_vars() if shell == "bash" else completion.source()
    click.echo(script)
