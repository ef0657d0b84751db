"""`Model`: puts the parts together.

It renders and tokenizes, submits to the engine, and lets the text out. It decides nothing about
memory, scheduling or sampling.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from .. import hardware, prompts
from ..errors import Closed, ContextOverflow
from ..types import Answer, Event
from .answers import (
    Ask,
    Messages,
    events,
    fold,
    read_max_tokens,
    read_messages,
    read_sampling,
    read_stops,
)
from .conversation import Conversation
from .defaults import default_sampling
from .loading import BATCH, Note, check_request, fit_context

if TYPE_CHECKING:
    from ..engine import Engine
    from ..llama import NativeModel


class Model:
    """A model that is loaded and ready; make one with `load`. Safe to use from many threads.

    Requests beyond `n_slots` wait in a queue, first come, first served.
    """

    def __init__(
        self, native: NativeModel, engine: Engine, *, n_ctx: int, template: str | None = None
    ) -> None:
        self.n_ctx = n_ctx
        self.notes: tuple[Note, ...] = ()
        self._native, self._engine, self._template_name = native, engine, template
        # Also when the model is forgotten, or the interpreter ends.
        self._close = weakref.finalize(self, engine.close)

    @classmethod
    def load(
        cls,
        reference: str | Path | None = None,
        *,
        n_ctx: int | None = None,
        gpu_layers: int | Literal["auto", "all"] = "auto",
        threads: int | None = None,
        n_slots: int = 1,
        template: str | None = None,
        deterministic: bool = False,
    ) -> Self:
        """Load a GGUF file; without a reference, the embedded model.

        `n_ctx` is what each of the `n_slots` requests that run at once may use, in tokens; None
        takes what the model was trained on, at most 8,192, and less where memory is short.
        `gpu_layers` counts nothing on a build without a GPU. `threads` None takes the physical
        cores. `template` None takes the one in the file. `deterministic` gives the same request
        the same answer to the last bit, at the price of reading every prompt from its start.

        Raises ModelNotFound, InvalidModel, TemplateError, OutOfMemory (with what would fit), and
        UsageError for values that make no sense.
        """
        from .. import library, llama
        from ..engine import Engine

        check_request(n_ctx, gpu_layers, threads, n_slots, deterministic)
        if template is not None:
            prompts.choose(template, None)
        available = hardware.available_memory()
        path = library.resolve(reference)
        native = llama.load(path, gpu_layers=gpu_layers)
        try:
            n_ctx, notes = fit_context(native, n_ctx, n_slots, available)
            context = llama.Context(
                native,
                n_ctx=n_ctx,
                n_slots=n_slots,
                n_batch=max(BATCH, 2 * n_slots),
                threads=threads or hardware.physical_cores(),
            )
        except BaseException:
            native.close()
            raise
        engine = Engine(
            context,
            lambda sampling, prompt: llama.Sampler(native, sampling, prompt),
            deterministic=deterministic,
            on_end=native.close,
        )
        model = cls(native, engine, n_ctx=n_ctx, template=template)
        model.notes = notes
        library.touch(path)
        return model

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
        """The prompt convention: the one named, the file's own, or the one its repository has.

        Raises TemplateError when there is none of these.
        """
        from .. import library

        name, carried = self._template_name, self._native.chat_template
        if name is None and carried is None:
            name = library.template_for(self.path)
        return prompts.choose(name, carried)

    def stream(
        self,
        messages: Messages,
        *,
        template: str | None = None,
        context: str | None = None,
        max_tokens: int | None = None,
        stop: str | Sequence[str] = (),
        **sampling: Any,
    ) -> Iterator[Event]:
        """Answer a dialogue (a text is one user's message), event by event as the text comes.

        `context` is for templates with a context slot, `stop` ends the answer where such a text
        begins, `sampling` are the fields of `Sampling` (those not given are as the file says, else
        as the template's authors have them). Closing the iterator cancels the request.
        Raises, before anything runs, UsageError, TemplateError, ContextOverflow and Closed.
        """
        chosen = self.choose_template(template)
        tokens = self.prompt_tokens(messages, template=template, context=context)
        sampling = default_sampling(self.metadata, chosen) | sampling
        ask = self._ask(tokens, (*chosen.stops, *read_stops(stop)), max_tokens, sampling)
        return self._start(replace(ask, drops_first_space=self._native.is_sentencepiece))

    def chat(self, messages: Messages, **options: Any) -> Answer:
        """The whole answer to a dialogue or to one text; options as for `stream`."""
        return fold(self.stream(messages, **options))

    def stream_completion(
        self,
        text: str,
        *,
        parse_special: bool = False,
        max_tokens: int | None = None,
        stop: str | Sequence[str] = (),
        **sampling: Any,
    ) -> Iterator[Event]:
        """Go on from a text as it stands: no template, the model's own BOS in front.

        Control tokens in the text are plain text unless `parse_special`.
        """
        tokens = self._native.tokenize(text, parse_special)
        bos = self._native.bos
        if bos is not None and tokens[:1] != [bos]:
            tokens.insert(0, bos)
        sampling = default_sampling(self.metadata, None) | sampling
        return self._start(self._ask(tokens, read_stops(stop), max_tokens, sampling))

    def stream_segments(
        self,
        segments: Iterable[prompts.Segment],
        *,
        prefix: str = "",
        max_tokens: int | None = None,
        stop: str | Sequence[str] = (),
        **sampling: Any,
    ) -> Iterator[Event]:
        """Answer a prompt that is complete in itself, as a task's is: `Task.render` makes these.

        `prefix` is what the prompt began of the answer; the first event tells it again.
        """
        tokens = prompts.encode(segments, self._native)
        sampling = default_sampling(self.metadata, None) | sampling
        ask = self._ask(tokens, read_stops(stop), max_tokens, sampling)
        drops = self._native.is_sentencepiece and not prefix
        return self._start(replace(ask, drops_first_space=drops, prefix=prefix))

    def complete(self, text: str, **options: Any) -> Answer:
        """The whole of what follows a text; options as for `stream_completion`."""
        return fold(self.stream_completion(text, **options))

    def conversation(
        self,
        system: str | None = None,
        **options: Any,
    ) -> Conversation:
        """A dialogue that remembers: `Conversation`, whose keywords these are.

        Others than its own are defaults for `stream`.
        """
        return Conversation(self, system, **options)

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
        native = self._native
        return prompts.render(
            self.choose_template(template),
            read_messages(messages),
            context=context,
            bos="" if native.bos_token is None else native.token_text(native.bos_token),
            eos="" if native.eos is None else native.token_text(native.eos),
        )

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

    def choose_template(self, name: str | None = None) -> prompts.Template:
        """The template of that name; the model's own without one."""
        return self.template if name is None else prompts.choose(name, None)

    def close(self) -> None:
        """Cancel what runs and free everything; afterwards every use raises Closed."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(
        self,
        tokens: list[int],
        stops: tuple[str, ...],
        max_tokens: int | None,
        sampling: Mapping[str, Any],
    ) -> Ask:
        ends = self._native.end_tokens
        return Ask(tokens, read_sampling(sampling), read_max_tokens(max_tokens), stops, ends)

    def _start(self, ask: Ask) -> Iterator[Event]:
        """The last checks are made here, so that nothing is left to go wrong in the generator."""
        if not self._close.alive:
            raise Closed
        if len(ask.tokens) > self.n_ctx:
            raise ContextOverflow(len(ask.tokens), self.n_ctx)
        return self._events(ask)

    def _events(self, ask: Ask) -> Iterator[Event]:
        """A generator of this object's own, so that a model lives as long as its answers do."""
        yield from events(self._engine, ask, self._native.piece)
