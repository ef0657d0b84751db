"""What `komt-local` alone says on a terminal: what is here, and what to do with it."""

from __future__ import annotations

import sys

import click

from ..language import say

_SHOWN = 3
SUGGESTED = "komt-mistral-7b-v1"
"""The model that someone who has none is pointed to."""


def is_wanted() -> bool:
    """On a terminal; a pipe gets the help."""
    return sys.stdout.isatty()


def welcome() -> None:
    """Three lines."""
    from ..library import EMBEDDED_NAME, records
    from ..library.contents import names

    default = records.load().default or EMBEDDED_NAME
    click.echo(_here(list(dict.fromkeys(names())), default))
    if default == EMBEDDED_NAME:
        click.echo(
            say(
                f"To do:  komt-local chat, or a real model first: komt-local pull {SUGGESTED}",
                f"할 일: komt-local chat, 진짜 모델은 먼저 komt-local pull {SUGGESTED}",
            )
        )
    else:
        click.echo(
            say(
                'To do:  komt-local chat, or one answer: komt-local run "…"',
                '할 일: komt-local chat, 답 하나는 komt-local run "…"',
            )
        )
    click.echo(
        say(
            "More:   komt-local --help; if something is slow or fails: komt-local doctor",
            "더 보기: komt-local --help, 느리거나 안 되면 komt-local doctor",
        )
    )


def _here(models: list[str], default: str) -> str:
    listed = ", ".join(models[:_SHOWN]) or say("none", "없음")
    rest = len(models) - _SHOWN
    more = say(f" and {rest} more", f" 외 {rest}개") if rest > 0 else ""
    return say(
        f"Models: {listed}{more}; the default is {default}",
        f"모델: {listed}{more}, 기본은 {default}",
    )
