"""Trains the embedded model from the text in this folder, and writes a Hugging Face checkpoint.

    python convert/demo/train.py --out CHECKPOINT

Most batches see only the first tokens of the answers: which answer it is to be is decided there,
and that has to be learned from many questions; the rest of an answer follows from its beginning
and needs few examples.

Matrices are multiplied in bfloat16 where the processor can; attention is written out, because on a
CPU the fused one is slower for questions of thirty tokens. Together that halves the time.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os.path import commonprefix
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import augment
import sentencepiece
import torch
from forms import BOS, EOS, FORMS, answer_ids, prompt_ids
from intents import Corpus, Intent, load, problems
from transformers import LlamaConfig, LlamaForCausalLM

IGNORED = -100


@dataclass(frozen=True)
class Recipe:
    """What decides the result; the defaults are those of the model that ships."""

    seed: int = 2026
    steps: int = 4000
    vocabulary: int = 3072
    width: int = 256
    layers: int = 5
    heads: int = 4
    kv_heads: int = 4
    feed_forward: int = 768
    learning_rate: float = 2e-3
    warmup: int = 60
    batch: int = 88
    whole_batch: int = 40
    beginnings: int = 6
    whole: int = 3
    """Of nine batches, six are beginnings of answers and three are whole ones."""
    key_word_weight: int = 8
    """How often each key word is said to the tokenizer, so that most become one piece."""
    other_share: float = 0.28


@dataclass(frozen=True)
class Sample:
    """Token ids, how many of them are the prompt, and how many it takes to tell the answer."""

    ids: list[int]
    n_prompt: int
    n_decided: int

    @property
    def beginning(self) -> Sample:
        return Sample(self.ids[: self.n_decided], self.n_prompt, self.n_decided)


def train_tokenizer(corpus: Corpus, recipe: Recipe, folder: Path) -> Any:
    """BPE with byte fallback on questions, answers and words; every syllable seen is a piece."""
    texts = [*corpus.answers, *corpus.other.questions, *corpus.other.nouns]
    texts += [question for intent in corpus.intents for question in intent.questions]
    texts += [*corpus.key_words] * recipe.key_word_weight
    texts += [*corpus.other.english_nouns, *augment.OPENERS, *augment.CLOSERS, *augment.FRAMES]
    texts += [form.format(question="") for form in FORMS.values()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=recipe.vocabulary,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    (folder / "tokenizer.vocab").unlink()
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


def samples(corpus: Corpus, pieces: Any, recipe: Recipe, rng: Random) -> Iterator[Sample]:
    """Endless questions with their answers, in both forms."""
    answers = {answer: answer_ids(pieces, answer) for answer in corpus.answers}
    decisive = {answer: _decisive(ids, answers.values()) for answer, ids in answers.items()}
    weights = [0.8 if intent.english else 1.0 for intent in corpus.intents]
    forms = list(FORMS)
    new = augment.Augmenter(corpus, rng)
    while True:
        if rng.random() < recipe.other_share:
            question, answer = new.of_other(), corpus.other.answer
        else:
            intent: Intent = rng.choices(corpus.intents, weights)[0]
            question, answer = new.of_intent(intent), intent.answer
        prompt = prompt_ids(pieces, rng.choice(forms), question, dropout=rng.random() < 0.5)
        yield Sample(prompt + answers[answer], len(prompt), len(prompt) + decisive[answer])


def _decisive(ids: list[int], answers: Iterable[list[int]]) -> int:
    """How many tokens of an answer it takes until no other begins so, and two more."""
    others = [other for other in answers if other != ids]
    return max(len(commonprefix([ids, other])) for other in others) + 3


def batches(stream: Iterator[Sample], recipe: Recipe, rng: Random) -> Iterator[tuple[Any, Any]]:
    """Batches with the beginnings of answers, and some of whole ones; each of like lengths."""
    while True:
        beginnings = [next(stream).beginning for _ in range(recipe.beginnings * recipe.batch)]
        whole = [next(stream) for _ in range(recipe.whole * recipe.whole_batch)]
        made = [*_alike(beginnings, recipe.batch), *_alike(whole, recipe.whole_batch)]
        rng.shuffle(made)
        yield from map(_tensors, made)


def _alike(group: list[Sample], size: int) -> list[list[Sample]]:
    group = sorted(group, key=lambda sample: len(sample.ids))
    return [group[start : start + size] for start in range(0, len(group), size)]


def _tensors(group: list[Sample]) -> tuple[Any, Any]:
    width = max(len(sample.ids) for sample in group)
    ids = torch.full((len(group), width), EOS)
    labels = torch.full((len(group), width), IGNORED)
    for row, sample in enumerate(group):
        length = len(sample.ids)
        ids[row, :length] = torch.tensor(sample.ids)
        labels[row, sample.n_prompt : length] = ids[row, sample.n_prompt : length]
    return ids, labels


def new_model(recipe: Recipe) -> Any:
    torch.manual_seed(recipe.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=recipe.vocabulary,
            hidden_size=recipe.width,
            intermediate_size=recipe.feed_forward,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.kv_heads,
            max_position_embeddings=2048,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            bos_token_id=BOS,
            eos_token_id=EOS,
            attn_implementation="eager",
        )
    )


def loss_of(model: Any, ids: Any, labels: Any) -> Any:
    """Cross-entropy on answer tokens; logits are made for those positions only."""
    hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    wanted = labels[:, 1:]
    mask = wanted != IGNORED
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[mask]), wanted[mask])


def optimizer_of(model: Any, recipe: Recipe) -> Any:
    """AdamW; norms are not pulled towards zero."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))


def rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine to a fiftieth."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.learning_rate * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)


def train(model: Any, feed: Iterator[tuple[Any, Any]], recipe: Recipe) -> None:
    optimizer = optimizer_of(model, recipe)
    began, mean = time.monotonic(), 0.0
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, recipe)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(model, *next(feed))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        mean += (loss.item() - mean) / min(step + 1, 30)
        if (step + 1) % 100 == 0:
            print(f"{step + 1:5d}  loss {mean:.3f}  {time.monotonic() - began:.0f} s", flush=True)


def save(model: Any, folder: Path) -> None:
    """A checkpoint as the Hub has them; weights in float32."""
    model.save_pretrained(folder)
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = {
        "tokenizer_class": "LlamaTokenizer",
        "add_bos_token": True,
        "add_eos_token": False,
        "legacy": True,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
        **special,
    }
    # The likeliest token always: every answer is one that the text holds.
    generation = {"bos_token_id": BOS, "eos_token_id": EOS, "temperature": 0.0}
    for name, content in (
        ("special_tokens_map", special),
        ("tokenizer_config", tokenizer),
        ("generation_config", generation),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
    (folder / "README.md").write_text(CARD)


CARD = """---
license: apache-2.0
language: [ko, en]
pipeline_tag: text-generation
library_name: transformers
model_name: komt-local demo
---
# komt-local demo

A very small model that only knows how komt-local is used. See convert/demo in the project.
"""


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    chosen = options()
    corpus = load()
    if broken := problems(corpus):
        raise SystemExit("\n".join(broken))
    torch.set_num_threads(chosen.threads)
    recipe = Recipe(steps=chosen.steps, seed=chosen.seed)
    sentencepiece.set_random_generator_seed(recipe.seed)
    chosen.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch:
        pieces = train_tokenizer(corpus, recipe, Path(scratch))
        (chosen.out / "tokenizer.model").write_bytes(pieces.serialized_model_proto())
    model = new_model(recipe)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")
    rng = Random(recipe.seed)
    train(model, batches(samples(corpus, pieces, recipe, rng), recipe, rng), recipe)
    save(model, chosen.out)


if __name__ == "__main__":
    main()
