"""A chain of samplers in llama.cpp."""

from __future__ import annotations

import ctypes
from random import SystemRandom
from typing import Any

from ..types import Sampling
from .grammar import Grammar
from .library import native
from .loaded import NativeModel

_DRY_BREAKERS = (b"\n", b":", b'"', b"*")
"""Texts across which DRY sees no repetition: llama.cpp's own (common/common.h)."""


class Sampler:
    """How the next token is chosen: penalties, DRY, top-k, top-p, min-p, temperature, then a draw.

    The order is llama.cpp's own. `prompt` is what the penalties look back on at the start. Where
    there is a `grammar`, tokens are chosen by it and the chain; where `takes_likeliest`, there is
    nothing but the logits to look at, which numpy does ten times faster than the chain.
    """

    def __init__(self, model: NativeModel, sampling: Sampling, prompt: Any = ()) -> None:
        self._library = library = native()
        self.grammar = Grammar(model, sampling.grammar) if sampling.grammar is not None else None
        self.takes_likeliest = _takes_likeliest(sampling)
        self.chain = library.llama_sampler_chain_init(library.llama_sampler_chain_default_params())
        for link in [*self._penalties(model, sampling), *self._choice(sampling)]:
            library.llama_sampler_chain_add(self.chain, link)
        for token in prompt[len(prompt) - _looks_back(sampling, len(prompt)) :]:
            library.llama_sampler_accept(self.chain, token)

    def _penalties(self, model: NativeModel, sampling: Sampling) -> list[Any]:
        library, links = self._library, []
        if _penalizes(sampling):
            strengths = (
                sampling.repeat_penalty, sampling.frequency_penalty, sampling.presence_penalty
            )  # fmt: skip
            penalty = (model.n_vocab, sampling.repeat_last_n, *strengths)
            links.append(library.llama_sampler_init_penalties(*penalty))
        if sampling.dry_multiplier:
            links.append(self._dry(model, sampling))
        return links

    def _dry(self, model: NativeModel, sampling: Sampling) -> Any:
        breakers = (ctypes.c_char_p * len(_DRY_BREAKERS))(*_DRY_BREAKERS)
        with model.open_vocabulary() as vocabulary:
            return self._library.llama_sampler_init_dry(
                vocabulary,
                sampling.dry_multiplier,
                sampling.dry_base,
                sampling.dry_allowed_length,
                model.n_ctx_train,
                breakers,
                len(_DRY_BREAKERS),
            )

    def _choice(self, sampling: Sampling) -> list[Any]:
        library = self._library
        if sampling.temperature == 0:
            return [library.llama_sampler_init_greedy()]
        return [
            library.llama_sampler_init_top_k(sampling.top_k),
            library.llama_sampler_init_top_p(sampling.top_p, 1),
            library.llama_sampler_init_min_p(sampling.min_p, 1),
            library.llama_sampler_init_temp(sampling.temperature),
            library.llama_sampler_init_dist(_seed(sampling.seed)),
        ]

    def close(self) -> None:
        if self.chain is not None:
            self._library.llama_sampler_free(self.chain)
            self.chain = None
        if self.grammar is not None:
            self.grammar.close()


def _penalizes(sampling: Sampling) -> bool:
    strengths = (
        sampling.repeat_penalty - 1, sampling.frequency_penalty, sampling.presence_penalty
    )  # fmt: skip
    return any(strengths) and sampling.repeat_last_n > 0


def _takes_likeliest(sampling: Sampling) -> bool:
    is_changed = _penalizes(sampling) or sampling.dry_multiplier
    return sampling.temperature == 0 and not is_changed and sampling.grammar is None


def _looks_back(sampling: Sampling, n_prompt: int) -> int:
    """How many of the prompt's last tokens count."""
    if sampling.dry_multiplier:
        return n_prompt
    return min(sampling.repeat_last_n, n_prompt) if _penalizes(sampling) else 0


def _seed(seed: int | None) -> int:
    """32 bits; llama.cpp takes the largest for "any", which here is None."""
    return SystemRandom().randrange(0xFFFFFFFF) if seed is None else seed % 0xFFFFFFFF
