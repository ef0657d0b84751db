"""`Model`: puts the parts together.

It renders and tokenizes, submits to the engine, and lets the text out. It decides nothing about
memory, scheduling or sampling.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .. import prompts
from ..errors import Closed, ContextOverflow
from ..scheduler import common_prefix
from ..types import Answer, Score, TokenScore
from .adapters import AdapterSource
from .answers import Ask, fold
from .asked import (
    Messages,
    read_max_tokens,
    read_sampling,
    read_stops,
    split_options,
)
from .conversation import Conversation
from .defaults import default_sampling
from .loading import Note, describe, notes_of, plan, start
from .options import Loading, read_loading
from .remembering import Remembering
from .stream import Stream

if TYPE_CHECKING:
    from ..engine import Engine
    from ..llama import NativeModel
    from ..offload import Plan
    from .detect import Fit
    from .stops import Stops


class Model(Remembering):
    """A model that is loaded and ready; make one with `load`. Safe to use from many threads.

    Requests beyond `n_slots` wait in a queue, first come, first served.
    """

    def __init__(
        self, native: NativeModel, engine: Engine, loading: Loading, **options: Any
    ) -> None:
        super().__init__(native, engine, loading, **options)
        self.notes: tuple[Note, ...] = ()
        # Also when the model is forgotten, or the interpreter ends.
        self._close = weakref.finalize(self, engine.close)

    @classmethod
    def load(
        cls,
        reference: str | Path | None = None,
        *,
        template: str | None = None,
        lora: Sequence[AdapterSource] = (),
        **options: Any,
    ) -> Self:
        """Load a GGUF file; without a reference, the embedded model.

        `template` None takes the one in the file; `lora` are adapters as for `set_adapters`;
        `options` are the fields of `options.Loading`: `n_ctx`, `n_slots`, `threads`, ….

        Raises ModelNotFound, InvalidModel, TemplateError, OutOfMemory (with what would fit), and
        UsageError for values that make no sense.
        """
        from .. import library

        wanted = read_loading(options)
        if template is not None:
            prompts.choose(template, None)
        path = library.resolve(reference)
        native, engine, planned = start(path, wanted)
        model = cls(native, engine, wanted, n_ctx=planned.n_ctx, template=template)
        model.notes = notes_of(planned, native.n_ctx_train)
        try:
            model.set_adapters(lora)
        except BaseException:
            model.close()
            raise
        library.touch(path)
        return model

    @staticmethod
    def plan(reference: str | Path | None = None, **options: Any) -> tuple[Plan, tuple[Note, ...]]:
        """How `load` would load the file, in numbers and in lines; nothing large is read.

        Raises as `load` does.
        """
        from .. import library

        path = library.resolve(reference)
        planned = plan(path, read_loading(options))
        return planned, (*describe(planned), *notes_of(planned, 0))

    def stream(
        self,
        messages: Messages,
        *,
        template: str | None = None,
        context: str | None = None,
        max_tokens: int | None = None,
        stop: str | Sequence[str] = (),
        **sampling: Any,
    ) -> Stream:
        """Answer a dialogue (a text is one user's message), event by event as the text comes.

        `context` is for templates with a context slot, `stop` ends the answer where such a text
        begins, `sampling` are the fields of `Sampling` (those not given are as the file says, else
        as the template's authors have them). Besides: `logprobs=N` tells how likely each token was
        and the N likeliest in its place, `stop_loops=False` lets an answer go round in circles,
        `json_schema` has it follow a JSON schema. Closing the iterator cancels the request.
        Raises, before anything runs, UsageError, TemplateError, ContextOverflow and Closed.
        """
        chosen = self.choose_template(template)
        canonical = self.prompt_tokens(messages, template=template, context=context)
        tokens, unshown = self._recall(canonical)
        sampling = default_sampling(self.metadata, chosen) | sampling
        ask = self._ask(tokens, (*chosen.stops, *read_stops(stop)), max_tokens, sampling)
        drops = self._drops_first_space(chosen)
        return self._start(replace(ask, unshown=unshown, drops_first_space=drops))

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
    ) -> Stream:
        """Go on from a text as it stands: no template, the model's own BOS in front.

        Control tokens in the text are plain text unless `parse_special`. Loops are not stopped
        unless `stop_loops`.
        """
        tokens = self._native.tokenize(text, parse_special)
        bos = self._native.bos
        if bos is not None and tokens[:1] != [bos]:
            tokens.insert(0, bos)
        sampling = default_sampling(self.metadata, None) | sampling
        sampling = {"stop_loops": False} | sampling
        return self._start(self._ask(tokens, read_stops(stop), max_tokens, sampling))

    def stream_segments(
        self,
        segments: Iterable[prompts.Segment],
        *,
        prefix: str = "",
        max_tokens: int | None = None,
        stop: str | Sequence[str] = (),
        **sampling: Any,
    ) -> Stream:
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

    def score(self, messages: Messages, answer: str, **form: Any) -> Score:
        """How likely this answer to a dialogue or to one text is, token by token.

        `form` are `template` and `context`, as for `stream`. Raises as `stream` does.
        """
        segments = self.render(messages, **form)
        return self._score(segments, (*segments, prompts.Segment(answer, ours=False)))

    def explain_stops(self, messages: Messages, *, max_tokens: int = 256, **options: Any) -> Stops:
        """Answer with the file's end tokens alone, and tell how likely an end was where.

        `options` as for `stream`, but for `stop`.
        """
        from .stops import explain

        name = options.pop("template", None)
        chosen = self.choose_template(name)
        tokens = self.prompt_tokens(messages, template=name, context=options.pop("context", None))
        settings = default_sampling(self.metadata, chosen) | options
        ask = self._ask(tokens, (), max_tokens, {"logprobs": 0, "stop_loops": False} | settings)
        ends = {self._native.token_text(token): token for token in sorted(ask.end_tokens)}
        ask = replace(ask, watched=tuple(ends.values()))
        drops = self._drops_first_space(chosen)
        answer = fold(self._start(replace(ask, drops_first_space=drops)))
        others = [(each.name, each.stops) for each in prompts.PRESETS.values()]
        return explain(answer, ends, [(chosen.name, chosen.stops), *others])

    def rank_templates(self, names: Iterable[str] | None = None) -> list[Fit]:
        """Which template the model was trained with, by its own word: the best fit first.

        Without `names`, of all presets. One evaluation of some dozens of tokens for each.
        """
        from .detect import rank

        def score(tokens: list[int]) -> Sequence[TokenScore]:
            request = self._engine.score(tokens, 1, adapters=self._adapters.current)
            for _ in request:
                pass
            return request.scores

        chosen = [self.choose_template(name) for name in names or prompts.PRESETS]
        native, texts = self._native, self._texts_of_ends()
        return rank(chosen, native, texts, score)

    def score_completion(self, text: str, continuation: str) -> Score:
        """How likely it is that a text goes on like this: no template, the model's own BOS.

        Where the end of the text and the beginning of the continuation are one token together,
        that token is counted.
        """
        bos = "" if self._native.bos is None else self._native.token_text(self._native.bos)
        before = (prompts.Segment(bos, ours=True), prompts.Segment(text, ours=False))
        return self._score(before, (*before, prompts.Segment(continuation, ours=False)))

    def conversation(
        self,
        system: str | None = None,
        **options: Any,
    ) -> Conversation:
        """A dialogue that remembers: `Conversation`, whose keywords these are.

        Others than its own are defaults for `stream`.
        """
        return Conversation(self, system, **options)

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
        options: Mapping[str, Any],
    ) -> Ask:
        from ..llama import check_grammar

        fields, others = split_options(options)
        sampling = read_sampling(fields)
        if sampling.grammar is not None:
            check_grammar(self._native, sampling.grammar)
        return Ask(
            tokens,
            sampling,
            read_max_tokens(max_tokens),
            stops,
            self._native.end_tokens,
            self._adapters.current,
            **others,
        )

    def _start(self, ask: Ask) -> Stream:
        """The last checks are made here, so that nothing is left to go wrong in the stream."""
        if not self._close.alive:
            raise Closed
        if len(ask.tokens) > self.n_ctx:
            raise ContextOverflow(len(ask.tokens), self.n_ctx)
        return Stream(self, self._engine, ask, self._native.piece, self._said.keep)

    def _score(self, before: Sequence[prompts.Segment], whole: Sequence[prompts.Segment]) -> Score:
        """Both are tokenized as a whole, so that the seam is as it would be in one text."""
        tokens, given = (prompts.encode(segments, self._native) for segments in (whole, before))
        n_given = max(1, common_prefix(tokens, given))
        if len(tokens) <= n_given:
            return Score(())
        request = self._engine.score(tokens, n_given, adapters=self._adapters.current)
        for _ in request:
            pass
        return Score(tuple(request.scores))
