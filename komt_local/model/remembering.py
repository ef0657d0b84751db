"""What a loaded model remembers between its answers: adapters, words, and a memory to be saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .adapters import Adapters, AdapterSource
from .options import Loading
from .reader import Reader
from .said import Recalled, Said, spell

if TYPE_CHECKING:
    from ..engine import Engine
    from ..llama import NativeModel


class Remembering(Reader):
    """A model with an engine on it, and what both hold from one request to the next."""

    def __init__(
        self, native: NativeModel, engine: Engine, loading: Loading, *, n_ctx: int,
        template: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(native, template)
        self.n_ctx = n_ctx
        self._engine, self._loading = engine, loading
        self._adapters = Adapters(native, engine)
        n_kept = 16 + 4 * loading.n_slots
        self._said = Said(lambda token: spell(token, native.piece(token)), n_kept)

    def set_adapters(self, adapters: Sequence[AdapterSource]) -> None:
        """Answer with these LoRA adapters from the next request on, and with no others.

        Each is the path of a GGUF adapter or of a folder that PEFT saved (which is converted once,
        and kept), or a pair of such a path and a scale. Requests under way
        end as they began; the next ones wait for them. Raises ModelNotFound, InvalidModel,
        UsageError and Closed.
        """
        self._adapters.set(adapters)

    @property
    def adapters(self) -> tuple[tuple[Path, float], ...]:
        """The adapters of the next request, and their scales."""
        return self._adapters.named

    @property
    def memory_key(self) -> Mapping[str, Any]:
        """What a saved memory depends on: the file, the adapters, and how they were loaded."""
        from .. import library, llama

        types = (self._loading.cache_type_k, self._loading.cache_type_v)
        return {
            "model": library.fingerprint(self.path),
            "adapters": self._adapters.key,
            "cache": types,
            "llama": llama.PINNED_VERSION,
        }

    def save_memory(
        self, tokens: list[int], path: Path, *, limit: int = 1 << 62
    ) -> tuple[int, ...] | None:
        """Write what is held of a prompt to a file; returns what `load_memory` is to be told.

        None, and no file, where nothing is held or where it would take more bytes than the limit.
        """
        recalled, adapters = self._recall(tokens), self._adapters.current
        found = self._engine.save_state(recalled.tokens, path, adapters=adapters, limit=limit)
        return recalled.unshown if found else None

    def load_memory(self, path: Path, unshown: tuple[int, ...] = ()) -> int:
        """Take what `save_memory` wrote for the same `memory_key`; returns how many tokens.

        0 where it does not fit. The file must be whole, which is the caller's to know.
        """
        tokens = self._engine.load_state(path, adapters=self._adapters.current)
        known = tuple(n for n in unshown if n < len(tokens))
        self._said.keep(Recalled([], known), tokens)
        return len(tokens)

    def _recall(self, tokens: list[int]) -> Recalled:
        """A prompt in the words of its dialogue, but where requests must not know of others."""
        if self._loading.deterministic:
            return Recalled(tokens)
        return self._said.recall(tokens, self.n_ctx)
