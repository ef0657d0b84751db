"""Tiny checkpoints in the real layout, made on the fly and the same on every machine.

A checkpoint here is a folder as the Hugging Face libraries write it: config.json, safetensors in
one file or in shards with an index, a tokenizer, the generation config. The weights are noise
(integers from PCG64, whose stream is fixed, added up and scaled), the vocabularies are excerpts of
two real ones in `tests/vocab`. Neither torch nor transformers nor safetensors is needed.

    write_llama_checkpoint(folder)                            1,024 SentencePiece tokens, 3 M values
    write_llama_checkpoint(folder, vocab="byte-level", n_kv_heads=2, tied=True, dtype="BF16")
    write_family_checkpoint(folder, "gpt-neox")               one of FAMILIES
"""

from .families import (
    FAMILIES,
    weights_of,
    write_checkpoint,
    write_family_checkpoint,
    write_llama_checkpoint,
)
from .files import encode_values, noise, write_json, write_safetensors, write_weights
from .golden import GOLDEN, write_golden_checkpoint
from .shapes import shapes
from .vocabularies import (
    VOCABULARIES,
    ByteLevel,
    Pieces,
    added_token,
    begins_with,
    byte_level,
    byte_level_json,
    llama_pieces,
    merges_of,
    metaspace_json,
    polyglot_json,
    read_vocabulary,
    sentencepiece_model,
    write_tokenizer,
)

__all__ = [
    "FAMILIES",
    "GOLDEN",
    "VOCABULARIES",
    "ByteLevel",
    "Pieces",
    "added_token",
    "begins_with",
    "byte_level",
    "byte_level_json",
    "encode_values",
    "llama_pieces",
    "merges_of",
    "metaspace_json",
    "noise",
    "polyglot_json",
    "read_vocabulary",
    "sentencepiece_model",
    "shapes",
    "weights_of",
    "write_checkpoint",
    "write_family_checkpoint",
    "write_golden_checkpoint",
    "write_json",
    "write_llama_checkpoint",
    "write_safetensors",
    "write_tokenizer",
    "write_weights",
]

llama_weights = weights_of
