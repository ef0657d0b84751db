"""The JSON files of a checkpoint, none of which is trusted to be one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from komt_convert.errors import SourceError

MAX_BYTES = 256 << 20
"""The largest tokenizer.json known has 35 MB."""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} when there is no such file. Raises SourceError."""
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("too large")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise SourceError(
            f"{path} is not a JSON object; download or copy it again.",
            f"{path} 파일이 JSON 객체가 아닙니다. 다시 내려받거나 복사하세요.",
        )
    return value
