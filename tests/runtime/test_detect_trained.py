"""Detection on transformers that were really trained, in a few seconds, on one template each.

They have seen other questions and answers than those that detection asks, in that template.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkpoints import write_llama_checkpoint
from komt_convert import convert
from komt_convert.vocab_sentencepiece import Reference
from komt_local import Model
from komt_local.model.detect import ANSWER, QUESTION, sureness
from komt_local.prompts import PRESETS, render
from komt_local.types import Message

STEPS, BATCH = 90, 4
THINGS = (
    "인삼 구름 바다 나무 학교 하늘 사과 시간 노래 기차 의자 모자 여름 겨울 강아지 고양이".split()
)


def dialogues(name: str, n: int) -> Iterator[str]:
    """Two exchanges each, in the template's form, up to the second answer's end."""
    drawn = random.Random(0)
    for _ in range(n):
        turns = []
        for _ in range(2):
            a, b = drawn.sample(THINGS, 2)
            asked = drawn.choice([f"{a}의 {b}는 무엇인가요?", f"{a}는 어디인가요?", f"{a} {b}?"])
            turns += [Message("user", asked), Message("assistant", f"{a}의 {b}는 {b}입니다.")]
        whole = render(PRESETS[name], [*turns, Message("user", THINGS[0])], bos="", eos="</s>")
        yield "".join(part.text for part in whole)


def train(folder: Path, name: str) -> Path:
    """A small Llama with the loss on every token, converted; returns the file."""
    import torch
    from transformers import AutoModelForCausalLM

    shape = {"hidden_size": 96, "intermediate_size": 192, "n_layers": 2, "n_heads": 4}
    write_llama_checkpoint(folder, dtype="F32", **shape)
    raw = (folder / "tokenizer.model").read_bytes()
    vocabulary = Reference(raw, (), folder / "tokenizer.model")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for weights in model.parameters():
        if weights.dim() > 1:
            torch.nn.init.normal_(weights, std=0.05)
    steps = torch.optim.AdamW(model.parameters(), lr=4e-3)
    texts = list(dialogues(name, STEPS * BATCH))
    for first in range(0, len(texts), BATCH):
        parts = [vocabulary.parse(text, {"</s>": 2}) for text in texts[first : first + BATCH]]
        ids = [[1, *part][:224] for part in parts]
        width = max(map(len, ids))
        batch = torch.tensor([row + [0] * (width - len(row)) for row in ids])
        loss = model(batch, labels=batch.masked_fill(batch == 0, -100)).loss
        steps.zero_grad()
        loss.backward()
        steps.step()
    model.save_pretrained(folder)
    convert(folder, folder / "model.gguf", quant="F16", verify=False)
    return folder / "model.gguf"


@pytest.mark.parametrize("name", ["koalpaca", "chatml"])
def test_a_trained_model_knows_its_template(tmp_path: Path, name: str) -> None:
    assert not any(thing in QUESTION + ANSWER for thing in THINGS)
    path = train(tmp_path, name)
    with Model.load(path, threads=1) as model:
        fits = model.rank_templates()
    assert name in (fits[0].template, *fits[0].same), fits[:3]
    assert sureness(fits) != "unsure", fits[:3]
