"""Who may import whom, what importing costs, and that the public surface is what it says."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import komt_local

ROOT = Path(__file__).parent.parent
HEAVY = {"numpy", "jinja2", "llama_cpp", "gguf", "torch", "transformers", "rich", "prompt_toolkit"}

# What each module may import besides itself, as docs/architecture.md has it.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "types": set(),
    "language": {"errors"},
    "prompts": {"types", "errors"},
    "detokenize": {"types", "errors"},
    "scheduler": {"types", "errors"},
    "loops": set(),
    "schema": {"errors"},
    "hardware": {"types", "errors"},
    "offload": {"hardware", "errors"},
    "references": {"errors"},
    "variants": {"references", "errors"},
    "catalogue": {"variants", "errors"},
    "library": {"references", "variants", "catalogue", "errors", "komt_convert"},
    "hub": {
        "references", "variants", "catalogue", "library", "prompts", "types", "errors",
        "komt_convert",
    },
    "llama": {"types", "errors", "hardware", "offload", "komt_convert"},
    "engine": {"types", "errors", "llama", "scheduler"},
    "bench": {"types", "errors", "llama", "hardware"},
    "model": {
        "types", "errors", "engine", "llama", "library", "hardware", "prompts", "detokenize",
        "komt_convert", "offload", "scheduler", "loops", "schema",
    },
    "sessions": {"types", "errors", "library", "model"},
    "terminal": {"language", "types", "errors"},
    "doctor": {"hardware", "library", "llama", "model", "errors"},
}  # fmt: skip


def modules(package: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(package.rglob("*.py")):
        yield path.relative_to(package).with_suffix("").parts[0], path


def imports(path: Path, package: Path) -> Iterator[str]:
    """The first part of every import, of ours without the package's name."""
    inside = path.relative_to(package).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = inside[: len(inside) - node.level + 1]
            parts = (*base, *(node.module or "").split("."))
            named = [part for part in parts if part]
            yield from [".".join(named)] if named else (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_komt_local_imports_follow_the_architecture() -> None:
    package = ROOT / "komt_local"
    ours = {name for name, _ in modules(package)} | {"komt_convert"}
    for name, path in modules(package):
        if name not in MAY_IMPORT:
            assert name in {"__init__", "__main__", "cli", "demo"}, f"{name}: give it its rules"
            continue
        found = {wanted.split(".")[0] for wanted in imports(path, package)} & ours
        assert found <= MAY_IMPORT[name] | {name}, f"{path.name} imports {found}"


def test_komt_convert_never_imports_komt_local() -> None:
    package = ROOT / "convert" / "komt_convert"
    for _, path in modules(package):
        found = {wanted.split(".")[0] for wanted in imports(path, package)}
        assert "komt_local" not in found, path
        if path.stem in {"writer", "ggml", "verify", "gguf_file", "recipes"}:
            assert not {w for w in imports(path, package) if "arch" in w.split(".")}, path
        if path.parent.name == "arch":
            assert not found & {"llama_cpp", "ctypes"}, path


@pytest.mark.parametrize("code", ["import komt_local", "import komt_convert"])
def test_importing_loads_nothing_heavy(code: str) -> None:
    assert not loaded_by(code) & HEAVY


def test_help_loads_nothing_heavy() -> None:
    code = "from komt_local.cli import run; assert run(['--help']) == 0"
    assert not loaded_by(code) & HEAVY


def loaded_by(code: str) -> set[str]:
    """The top-level modules in memory after running `code` in a fresh interpreter."""
    program = f"import sys\n{code}\nprint('\\n'.join(sys.modules), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in done.stderr.split()}


def test_public_names_are_sorted_and_real() -> None:
    assert komt_local.__all__ == sorted(komt_local.__all__)
    for name in komt_local.__all__:
        assert getattr(komt_local, name).__name__ == name
    with pytest.raises(AttributeError):
        _ = komt_local.nothing_of_that_name
