"""A model for the command line's tests: real llama.cpp, and answers that are known beforehand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from komt_local.prompts import PRESETS

sys.path.insert(0, str(Path(__file__).parent.parent / "runtime"))


@pytest.fixture(scope="session")
def chat_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Asked in the komt form it says `한글 world` and ends; in komt-output's, it never ends."""
    from runtime_models import byte_ids, token_ids, write_chain

    space, world, colon, two, three = token_ids("▁", "▁world", ":", "▁two", "▁three")
    chains = [[space, *byte_ids("한글"), world], [colon, two, three, colon]]
    return write_chain(
        tmp_path_factory.mktemp("chat") / "chat.gguf",
        chains,
        n_ctx=1 << 15,
        **{"tokenizer.chat_template": PRESETS["komt"].jinja},
    )
