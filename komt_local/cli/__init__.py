"""The command line: a click group whose commands are imported only when they are used.

One file holds one command: its options, one call into the library, and what is printed. What a
command says on stdout is its answer; notes, progress and errors go to stderr.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module

import click

from ..language import say, say_error, use
from .base import KomtCommand, KomtGroup, language_of, say_usage_error

# name → the line that `komt-local --help` shows for it (English, Korean).
COMMANDS: dict[str, tuple[str, str]] = {
    "chat": ("Talk with a model.", "모델과 대화합니다."),
    "run": ("Print one answer.", "답 하나를 출력합니다."),
    "convert": (
        "Turn a checkpoint into a verified GGUF file.",
        "체크포인트를 검증된 GGUF 파일로 바꿉니다.",
    ),
    "quantize": (
        "Write a GGUF file in another type.",
        "GGUF 파일을 다른 양자화 타입으로 만듭니다.",
    ),
    "verify": (
        "Prove a model file again, or check that it is whole.",
        "모델 파일을 다시 증명하거나, 온전한지 확인합니다.",
    ),
    "show": ("Show what a model file holds.", "모델 파일의 내용을 보여 줍니다."),
    "pull": (
        "Bring a model here: downloaded, or converted on the way.",
        "모델을 받아 옵니다: 내려받거나, 받으면서 변환합니다.",
    ),
    "list": ("List the models on this machine.", "이 컴퓨터에 있는 모델을 보여 줍니다."),
    "rm": ("Remove a model.", "모델을 지웁니다."),
    "import": (
        "Take in a GGUF file of one's own, of LM Studio or of Ollama.",
        "직접 가진 GGUF 파일이나 LM Studio, Ollama의 모델을 들여옵니다.",
    ),
    "alias": ("Give a model a name of one's own.", "모델에 별칭을 붙입니다."),
    "default": (
        "Choose the model that is taken when none is named.",
        "이름을 주지 않을 때 쓸 모델을 정합니다.",
    ),
    "bench": ("Measure prompt and generation speed.", "프롬프트와 생성 속도를 잽니다."),
    "doctor": (
        "Say what works on this machine, and how to repair what does not.",
        "이 컴퓨터에서 무엇이 되고, 안 되는 것은 어떻게 고치는지 보여 줍니다.",
    ),
    "completion": (
        "Print what lets the shell complete this command.",
        "셸에서 Tab으로 완성하게 하는 스크립트를 출력합니다.",
    ),
}

# Commands whose names no module here can have: a keyword, and what would hide the built-in.
_MODULES = {"import": "import_", "list": "list_"}


class _LazyGroup(KomtGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = _MODULES.get(cmd_name, cmd_name)
        command = import_module(f".{module}", __name__).command
        assert isinstance(command, KomtCommand)
        return command

    def short_helps(self) -> list[tuple[str, str]]:
        return [(name, say(*lines)) for name, lines in COMMANDS.items()]


def _group() -> click.Group:
    return _LazyGroup(
        name="komt-local",
        help=say(
            "Korean language models on your own machine: from a Hugging Face checkpoint to a "
            "verified GGUF file, and from the file to a conversation. Everything works offline.",
            "한국어 언어 모델을 내 컴퓨터에서: 허깅 페이스 체크포인트를 검증된 GGUF 파일로 "
            "바꾸고, 그 파일과 대화합니다. 모두 오프라인에서 됩니다.",
        ),
        context_settings={
            "help_option_names": ["-h", "--help"],
            "auto_envvar_prefix": "KOMT_LOCAL",
            "max_content_width": 100,
        },
        params=[_version_option()],
    )


def _version_option() -> click.Option:
    def show(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
        if wanted:
            from .. import __version__

            click.echo(f"komt-local {__version__}")
            ctx.exit()

    return click.Option(
        ["--version"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=show,
        help=say("Print the version.", "버전을 출력합니다."),
    )


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status: 1 for what went wrong, 2 for usage.

    Every error that a user can meet is caught here, once, and said in one sentence on stderr.
    """
    from ..errors import KomtError
    from .welcome import is_wanted, welcome

    use(language_of(arguments))
    try:
        if not arguments and "_KOMT_LOCAL_COMPLETE" not in os.environ and is_wanted():
            welcome()
            return 0
        status = _group().main(list(arguments), prog_name="komt-local", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except KomtError as error:
        return _fail(say_error(error), error.exit_status)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        return _fail(say_usage_error(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _fail(say("Interrupted.", "중단했습니다."), 130)
    except BrokenPipeError:
        return _closed_pipe()
    except Exception as error:
        if not _is_conversion_error(error):
            raise
        return _fail(say_error(error), 1)


def _is_conversion_error(error: Exception) -> bool:
    """Whether the error is the conversion package's, which is imported only when it was used."""
    return any(kind.__module__ == "komt_convert.errors" for kind in type(error).__mro__)


def _fail(sentence: str, status: int) -> int:
    click.echo(f"{say('Error', '오류')}: {sentence}", err=True)
    return status


def _closed_pipe() -> int:
    """The reader of our output has left (as `head` does): leave too, without a word."""
    import sys

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141
