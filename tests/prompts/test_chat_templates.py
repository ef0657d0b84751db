"""Presets beside the chat templates they come from, and beside other programs that render.

The sources are chat templates in Jinja that the installed packages carry, and short ones written
down here after those that cannot be had offline; transformers renders them. llama.cpp's own C
renderer, which reads no Jinja, is a second witness for the conventions that it knows.
"""

from __future__ import annotations

import ctypes
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from komt_local.prompts import PRESETS, Template, render
from komt_local.types import Message

Dialogue = list[tuple[str, str]]
BOS, EOS = "<s>", "</s>"

SINGLE: Dialogue = [("user", "인삼은 어떤 효과가 있나요?")]
SPACED: Dialogue = [("user", " \n한 줄\n\n또 한 줄 👍 \n")]
MULTI: Dialogue = [
    ("user", "대한민국의 수도는?"),
    ("assistant", "서울입니다.\n- 인구: 약 940만 명"),
    ("user", unicodedata.normalize("NFD", "고마워") + "요"),
    ("assistant", " 천만에요 "),
    ("user", "{{ 질문 }} ### 답변: [INST] 'ㅋㅋ' \"끝\""),
]
SYSTEM: Dialogue = [("system", "짧게 답하세요.\n존댓말로.")]
DIALOGUES = {
    "single": SINGLE,
    "single-spaced": SPACED,
    "multi": MULTI,
    "system-single": SYSTEM + SINGLE,
    "system-multi": SYSTEM + MULTI,
}
WITHOUT_SYSTEM = [name for name in DIALOGUES if not name.startswith("system")]

# After google/gemma-2-2b-it, skt/A.X-4.0, LGAI-EXAONE/EXAONE-4.0 (both without tools and thoughts),
# LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct and meta-llama/Llama-2-7b-chat-hf.
_WRITTEN_DOWN = {
    "gemma": "{{ bos_token }}{% for m in messages %}{% set who = 'model' if m.role == 'assistant' "
    "else m.role %}{{ '<start_of_turn>' + who + '\n' + m.content | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
    "ax-4": "{% for m in messages %}{{ '<|im_start|><|' + m.role + '|>' + m.content }}"
    "{{- '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|><|assistant|>' }}{% endif %}",
    "exaone-4": "{% set silent = '<think>\n\n</think>\n\n' %}{% for m in messages %}"
    "{{ '[|' + m.role + '|]\n' }}{% if m.role == 'assistant' %}{{ silent }}{% endif %}"
    "{{ m.content + '[|endofturn|]\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[|assistant|]\n' + silent }}{% endif %}",
    "exaone-3.5": "{% for m in messages %}{{ '[|' + m.role + '|]' + m.content }}"
    "{{ '\n' if m.role == 'user' else '[|endofturn|]\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[|assistant|]' }}{% endif %}",
    "llama-2": "{% set system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' "
    "if messages[0].role == 'system' else '' %}"
    "{% for m in messages if m.role != 'system' %}"
    "{% set content = system + m.content if loop.first else m.content %}"
    "{% if m.role == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
}


def sources() -> dict[str, str]:
    from llama_cpp import llama_chat_format as known

    return {
        **_WRITTEN_DOWN,
        "chatml": known.CHATML_CHAT_TEMPLATE,
        "llama-3": known.LLAMA3_INSTRUCT_CHAT_TEMPLATE,
        "kanana": known.LLAMA3_INSTRUCT_CHAT_TEMPLATE,
    }


def ours(template: Template, dialogue: Dialogue, context: str | None = None) -> str:
    messages = [Message(role, text) for role, text in dialogue]  # type: ignore[arg-type]
    segments = render(template, messages, context=context, bos=BOS, eos=EOS)
    return "".join(segment.text for segment in segments)


class Transformers:
    """`apply_chat_template` of a tokenizer that has BOS and EOS and nothing else."""

    def __init__(self) -> None:
        import tokenizers
        import transformers

        bare = tokenizers.Tokenizer(tokenizers.models.BPE())
        self._made = transformers.PreTrainedTokenizerFast(
            tokenizer_object=bare, bos_token=BOS, eos_token=EOS
        )

    def __call__(self, jinja: str, dialogue: Dialogue, **variables: Any) -> str:
        messages = [{"role": role, "content": text} for role, text in dialogue]
        rendered: str = self._made.apply_chat_template(
            messages,
            chat_template=jinja,
            tokenize=False,
            add_generation_prompt=True,
            **variables,
        )
        return rendered


@pytest.fixture(scope="module")
def theirs() -> Transformers:
    return Transformers()


# Gemma's own template refuses system texts; llama.cpp's form of them is held below.
PAIRS = [
    (name, dialogue)
    for name in sources()
    for dialogue in (WITHOUT_SYSTEM if name == "gemma" else DIALOGUES)
]


@pytest.mark.parametrize(("name", "dialogue"), PAIRS)
def test_a_preset_is_its_source(theirs: Transformers, name: str, dialogue: str) -> None:
    messages = DIALOGUES[dialogue]
    if name == "exaone-3.5" and dialogue in WITHOUT_SYSTEM:
        messages = [("system", "You are EXAONE model from LG AI Research, a helpful assistant.")]
        messages = messages + DIALOGUES[dialogue]
    assert ours(PRESETS[name], DIALOGUES[dialogue]) == theirs(sources()[name], messages)


@pytest.mark.parametrize("dialogue", DIALOGUES)
@pytest.mark.parametrize("name", PRESETS)
def test_what_a_file_carries_says_the_same_everywhere(
    theirs: Transformers, name: str, dialogue: str
) -> None:
    """The text of a preset, as a file's template: by transformers, and in our child process."""
    preset, messages = PRESETS[name], DIALOGUES[dialogue]
    carried = Template("file", preset.jinja, context_slot=preset.context_slot)
    assert theirs(preset.jinja, messages) == ours(preset, messages) == ours(carried, messages)
    if preset.context_slot:
        context = "문서의 첫 줄\n둘째 줄"
        expected = theirs(preset.jinja, messages, context=context)
        assert expected == ours(preset, messages, context) == ours(carried, messages, context)
        assert context in expected


TYPED = st.text(st.sampled_from("가힣ㄱ\u1100\u1161 \n\t{}[]<>|/#:'\"\\인삼👍"), max_size=12)


@pytest.mark.parametrize("name", sources())
@given(texts=st.lists(TYPED, min_size=3, max_size=3))
@settings(max_examples=15, deadline=None)
def test_any_text_is_rendered_as_the_source_does(
    theirs: Transformers, name: str, texts: list[str]
) -> None:
    dialogue = list(zip(("user", "assistant", "user"), texts, strict=True))
    if name == "exaone-3.5":
        dialogue.insert(0, ("system", "짧게"))
    assert ours(PRESETS[name], dialogue) == theirs(sources()[name], dialogue)


# llama.cpp leaves BOS to the tokenizer, and writes the space that SentencePiece puts in front.
@pytest.mark.parametrize(
    ("name", "theirs_name"),
    [
        ("chatml", "chatml"),
        ("gemma", "gemma"),
        ("llama-3", "llama3"),
        ("exaone-3.5", "exaone3"),
        ("mistral", "mistral-v1"),
    ],
)
@pytest.mark.parametrize("dialogue", ["system-single", "system-multi", "single"])
def test_llama_cpp_writes_the_same(name: str, theirs_name: str, dialogue: str) -> None:
    messages = [(role, text.strip()) for role, text in DIALOGUES[dialogue]]
    if name == "exaone-3.5" and dialogue == "single":
        messages = SYSTEM + messages
    native = in_c(theirs_name, messages).replace(" [INST]", "[INST]")
    assert ours(PRESETS[name], messages).removeprefix(BOS).replace(" [INST]", "[INST]") == native


def in_c(name: str, dialogue: Dialogue) -> str:
    from llama_cpp import llama_cpp as library

    kept = [(role.encode(), text.encode()) for role, text in dialogue]
    made = [library.llama_chat_message(role=role, content=text) for role, text in kept]
    messages = (library.llama_chat_message * len(made))(*made)
    buffer = ctypes.create_string_buffer(1 << 14)
    size = library.llama_chat_apply_template(
        name.encode(), messages, len(made), True, buffer, len(buffer)
    )
    assert 0 < size < len(buffer)
    return buffer.raw[:size].decode()
