"""What a loaded file says about itself, and how prompts are made for it: facts, text, tokens.

Nothing here runs the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .. import prompts
from ..errors import TemplateError
from ..types import Message
from .asked import Messages, read_messages

if TYPE_CHECKING:
    from ..llama import NativeModel


class Reader:
    """A model's facts, its template and its vocabulary. Safe to use from many threads."""

    def __init__(self, native: NativeModel, template: str | None = None) -> None:
        self._native, self._template_name = native, template
        self._spaces: dict[str, bool] = {}

    @property
    def path(self) -> Path:
        return self._native.path

    @property
    def name(self) -> str:
        """What the file calls itself, else the file's own name."""
        return self.metadata.get("general.name") or self.path.stem

    @property
    def metadata(self) -> Mapping[str, str]:
        """The scalar values of the file's metadata, as text."""
        return self._native.metadata

    @property
    def size_bytes(self) -> int:
        """Bytes of all weights together."""
        return self._native.size

    @property
    def n_parameters(self) -> int:
        return self._native.n_params

    @property
    def n_ctx_train(self) -> int:
        """Tokens of context that the model was trained on."""
        return self._native.n_ctx_train

    @property
    def description(self) -> str:
        """Architecture, size and quantization type: `llama 7B Q4_K - Medium`."""
        return self._native.description

    @cached_property
    def template(self) -> prompts.Template:
        """The prompt convention: the one named, the file's own, or the one the catalogue knows.

        The catalogue goes by the repository that the file is from, else by its metadata.

        Raises TemplateError when there is none of these.
        """
        from .. import library

        name, carried = self._template_name, self._native.chat_template
        if name is None and carried is None:
            name = library.template_for(self.path, self.metadata)
        return prompts.choose(name, carried)

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of a text, without BOS; `special` parses control tokens."""
        return self._native.tokenize(text, special)

    def detokenize(self, tokens: Iterable[int], *, special: bool = False) -> str:
        """The text of token ids; control tokens are left out unless `special`."""
        pieces = (self._native.piece(token, special) for token in tokens)
        return b"".join(pieces).decode("utf-8", "replace")

    def render(
        self, messages: Messages, *, template: str | None = None, context: str | None = None
    ) -> tuple[prompts.Segment, ...]:
        """The prompt as text, in segments that say who wrote them."""
        bos, eos = self._texts_of_ends()
        chosen = self.choose_template(template)
        return prompts.render(chosen, read_messages(messages), context=context, bos=bos, eos=eos)

    def _texts_of_ends(self) -> tuple[str, str]:
        """BOS and EOS as a template may write them; empty where the file has none."""
        tokens = (self._native.bos_token, self._native.eos)
        bos, eos = ("" if t is None else self._native.token_text(t) for t in tokens)
        return bos, eos

    def prompt_tokens(
        self, messages: Messages, *, template: str | None = None, context: str | None = None
    ) -> list[int]:
        """The prompt as it would be sent, as token ids."""
        return prompts.encode(
            self.render(messages, template=template, context=context), self._native
        )

    def typed_markers(
        self, messages: Messages, *, template: str | None = None, context: str | None = None
    ) -> list[str]:
        """The template's plain-text role markers with which a line of what was typed begins.

        No control token comes of such a line, but the model may take it for a new turn.
        """
        from ..prompts.markers import markers_in, role_markers

        markers = role_markers(self.choose_template(template), self._native.control_tokens)
        texts = [message.content for message in read_messages(messages)]
        return markers_in([*texts, context or ""], markers)

    def _drops_first_space(self, template: prompts.Template) -> bool:
        """Whether a space in front of an answer is none of its text.

        SentencePiece has one there, and some templates write it themselves.
        """
        if template.name not in self._spaces:
            self._spaces[template.name] = self._writes_space(template)
        return self._native.is_sentencepiece or self._spaces[template.name]

    def _writes_space(self, template: prompts.Template) -> bool:
        asked = (Message("user", "?"),)
        try:
            prompt, whole = (
                self._rendered(messages, template)
                for messages in (asked, (*asked, Message("assistant", "!"), *asked))
            )
        except TemplateError:
            return False
        return whole.startswith(prompt + " !")

    def _rendered(self, messages: tuple[Message, ...], template: prompts.Template) -> str:
        bos, eos = self._texts_of_ends()
        segments = prompts.render(template, messages, bos=bos, eos=eos)
        return "".join(segment.text for segment in segments)

    def choose_template(self, name: str | None = None) -> prompts.Template:
        """The template of that name; the model's own without one."""
        return self.template if name is None else prompts.choose(name, None)
