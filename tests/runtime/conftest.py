"""Tiny models that the runtime's tests share, made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from runtime_models import byte_ids, token_ids, write_chain, write_random

from komt_local import llama

SYLLABLES = "한글"


@pytest.fixture(scope="session")
def random_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of random weights under Llama-2's vocabulary."""
    return write_random(tmp_path_factory.mktemp("random") / "random.gguf")


@pytest.fixture(scope="session")
def chain_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After `▁Hello` it says 한글 in byte tokens, then ` world`, and ends.

    After `▁one` it says ` two three one two three` for ever; after `▁stop`, bytes of half a
    syllable, and ends.
    """
    hello, world, one, two, three, stop = token_ids(
        "▁Hello", "▁world", "▁one", "▁two", "▁three", "▁stop"
    )
    chains = [
        [hello, *byte_ids(SYLLABLES), world],
        [one, two, three, one],
        [stop, *token_ids("<0xEC>", "<0x96>")],
    ]
    path = tmp_path_factory.mktemp("chain") / "chain.gguf"
    return write_chain(path, chains, n_ctx=1 << 20)


@pytest.fixture(scope="session")
def random_model(random_gguf: Path) -> Iterator[llama.NativeModel]:
    model = llama.load(random_gguf)
    yield model
    model.close()


@pytest.fixture(scope="session")
def chain_model(chain_gguf: Path) -> Iterator[llama.NativeModel]:
    model = llama.load(chain_gguf)
    yield model
    model.close()
