"""click, made to speak Korean where the locale does: headings of the help, and usage errors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import click
from click.shell_completion import CompletionItem

from ..language import say, use
from .completing import let_complete

LANGUAGES = ("ko", "en")


def language_of(arguments: Sequence[str]) -> str | None:
    """The language that `--lang` asks for, before anything is built: helps are made at import."""
    ends = arguments.index("--") if "--" in arguments else len(arguments)
    for n, argument in enumerate(arguments[:ends]):
        name, _, value = argument.partition("=")
        if name == "--lang":
            value = value or next(iter(arguments[n + 1 :]), "")
            return value if value in LANGUAGES else None
    return None


def _language_option() -> click.Option:
    """It has been obeyed when click comes to it; here it is checked, and shown in the help."""
    return click.Option(
        ["--lang"],
        type=click.Choice(LANGUAGES),
        is_eager=True,
        expose_value=False,
        allow_from_autoenv=False,
        callback=lambda ctx, param, value: use(value) if value else None,
        help=say("Language of messages and help.", "메시지와 도움말의 언어."),
    )


class _SpeaksKorean(click.Command):
    """A command with `--lang`, whose help has its headings in the user's language."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        *own, last = super().get_params(ctx)
        return [*own, self._language, last]

    @cached_property
    def _language(self) -> click.Option:
        return _language_option()

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        pieces = " ".join(self.collect_usage_pieces(ctx))
        formatter.write_usage(ctx.command_path, pieces, prefix=say("Usage: ", "사용법: "))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records = (parameter.get_help_record(ctx) for parameter in self.get_params(ctx))
        with formatter.section(say("Options", "옵션")):
            formatter.write_dl([_in_korean(record) for record in records if record is not None])

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option = super().get_help_option(ctx)
        if option is not None:
            option.help = say("Show this help.", "이 도움말을 보여 줍니다.")
        return option


def _in_korean(record: tuple[str, str]) -> tuple[str, str]:
    """What click adds to a help, in the user's language."""
    name, text = record
    for en, ko in (("[default: ", "[기본: "), ("; required]", "; 필수]"), ("[required]", "[필수]")):
        text = text.replace(en, say(en, ko))
    return name, text


def _needless_offline_option() -> click.Option:
    """`--offline` is taken everywhere, so that a script need not know which commands download."""
    return click.Option(
        ["--offline"],
        is_flag=True,
        expose_value=False,
        help=say(
            "Use no network; this command never does.",
            "네트워크를 쓰지 않습니다(이 명령은 본래 쓰지 않음).",
        ),
    )


class KomtCommand(_SpeaksKorean):
    """One command; its parameters complete in the shell by their names."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if all(parameter.name != "offline" for parameter in self.params):
            self.params.append(_needless_offline_option())
        let_complete(self.params)


class KomtGroup(_SpeaksKorean, click.Group):
    """A group that lists its commands without importing them."""

    def short_helps(self) -> list[tuple[str, str]]:
        """The commands, each with one line on what it does."""
        raise NotImplementedError

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [
            CompletionItem(name, help=line)
            for name, line in self.short_helps()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        with formatter.section(say("Commands", "명령")):
            formatter.write_dl(self.short_helps())


def say_usage_error(error: click.ClickException) -> str:
    """What was wrong with the command line, in one sentence that points to the help."""
    sentence = say(error.format_message(), _korean(error))
    if isinstance(error, click.UsageError) and error.ctx is not None:
        path = error.ctx.command_path
        sentence += say(f" See `{path} --help`.", f" `{path} --help`를 보세요.")
    return sentence


_NO_COMMAND = re.compile("No such command '(.*?)'")


def _korean(error: click.ClickException) -> str:
    match error:
        case click.NoSuchOption():
            near = f" 혹시 {', '.join(error.possibilities)}?" if error.possibilities else ""
            return f"그런 옵션은 없습니다: {error.option_name}.{near}"
        case click.UsageError() if found := _NO_COMMAND.match(error.message):
            return f"그런 명령은 없습니다: {found[1]}."
        case click.MissingParameter():
            return f"{_name(error)}이(가) 빠졌습니다."
        case click.BadParameter():
            return f"{_name(error)}의 값이 알맞지 않습니다: {error.message}"
        case _:
            return error.format_message()


def _name(error: click.BadParameter) -> str:
    if error.param is None:
        return str(error.param_hint or "")
    return (
        error.param.opts[0]
        if error.param.opts[0].startswith("-")
        else error.param.make_metavar(error.ctx or click.Context(click.Command("")))
    )
