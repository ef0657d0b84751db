"""Tokens that were said take the place of those that spell the same, and of no others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from komt_local.model.said import Recalled, Said, spell

PIECES = [b"a", b"b", b"ab", b" a", b" ", b"ba", b"", b"<c>"]
CONTROL, LOOKALIKE = 6, 7
TOKENS = st.lists(st.integers(0, 7), min_size=1, max_size=12)


def spelled(tokens: list[int]) -> str:
    return "".join(spell(token, PIECES[token]) for token in tokens)


def said(*answers: tuple[list[int], list[int]], n_kept: int = 8) -> Said:
    found = Said(lambda token: spell(token, PIECES[token]), n_kept)
    for prompt, answer in answers:
        found.keep(Recalled(prompt), answer)
    return found


@given(TOKENS, TOKENS, TOKENS)
def test_what_is_recalled_spells_the_same(
    prompt: list[int], answer: list[int], new: list[int]
) -> None:
    for tokens in (new, [*prompt, *new], [*prompt, *answer, *new]):
        recalled, unshown = said((prompt, answer)).recall(tokens, 100)
        texts = [spelled([token]) for token in recalled]
        for n in unshown:
            texts[n] = texts[n].removeprefix(" ")
        assert "".join(texts) == spelled(tokens)
    assert recalled == [*prompt, *answer, *new]


def test_an_answer_keeps_the_tokens_it_was_said_in() -> None:
    known = said(([6, 0], [0, 1, 0]))
    assert known.recall([6, 0, 2, 0, 6, 1], 100).tokens == [6, 0, 0, 1, 0, 6, 1]


def test_what_grows_together_at_the_end_of_an_answer_is_the_tokenizer_s() -> None:
    known = said(([6, 0], [0, 1, 0, 1]))
    assert known.recall([6, 0, 2, 0, 5, 6], 100).tokens == [6, 0, 0, 1, 0, 5, 6]


def test_prompts_are_the_tokenizer_s_own_to_cut() -> None:
    known = said(([6, 0, 1, 0], [0]))
    assert known.recall([6, 2, 1, 6], 100).tokens == [6, 2, 1, 6]


def test_a_space_that_was_not_shown_may_stand_in_the_template_or_not() -> None:
    prompt, answer = [6, 0], [4, 0, 1, 0]
    with_space, without = [6, 0, 3, 1, 0, 6], [6, 0, 2, 0, 6]
    known = said((prompt, answer))
    assert (
        known.recall(with_space, 100).tokens
        == known.recall(without, 100).tokens
        == [*prompt, *answer, 6]
    )
    assert known.recall(prompt, 100).tokens == prompt, "asked again, it begins anew"


def test_the_space_stays_unshown_in_the_turns_that_follow() -> None:
    known = said(([6, 0], [4, 0, 1, 0]))
    prompt = known.recall([6, 0, 2, 0, 6], 100)
    assert prompt.unshown == (2,)
    known.keep(prompt, [4, 1, 0, 1])
    second = known.recall([6, 0, 2, 0, 6, 1, 2, 6], 100)
    assert second == ([6, 0, 4, 0, 1, 0, 6, 4, 1, 0, 1, 6], (2, 7))


def test_typed_text_is_never_a_control_token() -> None:
    known = said(([0], [CONTROL, 0, 1]))
    assert known.recall([0, LOOKALIKE, 2], 100).tokens == [0, LOOKALIKE, 2]
    assert known.recall([0, CONTROL, 2], 100).tokens == [0, CONTROL, 0, 1]


def test_the_answer_that_is_most_alike_counts_and_old_ones_go() -> None:
    one, other = ([6], [0, 1, 0, 1]), ([6], [0, 1, 1])
    assert said(other, one).recall([6, 2, 2, 6], 100).tokens == [6, 0, 1, 0, 1, 6]
    assert said(one, other).recall([6, 2, 2, 6], 100).tokens == [6, 0, 1, 0, 1, 6]
    assert said(one, other, n_kept=1).recall([6, 2, 2, 6], 100).tokens == [6, 0, 1, 2, 6]


def test_what_would_be_too_long_is_left_alone() -> None:
    known = said(([6], [0, 1, 0, 1]))
    assert known.recall([6, 2, 2, 6], 5).tokens == [6, 2, 2, 6]
    assert known.recall([6, 2, 2, 6], 6).tokens == [6, 0, 1, 0, 1, 6]
