"""What Llama and most of those after it have in common; an architecture says how it differs.

All of them are a table of tokens, layers of attention and a gated feed-forward part, and a norm. A
subclass names itself (`NAME`, as llama.cpp calls it), the defaults of its class in transformers,
and its tensors where they differ. It overrides what it computes otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from komt_convert.arch.base import Slot, Source, fill, integer, number, refuse
from komt_convert.arch.rope import STRETCHED, Rope
from komt_convert.metadata import Metadata, f32, text, u32
from komt_convert.tensors import Tensor

MAX_LAYERS = 512
"""LLAMA_MAX_LAYERS of llama.cpp, which aborts beyond it."""

Change = Callable[[Tensor], Tensor]

MODEL = {
    "token_embd": "model.embed_tokens",
    "blk": "model.layers",
    "output_norm": "model.norm",
    "output": "lm_head",
}
LINEAR = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
POST_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
"""Names in GGUF → names in the checkpoint, without `.weight` and `.bias`."""

QKV = ("attn_q", "attn_k", "attn_v")


@dataclass(frozen=True)
class Decoder:
    """The entries of config.json that all of them have."""

    hidden_size: int
    intermediate_size: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_rows: int
    n_context: int
    norm_epsilon: float
    tied: bool
    rope: Rope

    NAME: ClassVar[str]
    DEFAULTS: ClassVar[Mapping[str, Any]] = {}
    ACTIVATIONS: ClassVar[Sequence[object]] = ("silu",)
    ROPES: ClassVar[Collection[str]] = STRETCHED
    MODEL: ClassVar[Mapping[str, str]] = MODEL
    LINEAR: ClassVar[Mapping[str, str]] = LINEAR
    NORMS: ClassVar[Mapping[str, str]] = NORMS
    HEAD_NORMS: ClassVar[Mapping[str, str]] = {}
    BIASES: ClassVar[Collection[str]] = ()
    OPTIONAL_BIASES: ClassVar[Collection[str]] = ()
    PARTIAL_ROTATION: ClassVar[bool] = False
    EPSILON: ClassVar[str] = "attention.layer_norm_rms_epsilon"
    RENAMED: ClassVar[Mapping[str, str]] = {}
    UNUSED: ClassVar[tuple[str, ...]] = (".rotary_emb.inv_freq",)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Raises SourceError and UnsupportedError, naming the entry that cannot be used."""
        own = {new: config[old] for old, new in cls.RENAMED.items() if config.get(old) is not None}
        config = {**cls.DEFAULTS, **config, **own}
        cls.check(config)
        n_heads, hidden_size = (
            integer(config, "num_attention_heads"),
            integer(config, "hidden_size"),
        )
        n_kv_heads = integer(config, "num_key_value_heads", n_heads)
        n_context = integer(config, "max_position_embeddings")
        decoder = cls(
            hidden_size=hidden_size,
            intermediate_size=integer(config, "intermediate_size"),
            n_layers=integer(config, "num_hidden_layers"),
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            head_dim=integer(config, "head_dim", hidden_size // n_heads),
            n_rows=integer(config, "vocab_size"),
            n_context=cls.context(config, n_context),
            norm_epsilon=number(config, "rms_norm_eps"),
            tied=bool(config.get("tie_word_embeddings", False)),
            rope=Rope.from_config(config, n_context, cls.ROPES),
            **cls.more(config),
        )
        decoder.check_sizes()
        return decoder

    @classmethod
    def check(cls, config: Mapping[str, Any]) -> None:
        """Raises UnsupportedError for a setting that llama.cpp would not compute."""
        if config.get("hidden_act", cls.ACTIVATIONS[0]) not in cls.ACTIVATIONS:
            raise refuse("hidden_act", config["hidden_act"])

    @classmethod
    def context(cls, config: Mapping[str, Any], n_context: int) -> int:
        """The context that is written: at most a sliding window that llama.cpp does not have.

        It attends to everything instead; up to the window that is the same.
        """
        return min(n_context, integer(config, "sliding_window", n_context))

    @classmethod
    def more(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that a subclass adds."""
        return {}

    def check_sizes(self) -> None:
        if self.n_layers > MAX_LAYERS:
            raise refuse("num_hidden_layers", self.n_layers)
        if self.n_heads % self.n_kv_heads:
            raise refuse("num_key_value_heads", self.n_kv_heads)
        if self.head_dim % 2:
            raise refuse("head_dim", self.head_dim)
        partial = self.rope.part != 1
        if (partial and not self.PARTIAL_ROTATION) or self.rope.part > 1 or self.n_rotated % 2:
            raise refuse("partial_rotary_factor", self.rope.part)

    @property
    def n_rotated(self) -> int:
        """The values of each head that the rotary embedding turns."""
        return int(self.rope.part * self.head_dim)

    def metadata(self, source: Source) -> Metadata:
        keys = {
            "block_count": u32(self.n_layers),
            "context_length": u32(self.n_context),
            "embedding_length": u32(self.hidden_size),
            "feed_forward_length": u32(self.intermediate_size),
            "attention.head_count": u32(self.n_heads),
            "attention.head_count_kv": u32(self.n_kv_heads),
            self.EPSILON: f32(self.norm_epsilon),
            "attention.key_length": u32(self.head_dim),
            "attention.value_length": u32(self.head_dim),
            **self.more_metadata(),
        }
        return {
            "general.architecture": text(self.NAME),
            **{f"{self.NAME}.{key}": value for key, value in keys.items()},
            **self.rope.metadata(self.NAME),
        }

    def more_metadata(self) -> Metadata:
        """What a subclass adds, without the architecture's name in front."""
        return {}

    def tensors(self, source: Source) -> list[Tensor]:
        factors = self.rope.factors(self.head_dim)
        return factors + fill(self.slots(), source.tensors, unused=self.UNUSED)

    def slots(self) -> Iterator[Slot]:
        names, table = self.MODEL, (self.n_rows, self.hidden_size)
        yield _weight(names["token_embd"], "token_embd", table)
        for i in range(self.n_layers):
            yield from self.layer_slots(f"{names['blk']}.{i}.", f"blk.{i}.")
        norm = (self.hidden_size,)
        yield from self.part_slots(names["output_norm"], "output_norm", norm, "output_norm")
        yield _weight(names["output"], "output", table, optional=self.tied)

    def layer_slots(self, source: str, target: str) -> Iterator[Slot]:
        """The tensors of one layer, whose names begin with `source` and `target`."""
        shapes = self.shapes()
        for part, name in {**self.NORMS, **self.HEAD_NORMS, **self.LINEAR}.items():
            yield from self.part_slots(source + name, target + part, shapes[part], part)

    def part_slots(
        self, source: str, target: str, shape: tuple[int, ...], part: str
    ) -> Iterator[Slot]:
        """The weight of a part, and its bias where it has one."""
        change = self.change(part)
        yield _weight(source, target, shape, change)
        if part in self.BIASES or part in self.OPTIONAL_BIASES:
            bias = f"{source}.bias", f"{target}.bias", shape[:1]
            yield Slot(*bias, change, optional=part not in self.BIASES)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        d, f = self.hidden_size, self.intermediate_size
        q, kv = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        return {
            **dict.fromkeys(self.NORMS, (d,)),
            **dict.fromkeys(self.HEAD_NORMS, (self.head_dim,)),
            "attn_q": (q, d),
            "attn_k": (kv, d),
            "attn_v": (kv, d),
            "attn_output": (d, q),
            "ffn_gate": (f, d),
            "ffn_up": (f, d),
            "ffn_down": (d, f),
        }

    def change(self, part: str) -> Change | None:
        """What happens to the values of a part on their way; None for nothing."""
        return None


def _weight(
    source: str,
    target: str,
    shape: tuple[int, ...],
    change: Change | None = None,
    *,
    optional: bool = False,
) -> Slot:
    return Slot(f"{source}.weight", f"{target}.weight", shape, change, optional)
