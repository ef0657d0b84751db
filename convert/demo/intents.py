"""The text that the demo model learns: intents read from TOML, and the rules that they must keep.

What decides whether a new question is understood is a key word that the model has seen in more
than one training question, so the rules are checked here and not left to the eye.
"""

from __future__ import annotations

import sys
import tomllib
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEXT = Path(__file__).resolve().parent / "text"
OTHER = "other"
NEAR_COPY = 0.8


@dataclass(frozen=True)
class Intent:
    """One answer and the questions that lead to it, in one language."""

    id: str
    english: bool
    words: tuple[str, ...]
    answer: str
    questions: tuple[str, ...]
    held_out: tuple[str, ...]
    held_out_free: tuple[str, ...]


@dataclass(frozen=True)
class Other:
    """Everything that the model does not know, and nouns to make more of it."""

    answer: str
    questions: tuple[str, ...]
    held_out: tuple[str, ...]
    nouns: tuple[str, ...]
    english_nouns: tuple[str, ...]


@dataclass(frozen=True)
class Corpus:
    """All intents, and what lies outside them."""

    intents: tuple[Intent, ...]
    other: Other

    @property
    def answers(self) -> tuple[str, ...]:
        return (*(intent.answer for intent in self.intents), self.other.answer)

    @property
    def key_words(self) -> tuple[str, ...]:
        return tuple(word for intent in self.intents for word in intent.words)


def load(folder: Path = TEXT) -> Corpus:
    """Reads every TOML file of the folder in the order of its name."""
    intents: list[Intent] = []
    other: Other | None = None
    for path in sorted(folder.glob("*.toml")):
        for name, table in tomllib.loads(path.read_text(encoding="utf-8")).items():
            if name == OTHER:
                other = _other(table)
                continue
            intents.append(_intent(name, table, english=False))
            if "en" in table:
                intents.append(_intent(name + ".en", table["en"], english=True))
    if other is None:
        raise ValueError(f"no [{OTHER}] table in {folder}")
    return Corpus(tuple(intents), other)


def has_word(question: str, words: tuple[str, ...]) -> bool:
    """Whether one of the key words stands in the question; a Korean particle may follow it."""
    folded = question.casefold()
    return any(word.casefold() in folded for word in words)


def problems(corpus: Corpus) -> list[str]:
    """What breaks a rule, one sentence each."""
    found = [line for intent in corpus.intents for line in _intent_problems(intent)]
    return found + _count_problems(corpus) + _overlap_problems(corpus)


def _lines(block: str) -> tuple[str, ...]:
    text = unicodedata.normalize("NFC", block)
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _intent(name: str, table: dict[str, Any], *, english: bool) -> Intent:
    words = tuple(word.strip() for word in table["words"].split(","))
    return Intent(
        id=name,
        english=english,
        words=words,
        answer=unicodedata.normalize("NFC", table["answer"]),
        questions=_lines(table["questions"]),
        held_out=_lines(table["held_out"]),
        held_out_free=_lines(table.get("held_out_free", "")),
    )


def _other(table: dict[str, Any]) -> Other:
    return Other(
        answer=unicodedata.normalize("NFC", table["answer"]),
        questions=_lines(table["questions"]),
        held_out=_lines(table["held_out"]),
        nouns=tuple(table["nouns"].split()),
        english_nouns=tuple(table["english_nouns"].split()),
    )


def _intent_problems(intent: Intent) -> list[str]:
    found = []
    folded = [question.casefold() for question in intent.questions]
    for word in intent.words:
        if sum(word.casefold() in question for question in folded) < 2:
            found.append(f"{intent.id}: {word!r} is in fewer than two training questions")
    if not 1 <= len(intent.words) <= 4 or (not intent.english and len(intent.words) < 2):
        found.append(f"{intent.id}: {len(intent.words)} key words")
    if len(set(intent.questions)) < 10:
        found.append(f"{intent.id}: only {len(set(intent.questions))} different questions")
    if len(intent.answer) > 200:
        found.append(f"{intent.id}: the answer has {len(intent.answer)} characters")
    return found + _held_out_problems(intent)


def _held_out_problems(intent: Intent) -> list[str]:
    found = []
    if len(intent.held_out) != 2 or len(intent.held_out_free) != (0 if intent.english else 2):
        found.append(f"{intent.id}: not two held-out questions of each kind")
    for question in intent.held_out:
        if not has_word(question, intent.words):
            found.append(f"{intent.id}: no key word in {question!r}")
    for question in intent.held_out_free:
        if has_word(question, intent.words):
            found.append(f"{intent.id}: a key word in {question!r}")
    return found


def _count_problems(corpus: Corpus) -> list[str]:
    found = []
    korean = sum(not intent.english for intent in corpus.intents)
    english = len(corpus.intents) - korean
    if korean < 85 or english * 5 < korean:
        found.append(f"{korean} intents in Korean, {english} in English")
    if len(corpus.other.held_out) != 40:
        found.append(f"{len(corpus.other.held_out)} held-out questions on other matters")
    if len(set(corpus.answers)) != len(corpus.answers):
        found.append("two intents share an answer")
    return found


def _overlap_problems(corpus: Corpus) -> list[str]:
    trained: dict[str, str] = {}
    found = []
    pairs = [(i.id, q) for i in corpus.intents for q in i.questions]
    for name, question in pairs + [(OTHER, q) for q in corpus.other.questions]:
        if trained.setdefault(_squeeze(question), name) != name:
            found.append(f"{question!r} is in {name} and in {trained[_squeeze(question)]}")
    grams = [(q, _bigrams(q)) for q in trained]
    for question in held_out_questions(corpus):
        mine = _bigrams(_squeeze(question))
        for other, theirs in grams:
            if 2 * len(mine & theirs) / max(1, len(mine) + len(theirs)) >= NEAR_COPY:
                found.append(f"held-out {question!r} is nearly the training question {other!r}")
    return found


def held_out_questions(corpus: Corpus) -> list[str]:
    """Every question that training must not see."""
    own = [q for i in corpus.intents for q in (*i.held_out, *i.held_out_free)]
    return own + list(corpus.other.held_out)


def _squeeze(question: str) -> str:
    return "".join(letter for letter in question.casefold() if letter.isalnum() or letter in "/#-")


def _bigrams(text: str) -> set[str]:
    return {text[i : i + 2] for i in range(len(text) - 1)}


def main() -> int:
    corpus = load()
    for line in problems(corpus):
        print(line)
    english = sum(intent.english for intent in corpus.intents)
    questions = sum(len(intent.questions) for intent in corpus.intents)
    print(
        f"{len(corpus.intents) - english} intents in Korean, {english} in English,"
        f" {questions} questions, {len(corpus.other.questions)} on other matters,"
        f" {len(held_out_questions(corpus))} held out"
    )
    return 1 if problems(corpus) else 0


if __name__ == "__main__":
    sys.exit(main())
