"""Why a template or a task cannot be used: what stands inside an error's sentence, twice."""

from __future__ import annotations


class Reason(ValueError):
    """A reason of ours, for the inside of a sentence."""

    def __init__(self, en: str, ko: str) -> None:
        super().__init__(en)
        self.ko = ko


def korean(error: Exception) -> str:
    """The reason in Korean; those of other libraries are in English only."""
    return str(getattr(error, "ko", error))
