"""The next turn of a dialogue reads what is new, and nothing else: counted, template by template.

The model says the same in every turn, in tokens that no tokenizer makes of that text: Hangul byte
by byte, words in pieces. What is told of an answer in the next prompt has other ids, then, unless
those that were said are kept.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from runtime_models import byte_ids, token_ids, write_chain

from komt_local import Model
from komt_local.prompts import PRESETS
from komt_local.sessions import Keeper
from komt_local.types import Usage

TURNS = (
    "{% for m in messages %}{{ '[' + m['role'] + '] ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)
ANSWER = "한글 Hello"
ENDS_MERGE = 2
"""The last tokens of an answer may grow together with what the template puts behind them."""
OPTIONS = {"temperature": 0, "max_tokens": 40}


def said_in_pieces(vocabulary: str) -> list[int]:
    if vocabulary == "llama-spm":
        return [*token_ids("▁"), *byte_ids("한글"), *token_ids("▁H", "el", "lo")]
    words = token_ids("Ġ", "ĠH", "e", "ll", "o", name=vocabulary)
    return [words[0], *byte_ids("한글", vocabulary), *words[1:]]


@pytest.fixture(scope="module", params=["llama-spm", "gpt-2"])
def parrot_gguf(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers every prompt alike, whichever token its template ends with."""
    answer = said_in_pieces(request.param)
    settings = {"name": request.param, "tokenizer.chat_template": TURNS}
    path = tmp_path_factory.mktemp("parrot") / "model.gguf"
    with Model.load(write_chain(path, [answer], **settings), n_ctx=64) as model:
        lasts = {model.prompt_tokens("?", template=name)[-1] for name in (None, *PRESETS)}
    starts = [[last, answer[0]] for last in sorted(lasts - set(answer))]
    return write_chain(path, [answer, *starts], **settings)


@pytest.fixture(scope="module")
def parrot(parrot_gguf: Path) -> Iterator[Model]:
    with Model.load(parrot_gguf, n_ctx=1024, threads=1) as model:
        yield model


def n_read(usage: Usage) -> int:
    return usage.prompt_tokens - usage.cached_tokens


def test_the_answer_is_not_what_a_tokenizer_would_make_of_it(parrot: Model) -> None:
    answer = parrot.chat("하나", **OPTIONS)
    assert answer.text == ANSWER and answer.finish_reason == "stop"
    canonical = parrot.tokenize(ANSWER)
    assert len(canonical) + 3 < answer.usage.completion_tokens


@pytest.mark.parametrize("template", [None, *PRESETS])
def test_a_turn_reads_what_is_new(parrot: Model, template: str | None) -> None:
    talk = parrot.conversation(history=True, template=template, **OPTIONS)
    talk.say("하나")

    def n_new(question: str) -> int:
        """Tokens of what the next prompt has more than the last one and its answer."""
        messages = [*talk.messages, {"role": "user", "content": question}]
        whole = "".join(s.text for s in parrot.render(messages, template=template))
        at = whole.rindex(ANSWER) + len(ANSWER)
        return len(parrot.tokenize("\n" + whole[at:], special=True))

    assert template != "llama-2" or talk.messages[-1].content == ANSWER, "no space of its own"
    for question in ("둘", "셋"):
        most = n_new(question) + ENDS_MERGE
        assert n_read(talk.say(question).usage) <= most
    assert talk.undo() == "셋"
    assert n_read(talk.say("셋").usage) == 1, "the same question again"
    assert talk.undo() and talk.undo()
    most = n_new("넷") + ENDS_MERGE
    assert n_read(talk.say("넷").usage) <= most
    assert most < talk._model.n_ctx // 4


def test_an_answer_that_was_stopped_goes_on_from_there(parrot: Model) -> None:
    talk = parrot.conversation(**OPTIONS)
    assert talk.say("하나", stop="el").text == "한글 H"
    assert talk.say("둘", max_tokens=5).text == "한\ufffd"
    new = len(parrot.tokenize("\n[user] 둘\n[assistant]"))
    assert n_read(talk.say("셋").usage) <= new + len("�".encode()) + 4


def test_deterministic_answers_know_of_no_others(parrot_gguf: Path) -> None:
    with Model.load(parrot_gguf, n_ctx=512, threads=1, deterministic=True) as model:
        talk = model.conversation(**OPTIONS)
        talk.say("하나")
        messages = [*talk.messages, {"role": "user", "content": "둘"}]
        said = talk.say("둘")
        assert said.usage.prompt_tokens == len(model.prompt_tokens(messages))
        assert said.usage.cached_tokens == 0


def test_requests_with_one_system_text_read_it_once(parrot_gguf: Path) -> None:
    system = "너는 나무꾼과 선녀 이야기를 잘 아는 도우미야. 짧게 답해 줘. " * 8
    questions = [f"{n}번 질문" for n in range(12)]

    def ask(question: str) -> list[dict[str, str]]:
        return [{"role": "system", "content": system}, {"role": "user", "content": question}]

    with Model.load(parrot_gguf, n_ctx=1024, n_slots=4, threads=1) as model:
        with ThreadPoolExecutor(len(questions)) as pool:  # more of them at once than slots
            answers = list(pool.map(lambda q: model.chat(ask(q), **OPTIONS), questions))
        own = max(len(model.tokenize(f"\n[user] {q}\n[assistant]")) for q in questions)
        wholes = [len(model.prompt_tokens(ask(question))) for question in questions]
    *others, first = sorted(n_read(answer.usage) for answer in answers)
    assert first in wholes and first > 10 * own
    assert others[-1] <= own


SECOND = """
import json, sys
from komt_local import Model
from komt_local.sessions import Keeper

with Model.load(sys.argv[1], n_ctx=512, threads=1) as model:
    keeper = Keeper(model, model.conversation(temperature=0, max_tokens=40), print)
    assert keeper.open("x")
    usages = []
    for text in ("셋", "넷"):
        usage = list(keeper.stream(text))[-1].usage
        usages.append(usage.prompt_tokens - usage.cached_tokens)
    assert keeper.undo() and keeper.undo() and keeper.undo()
    usage = list(keeper.stream("다섯"))[-1].usage
    usages.append(usage.prompt_tokens - usage.cached_tokens)
    keeper.remember()
print(json.dumps(usages))
"""


def test_a_saved_session_goes_on_in_another_process(parrot_gguf: Path) -> None:
    with Model.load(parrot_gguf, n_ctx=512, threads=1) as model:
        keeper = Keeper(model, model.conversation(**OPTIONS), print)
        keeper.open("x")
        for text in ("하나", "둘"):
            assert "".join(event.text for event in keeper.stream(text)) == ANSWER
        keeper.remember()
        new = [len(model.tokenize(f"\n[user] {t}\n[assistant]")) for t in ("셋", "넷", "다섯")]
    for _ in range(2):  # the second time from what the first one left
        done = subprocess.run(
            [sys.executable, "-c", SECOND, str(parrot_gguf)],
            capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        read = json.loads(done.stdout)
        assert all(n <= most + ENDS_MERGE for n, most in zip(read, new, strict=True)), done.stdout
