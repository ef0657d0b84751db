"""The two prompt forms of komt, and their token ids, just as a runtime sees them.

A SentencePiece tokenizer writes a space as `▁` and puts one in front of a text. The prompt is
encoded alone, as it is at inference time; the answer is encoded so that it begins without that `▁`,
since after `### Response: ` the space is already there.
"""

from __future__ import annotations

from typing import Any

BOS, EOS = 1, 2
FORMS = {
    "komt": "### instruction: {question}\n\n### Response: ",
    "komt-output": "{question} ##output:",
}
BPE_DROPOUT = 0.1


def prompt_ids(pieces: Any, form: str, question: str, *, dropout: bool = False) -> list[int]:
    """BOS and the prompt; with dropout, merges are left out at random, as typing errors do."""
    text = FORMS[form].format(question=question)
    if not dropout:
        return [BOS, *pieces.encode(text)]
    return [BOS, *pieces.encode(text, enable_sampling=True, alpha=BPE_DROPOUT, nbest_size=-1)]


def answer_ids(pieces: Any, answer: str) -> list[int]:
    """The answer without the leading space that SentencePiece adds, and EOS."""
    lead = pieces.encode("\n")
    ids = pieces.encode("\n" + answer)
    if ids[: len(lead)] != lead:
        raise ValueError(f"a line break merges with the beginning of {answer!r}")
    return [*ids[len(lead) :], EOS]
