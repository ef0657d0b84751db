"""What a prompt convention ("template") is: Jinja text, and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Template:
    """How messages become a prompt, and how the answer ends.

    `jinja` is rendered with `messages`, `bos_token`, `eos_token` and `add_generation_prompt`. The
    same text, written into a file as its `tokenizer.chat_template`, serves every other program.
    `stops` are texts that end an answer. `single_turn` says that the model never saw a second
    exchange, `system_slot` that it was trained with system texts, `context_slot` that the Jinja
    text reads a variable `context`. `sampling` holds the authors' settings (fields of `Sampling`).
    `source` is where the convention was found, `confirmed` whether it is certain.
    """

    name: str
    jinja: str
    stops: tuple[str, ...] = ()
    single_turn: bool = False
    system_slot: bool = True
    context_slot: bool = False
    sampling: Mapping[str, float] = field(default_factory=dict, hash=False)
    source: str = ""
    confirmed: bool = True
