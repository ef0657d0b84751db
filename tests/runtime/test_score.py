"""How likely a text is after another: against llama.cpp's own logits."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from komt_local import Model
from komt_local.errors import Closed, ContextOverflow
from komt_local.llama import Context, NativeModel, Span

TEXT, GOES_ON = "The quick brown fox", " jumps over the lazy dog. 옛날 옛적에 나무꾼이"


@pytest.fixture(scope="module")
def model(random_gguf: Path) -> Iterator[Model]:
    with Model.load(random_gguf, n_ctx=256, n_slots=2, template="komt") as model:
        yield model


def expected(native: NativeModel, tokens: list[int], n_given: int) -> list[float]:
    """Token by token, one logit vector at a time, in 64 bits."""
    found = []
    with Context(native, n_ctx=256) as context:
        for at, target in enumerate(tokens[1:], 1):
            assert context.decode([Span(0, array("i", tokens), at - 1, at)]) == 0
            logits = context.logits(0).astype(np.float64)
            if at >= n_given:
                found.append(logits[target] - np.logaddexp.reduce(logits))
    return found


def test_a_continuation_is_scored_token_by_token(model: Model, random_model: NativeModel) -> None:
    given = [1, *model.tokenize(TEXT)]
    whole = [1, *model.tokenize(TEXT + GOES_ON)]
    assert whole[: len(given)] == given
    score = model.score_completion(TEXT, GOES_ON)
    assert [token.token for token in score.tokens] == whole[len(given) :]
    likelihoods = [token.log_likelihood for token in score.tokens]
    np.testing.assert_allclose(likelihoods, expected(random_model, whole, len(given)), atol=0.05)
    assert score.log_likelihood == pytest.approx(sum(likelihoods))
    assert not score.is_likeliest


def test_a_long_text_is_scored_in_parts_and_again_from_memory(model: Model) -> None:
    text = GOES_ON * 5
    scores = [model.score_completion("", text) for _ in range(2)]
    assert len(scores[0].tokens) == len(model.tokenize(text)) > 100
    for first, second in zip(*(score.tokens for score in scores), strict=True):
        assert first.log_likelihood == pytest.approx(second.log_likelihood, abs=0.05)


def test_what_greedy_decoding_says_is_the_likeliest(model: Model, chain_gguf: Path) -> None:
    with Model.load(chain_gguf, n_ctx=256, threads=1) as chain:
        answer = chain.complete("one", temperature=0, max_tokens=1)
        assert answer.text == " two"
        assert chain.score_completion("one", answer.text).tokens[0].is_likeliest
        assert not chain.score_completion("one", " stop").tokens[0].is_likeliest
    assert model.score_completion(TEXT, "").tokens == ()


def test_an_answer_is_scored_where_the_template_has_it(model: Model) -> None:
    score = model.score("안녕?", "반가워요")
    assert [token.token for token in score.tokens]
    worse = model.score("안녕?", "반가워요 반가워요")
    assert worse.log_likelihood < score.log_likelihood


def test_scoring_and_answering_at_once(model: Model) -> None:
    alone = model.complete(TEXT, temperature=0, max_tokens=30).text
    stream = model.stream_completion(TEXT, temperature=0, max_tokens=30)
    texts = [next(stream).text]
    score = model.score_completion(TEXT, GOES_ON)
    texts += [event.text for event in stream]
    assert "".join(texts) == alone
    likelihoods = [token.log_likelihood for token in score.tokens]
    again = [token.log_likelihood for token in model.score_completion(TEXT, GOES_ON).tokens]
    np.testing.assert_allclose(likelihoods, again, atol=0.05)


def test_what_does_not_fit_or_is_closed_says_so(random_gguf: Path) -> None:
    with Model.load(random_gguf, n_ctx=32) as model:
        with pytest.raises(ContextOverflow):
            model.score_completion(TEXT, GOES_ON * 5)
    with pytest.raises(Closed):
        model.score_completion(TEXT, GOES_ON)
