"""A chain of samplers in llama.cpp."""

from __future__ import annotations

from random import SystemRandom
from typing import Any

from ..types import Sampling
from .library import native
from .loaded import NativeModel


class Sampler:
    """How the next token is chosen: penalties, top-k, top-p, min-p, temperature, then a draw.

    The order is llama.cpp's own. `prompt` is what the penalties look back on at the start.
    """

    def __init__(self, model: NativeModel, sampling: Sampling, prompt: Any = ()) -> None:
        self._library = library = native()
        self.chain = library.llama_sampler_chain_init(library.llama_sampler_chain_default_params())
        for link in self._links(model.n_vocab, sampling):
            library.llama_sampler_chain_add(self.chain, link)
        if sampling.repeat_penalty != 1 and sampling.repeat_last_n > 0:
            for token in prompt[-sampling.repeat_last_n :]:
                library.llama_sampler_accept(self.chain, token)

    def _links(self, n_vocab: int, sampling: Sampling) -> list[Any]:
        library, links = self._library, []
        if sampling.repeat_penalty != 1:
            penalty = (n_vocab, sampling.repeat_last_n, sampling.repeat_penalty, 0.0, 0.0)
            links.append(library.llama_sampler_init_penalties(*penalty))
        if sampling.temperature == 0:
            return [*links, library.llama_sampler_init_greedy()]
        return [
            *links,
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


def _seed(seed: int | None) -> int:
    """32 bits; llama.cpp takes the largest for "any", which here is None."""
    return SystemRandom().randrange(0xFFFFFFFF) if seed is None else seed % 0xFFFFFFFF
