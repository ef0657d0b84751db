"""The tiny models of the runtime's tests, and a library of one's own for each test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "runtime"))

TURNS = (
    "{% for m in messages %}{{ '[' + m['role'] + '] ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)


@pytest.fixture(autouse=True)
def own_home(clean_environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    home = tmp_path / "komt-local"
    monkeypatch.setenv("KOMT_LOCAL_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def talkative_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights under a template of several turns."""
    from runtime_models import write_random

    path = tmp_path_factory.mktemp("talkative") / "model.gguf"
    return write_random(path, **{"tokenizer.chat_template": TURNS})


@pytest.fixture(scope="session")
def fluent_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Under the same template it answers `two three two three …`, as a tokenizer would split it."""
    from runtime_models import token_ids, write_chain

    bracket, two, three = token_ids("]", "▁two", "▁three")
    path = tmp_path_factory.mktemp("fluent") / "model.gguf"
    chains = [[bracket, two], [two, three, two]]
    return write_chain(path, chains, **{"tokenizer.chat_template": TURNS})
