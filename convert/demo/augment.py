"""Makes new questions of those in the text: what people drop, add, misspell or put differently.

All chance comes from one random generator, so that a seed gives the same training again. Nothing
here reads a held-out question. Text is NFC throughout.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from string import ascii_lowercase

from intents import Corpus, Intent, Other, has_word

PHRASES: dict[str, tuple[str, ...]] = {
    name: tuple(block.split("\n")[:-1])
    for name, block in tomllib.loads(
        Path(__file__).with_name("phrases.toml").read_text(encoding="utf-8")
    ).items()
}
OPENERS, CLOSERS, FRAMES = PHRASES["openers"], PHRASES["closers"], PHRASES["frames"]
ENGLISH_OPENERS, ENGLISH_FRAMES = PHRASES["english_openers"], PHRASES["english_frames"]
ENDINGS = tuple(tuple(line.split(" > ")) for line in PHRASES["endings"])
PARTICLE = re.compile(r"(은|는|이|가|을|를|도|만|에서|에|으로|로|와|과|랑|하고|의)$")
PARTICLES = (
    "은",
    "는",
    "이",
    "가",
    "을",
    "를",
    "도",
    "만",
    "에서",
    "에",
    "으로",
    "로",
    "랑",
    "의",
    "",
)
GAP = "{}"
COUNTERS = ("개", "월", "시", "년", "명", "번", "살", "일")
LEADS_NEAR = {
    0: 1,
    1: 0,
    3: 4,
    4: 3,
    7: 8,
    8: 7,
    9: 10,
    10: 9,
    12: 13,
    13: 12,
    2: 6,
    6: 2,
    11: 18,
    15: 0,
}
VOWELS_NEAR = {
    0: 4,
    4: 0,
    1: 5,
    5: 1,
    8: 13,
    13: 8,
    18: 20,
    20: 18,
    11: 10,
    10: 11,
    6: 4,
    2: 0,
    12: 8,
}
SYLLABLE, LEAD, VOWEL = 0xAC00, 21 * 28, 28


class Augmenter:
    """Endless new questions for a corpus."""

    def __init__(self, corpus: Corpus, rng: Random) -> None:
        self.rng, self.other = rng, corpus.other
        self.key_words = corpus.key_words
        self.frames = {english: frames(corpus, english) for english in (False, True)}

    def of_intent(self, intent: Intent) -> str:
        """A question that should get the intent's answer."""
        rng, fate = self.rng, self.rng.random()
        noise = Noise(rng, self.other, intent.english)
        if fate < 0.15:
            return rng.choice(intent.questions)
        if fate < 0.6:
            return _vary(noise, rng.choice(intent.questions), intent.words)
        word = rng.choice(intent.words)
        if fate < 0.82:
            return self._in_frame(noise, word)
        return _around(noise, word)

    def of_other(self) -> str:
        """A question on anything else: from the text, a word in a frame, or words at random."""
        rng, fate = self.rng, self.rng.random()
        if fate < 0.35:
            question = rng.choice(self.other.questions)
            if fate < 0.07:
                return question
            return _vary(Noise(rng, self.other, question.isascii()), question, ())
        noise = Noise(rng, self.other, rng.random() < 0.2)
        if fate < 0.45:
            return self._in_frame(noise, self._almost_a_key_word(noise))
        if fate < 0.7:
            return self._in_frame(noise, noise.noun())
        if fate < 0.85:
            return _around(noise, noise.noun())
        return _surface(
            rng, " ".join(noise.word() for _ in range(rng.randint(2, 6))), noise.english
        )

    def _almost_a_key_word(self, noise: Noise) -> str:
        """A key word with one letter changed to another: so near must not be enough."""
        rng, word = self.rng, self.rng.choice(self.key_words)
        at = rng.randrange(len(word))
        letters = ascii_lowercase if word[at].isascii() else _syllables(self.other)
        made = word[:at] + rng.choice(letters) + word[at + 1 :]
        if word.isascii() != noise.english or " " in word or has_word(made, self.key_words):
            return noise.noun()
        return made

    def _in_frame(self, noise: Noise, word: str) -> str:
        question = self.rng.choice(self.frames[noise.english]).replace(GAP, word)
        return _vary(noise, question, (word,))


def frames(corpus: Corpus, english: bool) -> tuple[str, ...]:
    """The intents' own questions with a gap for the key word.

    With another intent's key word in the gap they belong to that intent, with a foreign noun to
    none: the manner of asking must not decide. Those that hold a second key word are left out.
    """
    intents = [intent for intent in corpus.intents if intent.english == english]
    words = tuple(word for intent in intents for word in intent.words)
    made = []
    for intent in intents:
        for word in intent.words:
            bare = re.compile(re.escape(word), re.IGNORECASE)
            made += [bare.sub(GAP, question, count=1) for question in intent.questions]
    return tuple(line for line in made if GAP in line and line != GAP and not has_word(line, words))


@dataclass(frozen=True)
class Noise:
    """Words that belong to no intent.

    They stand around key words in some questions and alone in others, so that only the key words
    tell the two apart. Some are no words at all: an unknown word must not look like an intent.
    """

    rng: Random
    other: Other
    english: bool

    def noun(self) -> str:
        rng, nouns = self.rng, self.other.english_nouns if self.english else self.other.nouns
        if rng.random() < 0.75:
            return rng.choice(nouns)
        if self.english:
            one, two = rng.choice(nouns), rng.choice(nouns)
            return one[: len(one) // 2] + two[len(two) // 2 :]
        return "".join(rng.choice(_syllables(self.other)) for _ in range(rng.randint(2, 3)))

    def word(self) -> str:
        fate = self.rng.random()
        if fate < 0.08:
            return str(self.rng.randint(1, 3000)) + self.rng.choice(("", "", *COUNTERS))
        if fate < 0.5:
            return self.rng.choice(_words(self.other.questions, self.english))
        return self.noun() + ("" if self.english else self.rng.choice(PARTICLES))

    def opener(self) -> str:
        return self.rng.choice(ENGLISH_OPENERS if self.english else OPENERS)

    def around(self, text: str, most: int) -> str:
        """The text with up to `most` words before and after it."""
        for _ in range(self.rng.randint(0, most)):
            word = self.word()
            text = f"{word} {text}" if self.rng.random() < 0.6 else f"{text} {word}"
        return text


@cache
def _words(questions: tuple[str, ...], english: bool) -> tuple[str, ...]:
    return tuple(word for line in questions if line.isascii() == english for word in line.split())


@cache
def _syllables(other: Other) -> str:
    """Every syllable of the foreign text once, so that rare ones are met as well."""
    return "".join(
        sorted(
            {
                letter
                for line in (*other.nouns, *other.questions)
                for letter in line
                if letter.isalpha() and not letter.isascii()
            }
        )
    )


def _vary(noise: Noise, question: str, words: Sequence[str]) -> str:
    rng, parts = noise.rng, question.split()
    if len(parts) > 2 and rng.random() < 0.35:
        parts = _drop(rng, parts, words)
    if len(parts) > 1 and rng.random() < 0.15:
        rng.shuffle(parts)
    if not noise.english:
        parts = [_particle(rng, part) if rng.random() < 0.12 else part for part in parts]
        if rng.random() < 0.4:
            parts = _ending(rng, " ".join(parts)).split()
    if rng.random() < 0.3:
        parts = [noise.opener(), *parts]
    if not noise.english and rng.random() < 0.25:
        parts = [*parts, rng.choice(CLOSERS)]
    text = " ".join(parts)
    return _surface(rng, noise.around(text, 1) if rng.random() < 0.3 else text, noise.english)


def _around(noise: Noise, word: str) -> str:
    """The word in sentences that say nothing else about the matter."""
    rng = noise.rng
    if noise.english:
        text = rng.choice(ENGLISH_FRAMES).format(word)
    elif rng.random() < 0.4:
        text = _frame(rng, word)
    else:
        text = f"{word}{rng.choice(PARTICLES)}"
        text += f" {rng.choice(CLOSERS)}" if rng.random() < 0.5 else ""
    if rng.random() < 0.3:
        text = f"{noise.opener()} {text}"
    return _surface(rng, noise.around(text, 2), noise.english)


def _frame(rng: Random, word: str) -> str:
    code = ord(word[-1]) - SYLLABLE
    closed = 0 <= code < 11172 and code % VOWEL > 0
    forms = {"은": "은" if closed else "는", "이": "이" if closed else "가"}
    return rng.choice(FRAMES).format(word, 을="을" if closed else "를", **forms)


def _drop(rng: Random, parts: list[str], words: Sequence[str]) -> list[str]:
    """Leaves out one or two words that are no key words."""
    for _ in range(rng.choice((1, 1, 2))):
        free = [i for i, part in enumerate(parts) if not _is_key(part, words)]
        if len(parts) < 2 or not free:
            break
        del parts[rng.choice(free)]
    return parts


def _is_key(part: str, words: Sequence[str]) -> bool:
    folded = part.casefold()
    return any(piece in folded for word in words for piece in word.casefold().split())


def _particle(rng: Random, part: str) -> str:
    if len(part) < 3 or not PARTICLE.search(part):
        return part
    return PARTICLE.sub("", part) + rng.choice(PARTICLES)


def _ending(rng: Random, text: str) -> str:
    bare = text.rstrip("?!. ")
    fitting = [pair for pair in ENDINGS if bare.endswith(pair[0])]
    if not fitting:
        return text
    old, new = rng.choice(fitting)
    return bare.removesuffix(old) + new


def _surface(rng: Random, text: str, english: bool) -> str:
    """Spacing, misspelling, case and punctuation."""
    if rng.random() < 0.2:
        text = _spacing(rng, text, english)
    if rng.random() < 0.15:
        text = _typo(rng, text)
    if rng.random() < 0.15:
        text = rng.choice((text.lower(), text.lower(), text.capitalize(), text.upper()))
    bare = text.rstrip("?!. ")
    if rng.random() < 0.6 and bare:
        text = bare + rng.choice(("", "", "?", "?", "!", ".", "~", "..", "??"))
    return text.strip() or "?"


def _spacing(rng: Random, text: str, english: bool) -> str:
    spaces = [i for i, letter in enumerate(text) if letter == " "]
    if spaces and (english or rng.random() < 0.75):
        if not english and rng.random() < 0.15:
            return text.replace(" ", "")
        at = rng.choice(spaces)
        return text[:at] + text[at + 1 :]
    at = rng.randrange(1, max(2, len(text)))
    return text[:at] + " " + text[at:]


def _typo(rng: Random, text: str) -> str:
    """One slip: a letter lost, two swapped, or a Hangul jamo mistaken for its neighbour."""
    at = rng.randrange(len(text))
    if SYLLABLE <= ord(text[at]) <= 0xD7A3:
        return text[:at] + _misspelt(rng, text[at]) + text[at + 1 :]
    if rng.random() < 0.5 or at + 1 >= len(text):
        return text[:at] + text[at + 1 :] or text
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def _misspelt(rng: Random, syllable: str) -> str:
    code = ord(syllable) - SYLLABLE
    lead, vowel, tail = code // LEAD, code % LEAD // VOWEL, code % VOWEL
    which = rng.randrange(3)
    if which == 0:
        lead = LEADS_NEAR.get(lead, lead)
    elif which == 1:
        vowel = VOWELS_NEAR.get(vowel, vowel)
    else:
        tail = 0 if tail else rng.choice((0, 4, 8, 21))
    return chr(SYLLABLE + lead * LEAD + vowel * VOWEL + tail)
