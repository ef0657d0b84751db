"""The pages' examples run, in order, and as they stand."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "runtime"))


@pytest.mark.parametrize("page", ["docs/python.md"])
def test_every_block_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from runtime_models import write_adapter, write_random

    from komt_local.prompts import PRESETS

    template = {"tokenizer.chat_template": PRESETS["llama-2"].jinja}
    write_random(tmp_path / "model.gguf", **template)
    write_adapter(tmp_path / "adapter.gguf")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = [
        (text.count("\n", 0, match.start()) + 2, match[1])
        for match in re.finditer(r"```python\n(.*?)```", text, re.S)
    ]
    namespace: dict[str, object] = {"__name__": "page"}
    for line, block in blocks:
        code = compile("\n" * (line - 1) + block, str(ROOT / page), "exec")
        exec(code, namespace)
    assert len(blocks) > 8 and "machine: 3/3 layers" in capsys.readouterr().out
