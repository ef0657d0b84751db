"""The Python interface, from messages to text, on the real llama.cpp."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runtime_models import token_ids, write_chain, write_random

from komt_local import Model, hardware
from komt_local.bench import measure
from komt_local.errors import (
    Closed,
    ContextOverflow,
    KomtError,
    ModelNotFound,
    OutOfMemory,
    TemplateError,
    UsageError,
)
from komt_local.types import Message

TURNS = (
    "{% for m in messages %}{{ '[' + m['role'] + '] ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant] ' }}{% endif %}"
)


@pytest.fixture(scope="module")
def chain(chain_gguf: Path) -> Iterator[Model]:
    """Says 한글 world after `Hello`, and `one two three` for ever after `one`."""
    with Model.load(chain_gguf, n_ctx=1 << 16, template="komt") as model:
        yield model


@pytest.fixture(scope="module")
def model(random_gguf: Path) -> Iterator[Model]:
    with Model.load(random_gguf, n_ctx=256, n_slots=2, template="komt") as model:
        yield model


def test_a_syllable_in_three_tokens_arrives_whole(chain: Model) -> None:
    events = list(chain.stream_completion("Hello", temperature=0))
    assert [event.text for event in events] == ["한", "글", " world", ""]
    last = events[-1]
    assert last.finish_reason == "stop"
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (2, 8)
    assert [event.usage.completion_tokens for event in events] == [3, 6, 7, 8]
    assert all(event.finish_reason is None for event in events[:-1])


def test_half_a_syllable_at_the_end_is_shown_once(chain: Model) -> None:
    assert chain.complete("stop", temperature=0).text == "\ufffd"


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        ("글", "한"),
        ("글 w", "한"),
        (["nowhere", " wor"], "한글"),
        ("한글 world!", "한글 world"),
        ("한", ""),
    ],
)
def test_stop_strings_never_leak(chain: Model, stop: Any, text: str) -> None:
    answer = chain.complete("Hello", temperature=0, stop=stop)
    assert (answer.text, answer.finish_reason) == (text, "stop")


def test_an_endless_answer_ends_at_its_stop_and_frees_the_slot(chain: Model) -> None:
    answer = chain.complete("one", temperature=0, stop="three one")
    assert answer.text == " two "
    assert answer.usage.completion_tokens == 3
    assert chain.complete("Hello", temperature=0).text == "한글 world"


def test_closing_a_stream_frees_the_slot(chain: Model) -> None:
    events = chain.stream_completion("one", temperature=0)
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert chain.complete("Hello", temperature=0).text == "한글 world"


def test_an_answer_to_a_template_has_no_space_in_front(tmp_path: Path) -> None:
    template = {"tokenizer.chat_template": "{{ bos_token }}{{ messages[0]['content'] }}"}
    path = write_chain(tmp_path / "model.gguf", [token_ids("▁one", "▁two", "▁three")], **template)
    with Model.load(path) as model:
        assert model.chat("one", temperature=0).text == "two three"
        assert model.complete("one", temperature=0).text == " two three"


def test_a_stream_and_its_fold_say_the_same(model: Model) -> None:
    options: dict[str, Any] = {"max_tokens": 20, "seed": 4, "temperature": 3.0}
    answer = model.chat("안녕", **options)
    events = list(model.stream("안녕", **options))
    assert "".join(event.text for event in events) == answer.text
    assert events[-1].finish_reason == answer.finish_reason == "length"
    assert answer.usage.completion_tokens == 20


def test_seeds_repeat_an_answer(model: Model) -> None:
    def said(seed: int | None) -> str:
        return model.chat("안녕", max_tokens=12, temperature=5.0, top_k=0, seed=seed).text

    assert said(1) == said(1) != said(2)
    assert said(None) != said(None)


def test_every_form_of_messages_is_the_same_prompt(model: Model) -> None:
    expected = model.prompt_tokens("안녕")
    assert expected[0] == 1
    assert model.prompt_tokens([Message("user", "안녕")]) == expected
    assert model.prompt_tokens([{"role": "user", "content": "안녕"}]) == expected
    assert "".join(part.text for part in model.render("안녕")).startswith("### instruction: 안녕")


def test_what_a_user_types_is_never_a_control_token(model: Model) -> None:
    typed = "</s><s>안녕</s>"
    assert 2 not in model.prompt_tokens(typed)
    assert model.prompt_tokens(typed).count(1) == 1
    assert 2 in model.tokenize(typed, special=True) and 2 not in model.tokenize(typed)


def test_tokens_and_text_there_and_back(model: Model) -> None:
    text = "안녕하세요, 👍🏽 Hello"
    assert model.detokenize(model.tokenize(text)) == " " + text
    assert model.detokenize([1, 2]) == ""
    assert model.detokenize([1, 2], special=True) == "<s></s>"


def test_raw_completion_has_one_bos(model: Model) -> None:
    for text in ("fox", "<s>fox"):
        usage = model.complete(text, parse_special=True, max_tokens=1).usage
        assert usage.prompt_tokens == 1 + len(model.tokenize("fox"))
    usage = model.complete("<s>fox", max_tokens=1).usage
    assert usage.prompt_tokens == 1 + len(model.tokenize("<s>fox"))


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"temperature": "hot"},
        {"top_p": 0},
        {"top_k": 1.5},
        {"repeat_penalty": 0},
        {"seed": -1},
        {"seed": 2**32},
        {"seed": 10**400},
        {"temperature": float("inf")},
        {"top_k": 2**31},
        {"max_tokens": 1.5},
        {"temprature": 1},
        {"max_tokens": 0},
        {"stop": ""},
        {"template": "no-such"},
        {"context": "nowhere to go"},
    ],
)
def test_bad_options_are_refused_before_anything_runs(model: Model, options: Any) -> None:
    with pytest.raises(UsageError) as error:
        model.stream("안녕", **options)
    assert error.value.ko


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{"role": "boss", "content": "x"}],
        [{"role": "user"}],
        ["x"],
        [{"role": "user", "content": 1}],
    ],
)
def test_bad_messages_are_refused(model: Model, messages: Any) -> None:
    with pytest.raises(UsageError):
        model.chat(messages)


def test_a_prompt_that_is_too_long_is_refused_with_the_numbers(model: Model) -> None:
    with pytest.raises(ContextOverflow) as error:
        model.stream("가" * 300)
    assert error.value.n_ctx == 256 < error.value.prompt_tokens
    assert str(error.value.prompt_tokens) in str(error.value)


def test_an_answer_that_fills_the_context_says_so(chain_gguf: Path) -> None:
    with Model.load(chain_gguf, n_ctx=20) as model:
        answer = model.complete("one", temperature=0)
    assert answer.finish_reason == "context"
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens == 21


def test_a_closed_model_says_so(random_gguf: Path) -> None:
    model = Model.load(random_gguf, template="komt")
    events = model.stream("안녕", temperature=0)
    next(events)
    talk = model.conversation()
    model.close()
    model.close()
    assert list(events)[-1].finish_reason == "cancelled"
    uses = (
        lambda: model.chat("안녕"),
        lambda: model.stream("안녕"),
        lambda: model.complete("안녕"),
        lambda: model.tokenize("안녕"),
        lambda: talk.say("안녕"),
    )
    for use in uses:
        with pytest.raises(Closed):
            use()


def test_closing_while_others_listen(chain_gguf: Path) -> None:
    model = Model.load(chain_gguf, n_ctx=1 << 18, n_slots=2)
    started, reasons = threading.Barrier(3), []

    def listen() -> None:
        last = None
        for n, event in enumerate(model.stream_completion("one", temperature=0)):
            last = event
            if n == 0:
                started.wait()
        assert last
        reasons.append(last.finish_reason)

    listeners = [threading.Thread(target=listen) for _ in range(2)]
    for listener in listeners:
        listener.start()
    started.wait()
    model.close()
    for listener in listeners:
        listener.join()
    assert reasons == ["cancelled", "cancelled"]


def test_a_stream_keeps_its_model_alive(chain_gguf: Path) -> None:
    events = Model.load(chain_gguf).stream_completion("Hello", temperature=0)
    assert "".join(event.text for event in events) == "한글 world"


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path = tmp_path_factory.mktemp("talkative") / "model.gguf"
    write_random(path, **{"tokenizer.chat_template": TURNS})
    with Model.load(path, n_ctx=160) as model:
        yield model


def test_a_conversation_remembers(talkative: Model) -> None:
    talk = talkative.conversation(system="짧게", max_tokens=5, temperature=0)
    first = talk.say("하나")
    assert talk.messages == (
        Message("system", "짧게"),
        Message("user", "하나"),
        Message("assistant", first.text),
    )
    second = talk.say("둘")
    assert second.usage.prompt_tokens == len(
        talkative.prompt_tokens([*talk.messages[:3], Message("user", "둘")])
    )
    # All but the last token of the first prompt, a space, which now belongs to the answer.
    assert second.usage.cached_tokens >= first.usage.prompt_tokens - 1
    assert talk.undo() == "둘"
    assert talk.say("둘").text == second.text
    talk.clear()
    assert talk.messages == (Message("system", "짧게"),)
    assert talk.undo() is None


def test_an_answer_that_was_stopped_is_remembered_as_far_as_it_came(talkative: Model) -> None:
    talk = talkative.conversation(temperature=0)
    events = talk.stream("하나")
    text = next(events).text
    events.close()  # type: ignore[attr-defined]
    assert talk.messages == (Message("user", "하나"), Message("assistant", text))
    talk.clear()
    talk.stream("둘").close()  # type: ignore[attr-defined]
    assert talk.messages == ()


def test_a_full_conversation_drops_its_oldest_exchanges_and_says_so(talkative: Model) -> None:
    dropped: list[Message] = []
    talk = talkative.conversation(
        system="짧게", on_drop=dropped.extend, max_tokens=30, temperature=0
    )
    texts = [f"질문 {n}" for n in range(6)]
    for text in texts:
        answer = talk.say(text)
        assert answer.finish_reason in ("length", "stop")
    kept = [message.content for message in talk.messages if message.role == "user"]
    gone = [message.content for message in dropped if message.role == "user"]
    assert gone and [*gone, *kept] == texts
    assert talk.dropped == len(gone)
    assert talk.messages[0] == Message("system", "짧게")


def test_a_conversation_that_must_not_drop_refuses(talkative: Model) -> None:
    talk = talkative.conversation(on_overflow="refuse", max_tokens=30, temperature=0)
    with pytest.raises(ContextOverflow):
        for n in range(10):
            before = talk.messages
            talk.say(f"질문 {n}")
    assert talk.messages == before and talk.dropped == 0


def test_one_message_that_is_too_long_drops_nothing(talkative: Model) -> None:
    talk = talkative.conversation(max_tokens=5, temperature=0)
    talk.say("하나")
    with pytest.raises(ContextOverflow):
        talk.say("가" * 400)
    assert len(talk.messages) == 2 and talk.dropped == 0


def test_a_single_turn_template_gets_single_turns(model: Model) -> None:
    alone = model.prompt_tokens("둘")
    for history, is_alone in ((None, True), (True, False)):
        talk = model.conversation(history=history, max_tokens=3)
        talk.say("하나")
        answer = talk.say("둘")
        assert (answer.usage.prompt_tokens == len(alone)) == is_alone
        assert len(talk.messages) == 4


@pytest.mark.parametrize(
    "options",
    [
        {"n_ctx": 0},
        {"n_ctx": 512.5},
        {"threads": 0},
        {"n_slots": 0},
        {"n_slots": 1000},
        {"gpu_layers": -1},
        {"gpu_layers": "some"},
        {"deterministic": True, "n_slots": 2},
        {"template": "no-such"},
    ],
)
def test_bad_loading_options_are_refused(random_gguf: Path, options: Any) -> None:
    with pytest.raises(UsageError):
        Model.load(random_gguf, **options)


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        Model.load(tmp_path / "none.gguf")


def test_a_file_without_a_template_completes_but_does_not_chat(random_gguf: Path) -> None:
    with Model.load(random_gguf, n_ctx=256) as model:
        assert model.complete("fox", max_tokens=2).usage.completion_tokens == 2
        with pytest.raises(TemplateError):
            model.chat("fox")


def test_a_context_larger_than_memory_is_refused_with_the_numbers(random_gguf: Path) -> None:
    with pytest.raises(OutOfMemory, match="KV cache.* at most [0-9,]+ tokens"):
        Model.load(random_gguf, n_ctx=10**12)


def test_the_context_follows_training_and_memory(
    random_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Model.load(random_gguf) as model:
        assert (model.n_ctx, model.notes) == (2048, ())
    with Model.load(random_gguf, n_ctx=2100) as model:
        assert "2,048" in model.notes[0].en and "2,048" in model.notes[0].ko
    shape = hardware.Shape(n_layer=2, kv_row=64, n_embd=64, n_ff=128, n_vocab=32000)
    demand = hardware.Demand(n_outputs=32)
    enough = hardware.need(shape, model.size_bytes, 1024, demand).total
    monkeypatch.setattr(hardware, "available_memory", lambda: enough)
    with Model.load(random_gguf) as model:
        assert model.n_ctx == 1024
        assert "1,024" in model.notes[0].en and "2,048" in model.notes[0].ko
    monkeypatch.setattr(hardware, "available_memory", lambda: 10_000_000)
    with pytest.raises(OutOfMemory) as error:
        Model.load(random_gguf)
    assert isinstance(error.value, KomtError) and error.value.ko


def test_facts(model: Model, random_gguf: Path) -> None:
    assert (model.path, model.name) == (random_gguf, "tiny")
    assert model.n_parameters > 4_000_000 and model.size_bytes > 4 * 4_000_000
    assert model.n_ctx_train == 2048
    assert model.metadata["general.architecture"] == "llama"


def test_bench_measures_prompt_and_generation(random_gguf: Path) -> None:
    result = measure(random_gguf, n_prompt=600, n_gen=8, threads=1, repetitions=2)
    assert result.prompt_tokens_per_second > 0 and result.generated_tokens_per_second > 0
    assert (result.n_prompt, result.n_gen, result.threads) == (600, 8, 1)
