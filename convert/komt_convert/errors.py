"""Everything that a conversion raises on purpose, as one tree:

    ConvertError                one sentence that names the offender and the remedy
    ├── SourceError             the checkpoint cannot be used as it is
    │   ├── UnsupportedError    an architecture, tokenizer or weight format that is not known here
    │   └── TokenizerMismatch   the written file would tokenize differently from its source
    ├── OutputError             the target exists, cannot be written, or does not fit the disk
    ├── GGUFError               a file that is not a whole, sane GGUF
    ├── QuantizationError       no such type, or ggml refused
    └── VerificationError       the written file does not say what its source says

Every error carries its sentence in English and in Korean; `str()` gives the English one.
"""

from __future__ import annotations


class ConvertError(Exception):
    """A failure that a user can read: one sentence in English (`str`) and one in Korean (`ko`)."""

    def __init__(self, en: str, ko: str) -> None:
        super().__init__(en)
        self.ko = ko


class SourceError(ConvertError):
    """The checkpoint cannot be used as it is."""


class UnsupportedError(SourceError):
    """An architecture, a tokenizer or a format of weights that is not known here."""


class TokenizerMismatch(SourceError):
    """The written file would give other token ids than the source tokenizer."""


class OutputError(ConvertError):
    """The target exists already, cannot be written, or does not fit the disk."""


class GGUFError(ConvertError):
    """The file is not a whole, sane GGUF."""


class QuantizationError(ConvertError):
    """No such quantization type, or ggml refused the values."""


class VerificationError(ConvertError):
    """The written file does not say what its source says."""
