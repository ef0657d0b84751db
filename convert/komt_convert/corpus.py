"""The texts that every conversion tokenizes twice, with the source tokenizer and with llama.cpp.

More than 2,000 ordinary lines: Korean first of all (sentences, every syllable, nouns with
particles, verbs with endings, counts, decomposed syllables, letters), English, both mixed, numbers,
emoji, runs of whitespace, code, and texts that look like control tokens. Long parts are generated.
Lines that have a model's own control tokens in them are made by `mixed`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from itertools import cycle, pairwise, product

KOREAN = r"""
안녕하세요? 오늘은 날씨가 참 좋네요.
인삼은 어떤 효과가 있는가요? ##output:
대한민국의 수도는 서울이며, 인구는 약 940만 명이다.
세종대왕은 1443년에 훈민정음을 창제하고 1446년에 반포하였다.
나는 어제 친구와 함께 영화를 보러 갔다가 비를 쫄딱 맞았다.
그 사람은 웃으면서 "괜찮아요, 다음에 또 봐요."라고 말했다.
한국어 언어 모델을 내 컴퓨터에서 인터넷 없이 실행하고 싶어요.
양자화란 모델의 가중치를 더 적은 비트로 나타내는 방법입니다.
밥을 먹었는데도 배가 고파서 떡볶이랑 순대를 시켜 먹었어ㅋㅋㅋ
아니 진짜 왜 그러는 거야ㅠㅠ 어이가 없네... ㅇㅇ ㄴㄴ ㄱㄱ
가는 말이 고와야 오는 말이 곱다. 낮말은 새가 듣고 밤말은 쥐가 듣는다.
국회는 법률이 정하는 바에 따라 국정을 감사하거나 특정한 국정사안을 조사할 수 있다.
모든 국민은 법 앞에 평등하다. 누구든지 성별·종교 또는 사회적 신분에 의하여 차별받지 아니한다.
이 약은 하루 세 번, 식후 30분에 한 알씩 드시고 2~3일 뒤에 다시 오세요.
지하철 2호선 강남역 11번 출구로 나와서 300m쯤 직진하시면 됩니다.
올해 3분기 영업이익은 전년 동기 대비 12.7% 늘어난 1조 2,345억 원을 기록했다.
뜨거운 국물에 밥을 말아 깍두기를 얹어 먹으면 그렇게 맛있을 수가 없다.
죽는 날까지 하늘을 우러러 한 점 부끄럼이 없기를, 잎새에 이는 바람에도 나는 괴로워했다.
띄어쓰기를하지않고이렇게길게쓰면토크나이저가어떻게나누는지궁금합니다
할머니께서 손주들에게 옛날이야기를 들려주시다가 스르르 잠이 드셨다.
왜 웬 왠지 웬만하면 뵙다 봬요 됐다 되었다 않다 안 하다 낫다 낳다 났다
쉣 뷁 쌰 똠 펲 햏햏 꽥꽥 쾅쾅 뿅 힣힣 갉아먹다 넓디넓은 읊조리다 핥다 훑다 값어치 몫
서울특별시 종로구 세종대로 175 (세종로) 03172, 전화 02-120
『토지』는 박경리의 대하소설이고, 「서시」는 윤동주의 시이다. 《난장이가 쏘아올린 작은 공》
文化와 漢字를 섞어 쓴 글: 大韓民國은 民主共和國이다. 北韓, 日本, 中國, 美國.
東京に行ったことがありますか。カタカナとひらがな。你好，世界！谢谢。
"""

ENGLISH = r"""
The quick brown fox jumps over the lazy dog.
Hello, world! How are you today? I'm fine, thanks; and you?
It's what they'd said: we've seen it, you'll see it, she's sure they're right.
IT'S ALL CAPS AND THEY'RE LOUD, DON'T YOU THINK?
A large language model predicts the next token, given all tokens before it.
Copyright (c) 2026, all rights reserved. Version 1.2.3-rc4+build.567
"To be, or not to be" -- that is the question... isn't it?!
Supercalifragilisticexpialidocious antidisestablishmentarianism
naïve café résumé Zürich Ærøskøbing São Paulo señor Łódź
hello HELLO Hello hELLO camelCase PascalCase snake_case kebab-case SCREAMING_CASE
Привет, как дела? Γειά σου Κόσμε. Çok güzel. Žluťoučký kůň.
See https://example.com/path?query=1&lang=ko#top or write to someone@example.org.
"""

MIXED = r"""
GPU가 없는 laptop에서도 7B model을 Q4_K_M으로 돌릴 수 있나요?
Python 3.11에서 pip install komt-local을 실행했더니 error가 났어요.
LLaMA-2의 context length는 4096 tokens입니다(Mistral은 32K).
iPhone15를 샀는데 USB-C케이블이 없어서 Amazon에서 $9.99에 주문함.
AI(인공지능, Artificial Intelligence)와 ML(기계 학습)의 차이는?
### instruction: 한국의 수도는?\n\n### Response:
[INST] <<SYS>>\n너는 친절한 도우미야.\n<</SYS>>\n\n안녕? [/INST]
질문: What is 김치?\n답변: 김치는 fermented cabbage다.
e메일, K-pop, B급 영화, 5G통신, 4차산업혁명, A/S센터, R&D예산, T자형
"""

NUMBERS = r"""
0 1 2 3 10 100 1000 10000 100000 1234567890
3.141592653589793 2.71828 -40 +82 1e-5 6.02e23 0x1F 0b1010
2026년 11월 20일 오후 3시 45분 30초, 2026-11-20T15:45:30+09:00
010-1234-5678 / 02) 987-6543 / +82-10-1234-5678
₩1,234,567 $99.99 €50 £20 ¥3,000 50% 1/2 3×4=12 5÷2=2.5 7−3=4 √2≈1.414
333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3
제1조 ① 이 법은… 제2항 ⅰ) ⅱ) Ⅲ. ½ ¼ ² ³ ℃ ㎡ ㎏ ㈜ № ™
"""

EMOJI = r"""
😀😁😂🤣😊😍😭👍🙏🔥✨🎉💯
👨‍👩‍👧‍👦 👩🏽‍💻 🧑🏿‍🚀 🏳️‍🌈 ❤️‍🔥 😶‍🌫️ 👋🏻👋🏿
🇰🇷 🇺🇸 🇯🇵 1️⃣ 2️⃣ #️⃣ ☀️ ☂️ ✅ ❌ ⭐️ ♥
오늘 점심은 비빔밥🍚! 진짜 맛있었다😋👍 다음엔 냉면🍜 먹자~ ^^ ^_^ (^o^) ㅡㅡ;; T_T
🚀 (normal) 🦙🦙 emoji concatenated ✅🚀🦙
"""

CODE = r"""
def f(x: int) -> str:\n    return f"{x:>10}"\n\n\nprint(f(3))
for (int i = 0; i < n; ++i) {\n\tsum += a[i] * b[i];\n}
{"name": "komt", "size": [7, 13], "ok": true, "없음": null}
<div class="box" id='a'><p>안녕</p><br/></div> <!-- 주석 -->
SELECT * FROM users WHERE name LIKE '%김%' AND age >= 20;
```python\nimport os\nos.path.join("가", "나")\n```
| 이름 | 값 |\n|---|---:|\n| a | 1 |\n\n- 하나\n  - 둘\n    - 셋\n\n1. 첫째\n2. 둘째
$ ls -la ~/models/*.gguf | grep Q4_K_M && echo "done" || exit 1
#include <stdio.h>\n// 한글 주석\nint main(void) { return 0; }
\frac{a}{b} \sum_{i=1}^{n} x_i^2 C:\Users\홍길동\Documents
======== ------- ******** ........ !!!!!! ?????? ~~~~~~ ,,,,,, ;;;;;; :::::: ""
"""

LOOK_SPECIAL = r"""
<s> </s> <unk> <pad> <mask> <s>안녕</s> </s><s>[INST] 무시해 [/INST] a</s>b
<|endoftext|> <|im_start|>user\n안녕<|im_end|> <|eot_id|> <|begin_of_text|> <|end_of_text|>
<start_of_turn>model <end_of_turn> <bos> <eos> [BOS] [EOS] [UNK] [PAD0] [MASK]
<0x0A> <0xEA><0xB0><0x80> ▁ ▁▁ ▁the Ġthe Ċ Ġ
"""

OTHER_SCRIPTS = r"""
नमस्ते दुनिया, आप कैसे हैं? मेरा नाम १२३ है।
สวัสดีครับ ยินดีที่ได้รู้จัก ๑๒๓๔
السَّلامُ عَلَيْكُمْ وَرَحْمَةُ اللهِ ٢٠٢٦
שָׁלוֹם עוֹלָם
வணக்கம் உலகம் ௧௨௩
မင်္ဂလာပါ ကမ္ဘာလောက
Ça va? Où est l'hôtel? ǅ ǈ ŉ ʰ ͅ
1234567 12345678 0123456789012 １２３４ ⅣⅤ ²³¹ ½¾
don't DON'T Don'T 'tis 'S 's's
"""

NOUNS = "나 너 우리 사람 학교 서울 컴퓨터 모델 마음 하늘 물 책 값 꽃 부엌 김치 GPT 2026년".split()
PARTICLES = (
    "은 는 이 가 을 를 에 에서 에게 으로 로 와 과 의 도 만 까지 부터 처럼 보다 마다 조차 이라도 "
    "입니다 이에요 예요 인데 이라서 께서 한테 이란"
).split()
STEMS = "가 먹 보 하 읽 없 있 듣 돕 쓰 모르 예쁘 그렇 만들 뛰어넘".split()
ENDINGS = (
    "고 지만 는데 습니다 으면 면 았다 었다 겠어요 네요 니까 도록 자마자 을게요 던데 거든요 더라도 "
    "려고 시는 기까지"
).split()
COUNTED = (
    "명 개 마리 살 시간 분 초 원 년 월 일 km kg % 번째 °C ㎡ 층 호 GB 만 억 개월 회 배 등 점"
).split()
COUNTS = "1 2 3 5 7 10 12 19 21 100 365 1,000 2026 3.14 -5 두".split()
SPACES = (" ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u200b")
SYLLABLES_PER_LINE = 28


def corpus() -> Iterator[str]:
    """All texts, in a fixed order."""
    for block in (KOREAN, ENGLISH, MIXED, NUMBERS, EMOJI, CODE, LOOK_SPECIAL):
        yield from lines(block)
    yield from (noun + particle for noun, particle in product(NOUNS, PARTICLES))
    yield from (f"그래서 {stem}{ending}." for stem, ending in product(STEMS, ENDINGS))
    yield from (f"모두 {count}{unit}쯤" for count, unit in product(COUNTS, COUNTED))
    yield from syllables()
    yield from letters()
    yield from whitespace()
    yield from (unicodedata.normalize("NFD", line) for line in lines(KOREAN))
    yield "ㄱㄴㄷㄹㅁㅂㅅㅇㅈㅊㅋㅌㅍㅎ ㅏㅑㅓㅕㅗㅛㅜㅠㅡㅣ ㄲㄸㅃㅆㅉ ㄳㄵㄶㄺㄻㄼㅄ"
    yield "ᄀᆞᆫ ᄒᆞᆫ글 나랏말ᄊᆞ미"  # letters of the 15th century
    yield from (str(7**power) for power in range(60))
    yield " ".join(map(str, range(500)))
    yield " ".join(lines(KOREAN))
    yield KOREAN


def other_scripts() -> Iterator[str]:
    """Letters with marks and numbers, in which pre-tokenizers differ that agree about Korean.

    llama.cpp does not do all of them right, so they are for telling pre-tokenizers apart.
    """
    for line in lines(OTHER_SCRIPTS):
        yield from (line, unicodedata.normalize("NFD", line))


def lines(block: str) -> Iterator[str]:
    """The texts of a block; a line break or tab inside a text is written as in Python."""
    for line in block.strip().splitlines():
        yield line.replace(r"\n", "\n").replace(r"\t", "\t")


def syllables() -> Iterator[str]:
    """All 11,172 precomposed syllables: those of one leading consonant and vowel on a line."""
    for first in range(ord("가"), ord("힣") + 1, SYLLABLES_PER_LINE):
        yield "".join(map(chr, range(first, first + SYLLABLES_PER_LINE)))


def letters() -> Iterator[str]:
    """Jamo: those that are combined into syllables, and those that stand alone."""
    for first, last in (("\u1100", "\u11ff"), ("\u3131", "\u318e"), ("\uffa1", "\uffdc")):
        every = "".join(map(chr, range(ord(first), ord(last) + 1)))
        for i in range(0, len(every), SYLLABLES_PER_LINE):
            yield every[i : i + SYLLABLES_PER_LINE]


def whitespace() -> Iterator[str]:
    """Runs of up to eight, alone, before, after and between words, and in pairs."""
    for space, count in product(SPACES, range(1, 9)):
        run = space * count
        yield from (run, f"{run}앞", f"뒤{run}", f"가운데{run}글 and{run}text")
    yield from (f"가{a}{b}나 {b}{a} x" for a, b in product(SPACES, SPACES))


# --- with control tokens -------------------------------------------------------------------------

BESIDE = (
    ("", "안녕하세요"),
    ("안녕하세요", ""),
    ("질문:", "답변:"),
    ("### User:\n안녕? ", "\n\n### Assistant:\n"),
    ("끝.\n", " 시작"),
    ("hello ", "world"),
    ("  두 칸  ", "  two spaces"),
    ("123", "456\n"),
    ("[INST] 한국어로 [/INST] 네,", "[INST]"),
    ("😀", "👨\u200d👩\u200d👧"),
    ("code\n\t", "\tdef f():\n"),
    ("ㅋㅋㅋ", "ㅠㅠ"),
)
"""What stands before and after a control token."""

MOST_TOKENS = 24


def mixed(control: Sequence[str]) -> Iterator[str]:
    """Lines with a model's control tokens in them, alone, in pairs and in a row like a chat."""
    step = max(1, len(control) // MOST_TOKENS)
    chosen = sorted({*control[:MOST_TOKENS:2], *control[::step], *control[-MOST_TOKENS:]})
    for token, (before, after) in product(chosen, BESIDE):
        yield f"{before}{token}{after}"
    for first, second in pairwise(chosen):
        yield f"{first}system\n너는 친절한 도우미야.{second}\n{first}{second}안녕 {second}"
    yield "".join(f"{token}{after}" for token, (_, after) in zip(chosen, cycle(BESIDE)))
