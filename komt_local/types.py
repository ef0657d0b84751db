"""The values that pass between the parts of the runtime: what goes in and what comes out.

All are frozen; none knows how it is made. Tokens are counted, seconds are wall-clock seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypedDict

Role = Literal["system", "user", "assistant"]

FinishReason = Literal["stop", "length", "cancelled", "context", "loop"]
"""Why an answer ended: by itself (`stop`: an end token or a stop string), at `max_tokens`
(`length`), by the caller (`cancelled`), because the context was full (`context`), or because it
went round in circles (`loop`)."""


class MessageDict(TypedDict):
    """A message as the OpenAI and Hugging Face interfaces write it."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a dialogue."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen; the defaults are llama.cpp's own, but for the penalty.

    At `temperature` 0 the most likely token is taken and the rest but the penalty is without
    effect. `top_k` 0, `top_p` 1, `min_p` 0 and `repeat_penalty` 1 switch a filter off, and so do
    the other penalties at 0. `seed` None draws one at random.

    The penalties look back on the last `repeat_last_n` tokens, DRY on all of them: going on with a
    sequence that stood there before costs `dry_multiplier` * `dry_base` ** (its length -
    `dry_allowed_length`) of a token's logit. `grammar` is GBNF text that the answer must follow.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    seed: int | None = None
    grammar: str | None = None


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How likely a sampled token was (natural logarithms), beside the likeliest and others asked.

    Before sampling settings: a probability of the model, not of the draw.
    """

    token: int
    log_likelihood: float
    others: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token of an answer and how likely it was; `top` holds the likeliest in its place.

    `piece` are its bytes, which need not be whole characters: `text` shows the rest as U+FFFD.
    """

    token: int
    piece: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()

    @property
    def text(self) -> str:
        return self.piece.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class TokenScore:
    """How likely a token was where it stands: the natural logarithm of its probability.

    `is_likeliest`: greedy decoding would have chosen it.
    """

    token: int
    log_likelihood: float
    is_likeliest: bool


@dataclass(frozen=True, slots=True)
class Score:
    """How likely a text was after another one, token by token."""

    tokens: tuple[TokenScore, ...]

    @property
    def log_likelihood(self) -> float:
        """Of the whole: the sum over its tokens."""
        return sum(token.log_likelihood for token in self.tokens)

    @property
    def is_likeliest(self) -> bool:
        """Whether greedy decoding would have said just this."""
        return all(token.is_likeliest for token in self.tokens)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens counted: `cached_tokens` of the prompt were already in the context."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds spent on one request: waiting in the queue, on its prompt, on its answer."""

    queue_seconds: float = 0.0
    prompt_seconds: float = 0.0
    generation_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Event:
    """A piece of an answer as it comes: whole characters only; the last has a finish reason.

    `tokens` are those that came since the event before, if they were asked for; at a stop, also
    those of the stop itself.
    """

    text: str
    usage: Usage = field(default_factory=Usage)
    finish_reason: FinishReason | None = None
    timings: Timings | None = None
    tokens: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: the fold of its events."""

    text: str
    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    tokens: tuple[TokenLogprob, ...] = ()
