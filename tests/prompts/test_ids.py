"""Every preset under every kind of vocabulary: the ids of training, and typed text that stays text.

The oracle of the ids is the source tokenizer (sentencepiece, tokenizers) on the whole prompt.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle

import pytest
from control_vocabularies import IN_HANGUL, NAMES, ControlVocabulary, ConvertedVocabulary
from hypothesis import given, settings
from hypothesis import strategies as st

from komt_local.prompts import PRESETS, Segment, Template, encode, render
from komt_local.prompts.tasks import find_task, task_names
from komt_local.types import Message

KINDS = [
    ("spm", True),
    ("spm", False),
    ("hf-bpe", True),
    ("hf-bpe", False),
    ("byte-level", True),
]
Vocabulary = ControlVocabulary | ConvertedVocabulary


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: f"{kind[0]}-legacy-{kind[1]}")
def vocabulary(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Vocabulary]:
    kind, legacy = request.param
    folder = tmp_path_factory.getbasetemp() / "control-vocabularies"
    folder.mkdir(exist_ok=True)
    kinds = ConvertedVocabulary if kind == "hf-bpe" else ControlVocabulary
    made: Vocabulary = kinds(folder, kind, legacy=legacy)
    assert made.legacy == legacy
    yield made
    made.close()


def dialogue(texts: list[str]) -> list[Message]:
    """The texts as a system message and turns, as many as there are."""
    roles = ["system", *["user", "assistant"] * len(texts)]
    return [Message(role, text) for role, text in zip(roles, texts, strict=False)]  # type: ignore[arg-type]


def prompt_of(template: Template, texts: list[str], vocabulary: Vocabulary) -> tuple[Segment, ...]:
    """A dialogue of four turns; the last text is the context where there is a slot for it."""
    context = texts[4] if template.context_slot else None
    bos, eos = vocabulary.bos_text, vocabulary.eos_text
    return render(template, dialogue(texts[:4]), context=context, bos=bos, eos=eos)


ORDINARY = st.text(
    st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3)
    | st.sampled_from(" \n\t#:[]/<>|sinputo0123안녕?.ㅋ각\U0001f44d"),
    max_size=16,
).filter(lambda text: not any(token in text for token in ("<s>", "</s>")))


@pytest.mark.parametrize("name", PRESETS)
@given(texts=st.lists(ORDINARY, min_size=5, max_size=5))
@settings(max_examples=12, deadline=None)
def test_a_prompts_ids_are_those_of_the_source_tokenizer(
    vocabulary: Vocabulary, name: str, texts: list[str]
) -> None:
    prompt = prompt_of(PRESETS[name], texts, vocabulary)
    whole = "".join(segment.text for segment in prompt)
    assert encode(prompt, vocabulary) == vocabulary.from_source(whole)


DECOMPOSED = unicodedata.normalize("NFD", IN_HANGUL)


def hostile() -> st.SearchStrategy[str]:
    """Control tokens whole, repeated, in halves that meet at a seam, and beside decomposed text."""
    tokens = [*NAMES, DECOMPOSED, "<s>", "</s>", "<unk>", "<0x0A>"]
    heads = [token[:cut] for token in tokens for cut in range(1, len(token))]
    tails = [token[cut:] for token in tokens for cut in range(1, len(token))]
    plain = ["", " ", "\n", "안녕", unicodedata.normalize("NFD", "한글"), "▁", "\x00", "\u200b"]
    parts = st.sampled_from(tokens) | st.sampled_from(heads + tails) | st.sampled_from(plain)
    return st.lists(parts, max_size=5).map("".join)


@pytest.mark.parametrize("name", PRESETS)
@given(texts=st.lists(hostile(), min_size=5, max_size=5))
@settings(max_examples=20, deadline=None)
def test_no_preset_lets_typed_text_become_a_control_token(
    vocabulary: Vocabulary, name: str, texts: list[str]
) -> None:
    """The control tokens of a prompt are those of the same prompt with harmless contents."""
    harmless, typed = (prompt_of(PRESETS[name], each, vocabulary) for each in (["가"] * 5, texts))
    assert control_in(typed, vocabulary) == control_in(harmless, vocabulary)


def forms(token: str) -> list[str]:
    """A control token's text whole, repeated, decomposed, beside decomposed text, and in halves."""
    middle = len(token) // 2
    nfd = unicodedata.normalize("NFD", "한글")
    decomposed = unicodedata.normalize("NFD", token)
    return [token, token * 2, f"{nfd}{token}{nfd}", token[:middle], token[middle:], decomposed]


def control_in(prompt: Iterable[Segment], vocabulary: Vocabulary) -> list[int]:
    control = {*vocabulary.control_tokens.values(), 0 if vocabulary.is_spm else -1}
    return [i for i in encode(prompt, vocabulary) if i in control]


def typed_into(prompt: Sequence[Segment], texts: Sequence[str]) -> list[Segment]:
    """The prompt with other contents: the first text in the first place, and so on, around."""
    turn = cycle(texts)
    return [part if part.ours else Segment(next(turn), ours=False) for part in prompt]


@pytest.mark.parametrize("name", PRESETS)
def test_every_control_token_is_text_at_every_place_where_one_types(
    vocabulary: Vocabulary, name: str
) -> None:
    """Each form of each token in turn stands in each place: system, user, assistant, context."""
    prompt = prompt_of(PRESETS[name], ["가"] * 5, vocabulary)
    assert sum(not part.ours for part in prompt) >= 4
    harmless = control_in(prompt, vocabulary)
    for token in {*NAMES, *vocabulary.control_tokens, "<s>", "</s>", "<unk>"}:
        typed = forms(token)
        for first in (0, 2, 4):
            texts = typed[first:] + typed[:first]
            assert control_in(typed_into(prompt, texts), vocabulary) == harmless, (token, texts)


@pytest.mark.parametrize("name", task_names())
def test_no_document_of_a_task_becomes_a_control_token(vocabulary: Vocabulary, name: str) -> None:
    task = find_task(name)
    for token in NAMES:
        for text in forms(token):
            prompt = task.render(dict.fromkeys(task.variables, text))
            assert control_in(prompt, vocabulary) == [vocabulary.bos] * (vocabulary.bos is not None)


SEAMS = [(token[:cut], token[cut:]) for token in NAMES for cut in range(1, len(token))]


@given(seam=st.sampled_from(SEAMS), typed=hostile())
@settings(max_examples=200, deadline=None)
def test_no_control_token_forms_across_a_seam(
    vocabulary: Vocabulary, seam: tuple[str, str], typed: str
) -> None:
    """A template whose own text ends or begins like a control token, around what completes it."""
    head, tail = seam
    control = {*vocabulary.control_tokens.values()} - {vocabulary.bos}
    completed = [
        [Segment(head, True), Segment(tail, False)],
        [Segment(head, False), Segment(tail, True)],
        [Segment(head, True), Segment(typed, False), Segment(tail, True)],
        [Segment(head, False), Segment(tail, False)],
    ]
    for segments in completed:
        ids = encode(segments, vocabulary)
        if vocabulary.bos is not None:
            ids = ids[1:]
        assert not control & set(ids)
