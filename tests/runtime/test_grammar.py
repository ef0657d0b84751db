"""Grammars, penalties and likelihoods, on the real llama.cpp."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runtime_models import token_ids, write_chain

from komt_local import Model
from komt_local.errors import AnswerError, EngineError, UsageError


@pytest.fixture(scope="module")
def model(random_gguf: Path) -> Iterator[Model]:
    with Model.load(random_gguf, n_ctx=512, n_slots=2, template="komt") as model:
        yield model


@pytest.fixture(scope="module")
def chain(chain_gguf: Path) -> Iterator[Model]:
    with Model.load(chain_gguf, n_ctx=1 << 14, template="komt") as model:
        yield model


@pytest.mark.parametrize("options", [{"temperature": 0}, {"seed": 3, "temperature": 1.5}])
def test_an_answer_follows_its_grammar(model: Model, options: Any) -> None:
    grammar = 'root ::= ("가" | "나다") [0-9]{2} "끝"'
    answer = model.chat("안녕", grammar=grammar, **options)
    assert answer.finish_reason == "stop"
    assert answer.text[:-3] in ("가", "나다") and answer.text[-3:-1].isdigit()
    assert answer.text.endswith("끝")


def test_an_answer_is_the_json_that_was_asked_for(model: Model) -> None:
    schema = {
        "type": "object",
        "properties": {"이름": {"type": "string", "maxLength": 6}, "수": {"enum": [1, 2]}},
        "required": ["이름", "수"],
    }
    answer = model.chat("안녕", json_schema=schema, seed=1)
    assert set(json.loads(answer.text)) == {"이름", "수"}
    with pytest.raises(AnswerError):
        model.chat("안녕", json_schema=schema, seed=1, max_tokens=2)
    with pytest.raises(AnswerError, match="pattern"):
        model.chat("안녕", json_schema={"const": "가", "pattern": "나"}, seed=1)


def test_where_the_grammar_has_no_way_on_the_others_go_on(model: Model) -> None:
    impossible = 'root ::= "가" "\\x00"'
    other = model.stream("안녕", temperature=0, max_tokens=40)
    next(other)
    with pytest.raises(EngineError, match="grammar allows none"):
        model.chat("안녕", grammar=impossible)
    assert list(other)[-1].finish_reason in ("length", "stop")
    assert model.chat("안녕", max_tokens=3).usage.completion_tokens > 0


@pytest.mark.parametrize(
    "grammar",
    [
        "",
        "x ::= root",
        'root ::= "a',
        "root ::= nowhere",
        'root ::= root "a" | "b"',
        "root ::= " + "(" * 200 + '"a"' + ")" * 200,
        "root ::= r0\n" + "".join(f"r{i} ::= r{i + 1}\n" for i in range(6000)) + 'r6000 ::= "a"',
        'root ::= "' + "a" * 60000 + '"{2000}',
        "root ::= [a-z]{3000}",
        'root ::= "a"\x00',
        'root ::= "' + "a" * (1 << 17) + '"',
    ],
)
def test_a_bad_grammar_is_refused_before_anything_runs(model: Model, grammar: str) -> None:
    with pytest.raises(UsageError, match="The grammar cannot be used") as error:
        model.stream("안녕", grammar=grammar)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_grammar_and_a_schema_exclude_each_other(model: Model) -> None:
    with pytest.raises(UsageError):
        model.stream("안녕", grammar='root ::= "a"', json_schema={})
    with pytest.raises(UsageError):
        model.stream("안녕", grammar=3)


def test_likelihoods_of_each_token_and_its_alternatives(model: Model) -> None:
    answer = model.chat("안녕", temperature=0, max_tokens=8, logprobs=3)
    assert len(answer.tokens) == 8
    for told in answer.tokens:
        assert told.token == told.top[0].token and told.logprob == told.top[0].logprob
        assert [each.logprob for each in told.top] == sorted(
            (each.logprob for each in told.top), reverse=True
        )
        assert len(told.top) == 3 and told.logprob < 0
    assert answer.tokens[0].text == answer.tokens[0].piece.decode("utf-8", "replace")
    prompt, said = model.prompt_tokens("안녕"), [told.token for told in answer.tokens]
    again = model._engine.score([*prompt, *said], len(prompt))
    assert list(again) == []
    for told, score in zip(answer.tokens, again.scores, strict=True):
        assert math.isclose(told.logprob, score.log_likelihood, abs_tol=1e-3)
    assert model.chat("안녕", temperature=0, max_tokens=8).tokens == ()


def test_likelihoods_come_with_the_text_they_are_of(chain: Model) -> None:
    events = list(chain.stream_completion("Hello", temperature=0, logprobs=0))
    assert [(event.text, len(event.tokens)) for event in events] == [
        ("한", 3),
        ("글", 3),
        (" world", 1),
        ("", 1),
    ]
    told = [token for event in events for token in event.tokens]
    assert b"".join(token.piece for token in told) == "한글 world</s>".encode()
    stopped = chain.complete("Hello", temperature=0, logprobs=0, stop="글")
    assert (stopped.text, len(stopped.tokens)) == ("한", 6)


@pytest.mark.parametrize("logprobs", [-1, 101, 1.5, "2"])
def test_logprobs_is_a_small_number(model: Model, logprobs: Any) -> None:
    with pytest.raises(UsageError, match="logprobs"):
        model.stream("안녕", logprobs=logprobs)


def test_a_loop_is_stopped_and_named(chain: Model) -> None:
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 1000}
    looping = chain.complete("one", stop_loops=True, **options)
    assert looping.finish_reason == "loop"
    assert looping.usage.completion_tokens < 250
    assert chain.complete("one", **options).finish_reason == "length"


def test_answers_by_template_are_guarded(tmp_path: Path) -> None:
    one, two = token_ids("▁one", "▁two")
    template = {"tokenizer.chat_template": "{{ bos_token }}{{ messages[0]['content'] }}"}
    path = write_chain(tmp_path / "model.gguf", [[one, two, one]], **template)
    with Model.load(path) as model:
        answer = model.chat("one", temperature=0)
        assert (answer.finish_reason, answer.text[:11]) == ("loop", "two one two")
        free = model.chat("one", temperature=0, stop_loops=False, max_tokens=500)
        assert free.finish_reason == "length"


@pytest.mark.parametrize(
    "penalty",
    [
        {"frequency_penalty": 50},
        {"presence_penalty": 100},
        {"repeat_penalty": 100.0},
        {"dry_multiplier": 50},
    ],
)
def test_penalties_lead_out_of_a_loop(chain: Model, penalty: Any) -> None:
    """Which of them reach how far is llama.cpp's; here is held that they arrive there."""
    said = chain.complete("one", temperature=0, max_tokens=60, **penalty).text
    assert " two three one two three one two three" not in said


def test_dry_looks_back_on_the_prompt(chain: Model) -> None:
    once = chain.complete("one two three one", temperature=0, max_tokens=3, dry_multiplier=50)
    assert once.text != " two three one"
    assert chain.complete("one two three one", temperature=0, max_tokens=3).text == " two three one"
