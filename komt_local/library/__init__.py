"""Which models are here, and where: from what a user calls a model to a file on this machine.

    resolve("komt-mistral-7b-v1:Q4_K_M")    the file, if it is here
    describe(path)                          what its header says
    contents()                              everything that is here
    fingerprint(path)                       its SHA-256, read once
    proof_of(path)                          what the report of its conversion says
    adapter_file(path)                      a LoRA adapter as llama.cpp reads it

It knows paths, the embedded model, what was pulled, made or imported, and the Hugging Face cache.
It loads no model and opens no socket; bringing models here is the business of `komt_local.hub`.
"""

from __future__ import annotations

from .adapters import adapter_file
from .facts import Facts, describe, facts_of, read_header
from .find import (
    EMBEDDED_NAME,
    embedded,
    expand,
    model_for,
    origin,
    resolve,
    resolve_text,
    template_for,
)
from .fingerprints import fingerprint, known_fingerprint
from .proofs import Proof, proof_of
from .records import data_folder, touch

__all__ = [
    "EMBEDDED_NAME",
    "Facts",
    "Proof",
    "adapter_file",
    "data_folder",
    "describe",
    "embedded",
    "expand",
    "facts_of",
    "fingerprint",
    "known_fingerprint",
    "model_for",
    "origin",
    "proof_of",
    "read_header",
    "resolve",
    "resolve_text",
    "template_for",
    "touch",
]
