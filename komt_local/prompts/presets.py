"""The table of prompt conventions, from the repositories and cards that `source` names.

Each string is what the model saw in training, or what its authors' own inference code sends where
the two differ. What could not be confirmed from a source says so.
"""

from __future__ import annotations

from .template import Template
from .turns import literal, turns

_VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)

_KULLM3_SYSTEM = """\
당신은 고려대학교 NLP&AI 연구실에서 만든 AI 챗봇입니다.
당신의 이름은 'KULLM'으로, 한국어로는 '구름'을 뜻합니다.
당신은 비도덕적이거나, 성적이거나, 불법적이거나 또는 사회 통념적으로 허용되지 않는 발언은 하지 않습니다.
사용자와 즐겁게 대화하며, 사용자의 응답에 가능한 정확하고 친절하게 응답함으로써 최대한 도와주려고 노력합니다.
질문이 이상하다면, 어떤 부분이 이상한지 설명합니다. 거짓 정보를 발언하지 않도록 주의합니다."""  # noqa: E501

_KORAE_SYSTEM = (
    "당신은 유용한 인공지능 비서입니다. 사용자가 몇 가지 지시가 포함된 작업을 제공합니다. "
    "요청을 적절히 완료하는 응답을 작성하세요."
)

_KULLM_V2 = "아래는 작업을 설명하는 명령어입니다. 요청을 적절히 완료하는 응답을 작성하세요.\n\n"
_KULLM_V2_CONTEXT = (
    "아래는 작업을 설명하는 명령어와 추가 컨텍스트를 제공하는 입력이 짝을 이루는 예제입니다. "
    "요청을 적절히 완료하는 응답을 작성하세요.\n\n"
)

_KOALPACA_LLAMA = (
    "Below is an instruction that describes a task.\n아래는 작업을 설명하는 명령어입니다.\n\n"
    "Write a response that appropriately completes the request.\n"
    "명령어에 따른 요청을 적절히 완료하는 응답을 작성하세요.\n\n"
)
_KOALPACA_LLAMA_CONTEXT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context.\n"
    "아래는 작업을 설명하는 명령어와 추가적 맥락을 제공하는 입력이 짝을 이루는 예제입니다.\n\n"
    "Write a response that appropriately completes the request.\n"
    "요청을 적절히 완료하는 응답을 작성하세요.\n\n"
)

# The system text stands inside the first user turn, and every exchange has BOS and EOS of its own.
# White space goes where the whole of a turn ends, as in the source.
_LLAMA_2 = """\
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{%- if not loop.first and loop.previtem['role'] == 'system' -%}
{%- set system = "<<SYS>>\\n" + loop.previtem['content'] + "\\n<</SYS>>\\n\\n" -%}
{%- else -%}
{%- set system = DEFAULT if loop.first else "" -%}
{%- endif -%}
{{- bos_token + "[INST] " + (system + message['content']) | trim + " [/INST]" -}}
{%- elif message['role'] == 'assistant' -%}
{{- " " + message['content'] | trim + " " + eos_token -}}
{%- endif -%}
{%- endfor -%}"""


def _llama_2(default_system: str = "") -> str:
    opening = f"<<SYS>>\n{default_system}\n<</SYS>>\n\n" if default_system else ""
    return _LLAMA_2.replace("DEFAULT", literal(opening))


def _llama_3(after_system_header: str, content: str) -> str:
    header = "<|start_header_id|>{}<|end_header_id|>".format
    return turns(
        begin="{bos}",
        system=f"{header('system')}{after_system_header}{content}<|eot_id|>",
        user=f"{header('user')}\n\n{content}<|eot_id|>",
        assistant=f"{header('assistant')}\n\n{content}<|eot_id|>",
        answer=header("assistant") + "\n\n",
    )


_TABLE = (
    Template(
        name="komt",
        jinja=turns(user="### instruction: {}\n\n### Response: ", assistant="{}{eos}"),
        stops=("### instruction:",),
        single_turn=True,
        system_slot=False,
        sampling={"temperature": 0.8, "top_p": 0.8, "top_k": 100},
        source="github.com/davidkim205/komt, usage_komt_with_lora.py and README",
    ),
    Template(
        name="komt-output",
        jinja=turns(user="{} ##output:", assistant="{}{eos}"),
        stops=("##output:",),
        single_turn=True,
        system_slot=False,
        sampling={"temperature": 0.8, "top_p": 0.8, "top_k": 100},
        source="github.com/davidkim205/komt, README, section llama.cpp",
    ),
    Template(
        name="komt-mistral",
        jinja=turns(user="[INST]{} [/INST]", assistant="{}{eos}"),
        stops=("[INST]",),
        single_turn=True,
        system_slot=False,
        sampling={"temperature": 0.8, "top_p": 0.8, "top_k": 100},
        source="huggingface.co/davidkim205/komt-mistral-7b-v1, the card's code",
    ),
    Template(
        name="kullm-v1",
        jinja=turns(user="### 질문: {}\n\n### 답변:", assistant=" {}{eos}\n\n"),
        stops=("###",),
        single_turn=True,
        system_slot=False,
        confirmed=False,
        source="github.com/nlpai-lab/KULLM, README of 30 May 2023; its trainer is of another form",
    ),
    Template(
        name="kullm-v2",
        jinja=turns(
            user=_KULLM_V2 + "### 명령어:\n{}\n\n### 응답:\n",
            user_with_context=_KULLM_V2_CONTEXT
            + "### 명령어:\n{}\n\n### 입력:\n{context}\n\n### 응답:\n",
            assistant="{}{eos}\n\n",
        ),
        stops=("### 명령어:", "### 입력:"),
        single_turn=True,
        system_slot=False,
        context_slot=True,
        sampling={"temperature": 0.2},
        source="github.com/nlpai-lab/KULLM, branch kullm_v2, templates/kullm.json",
    ),
    Template(
        name="kullm3",
        jinja=_llama_2(_KULLM3_SYSTEM),
        stops=("[INST]",),
        source="github.com/taeminlee/auto-chat-template, README; system text of the KULLM3 card",
    ),
    Template(
        name="korani",
        jinja=turns(
            system="{}\n",
            default_system=_VICUNA_SYSTEM.replace("curious user", "curious human").replace(
                "the user's", "the human's"
            ),
            user="### Human: {}\n### Assistant:",
            assistant=" {}\n",
        ),
        stops=("\n### Human:", "\n### Assistant", "\nUser:", "###"),
        single_turn=True,
        confirmed=False,
        sampling={"temperature": 0.1, "top_p": 0.7, "repeat_penalty": 1.05},
        source="github.com/krafton-ai/KORani, README (FastChat data), inference.py; form inferred",
    ),
    Template(
        name="korae",
        jinja=turns(
            system="### System:\n{}{eos}\n\n",
            default_system=_KORAE_SYSTEM,
            user="### User:\n{} {eos}\n\n### Assistant:\n",
            user_with_context="### User:\n{} {context}{eos}\n\n### Assistant:\n",
            assistant="{}{eos}\n\n",
        ),
        stops=("### User:", "### System:"),
        context_slot=True,
        source="github.com/gauss5930/KoRAE, templates/KoRAE_template.json",
    ),
    Template(
        name="koalpaca",
        jinja=turns(
            user="### 질문: {}\n\n### 답변:",
            user_with_context="### 질문: {}\n\n### 맥락: {context}\n\n### 답변:",
            assistant=" {}{eos}\n\n",
        ),
        stops=("###",),
        single_turn=True,
        system_slot=False,
        context_slot=True,
        sampling={"temperature": 0.7, "top_p": 0.9},
        source="github.com/Beomi/KoAlpaca, README, train_v1.1b, webui/app.py",
    ),
    Template(
        name="koalpaca-llama",
        jinja=turns(
            user=_KOALPACA_LLAMA + "### Instruction(명령어):\n{}\n\n### Response(응답):",
            user_with_context=_KOALPACA_LLAMA_CONTEXT
            + "### Instruction(명령어):\n{}\n\n### Input(입력):\n{context}\n\n### Response(응답):",
            assistant="{}{eos}\n\n",
        ),
        stops=("### Instruction",),
        single_turn=True,
        system_slot=False,
        context_slot=True,
        sampling={"temperature": 0.5},
        source="github.com/Beomi/KoAlpaca, train.py",
    ),
    Template(
        name="kovicuna",
        jinja=turns(
            system="{} ",
            default_system=_VICUNA_SYSTEM,
            user="USER: {} ASSISTANT:",
            assistant=" {}{eos}",
        ),
        stops=("USER:",),
        source="github.com/melodysdreamj/KoVicuna, README; lm-sys/FastChat, vicuna_v1.1",
    ),
    Template(
        name="llama-2",
        jinja=_llama_2(),
        sampling={"temperature": 0.6, "top_p": 0.9},
        source="github.com/meta-llama/llama, llama/generation.py",
    ),
    Template(
        name="llama-3",
        jinja=_llama_3("\n\n", "{trimmed}"),
        sampling={"temperature": 0.6, "top_p": 0.9},
        source="github.com/meta-llama/llama3, llama/tokenizer.py (ChatFormat)",
    ),
    Template(
        name="solar",
        jinja=turns(
            system="### System:\n{}\n\n",
            user="### User:\n{}\n\n### Assistant:\n",
            assistant="{}\n\n",
        ),
        stops=("### User:",),
        single_turn=True,
        source="huggingface.co/upstage/SOLAR-10.7B-Instruct-v1.0; lm-sys/FastChat, solar",
    ),
    Template(
        name="eeve",
        jinja=turns(
            system="{}\n",
            default_system=_VICUNA_SYSTEM,
            user="Human: {}\nAssistant:\n",
            assistant="{}\n",
        ),
        stops=("\nHuman:", "Human:"),
        source="the card of yanolja/EEVE-Korean-Instruct-10.8B-v1.0; later turns are inferred",
    ),
    Template(
        name="exaone-3.5",
        jinja=turns(
            system="[|system|]{}[|endofturn|]\n",
            default_system="You are EXAONE model from LG AI Research, a helpful assistant.",
            user="[|user|]{}\n",
            assistant="[|assistant|]{}[|endofturn|]\n",
            answer="[|assistant|]",
        ),
        stops=("[|endofturn|]",),
        sampling={"repeat_penalty": 1.0},
        source="github.com/LG-AI-EXAONE/EXAONE-3.5, README (Modelfile)",
    ),
    Template(
        name="exaone-4",
        jinja=turns(
            system="[|system|]\n{}[|endofturn|]\n",
            user="[|user|]\n{}[|endofturn|]\n",
            assistant="[|assistant|]\n<think>\n\n</think>\n\n{}[|endofturn|]\n",
            answer="[|assistant|]\n<think>\n\n</think>\n\n",
        ),
        stops=("[|endofturn|]",),
        sampling={"temperature": 0.5},
        source="a copy of the chat_template of EXAONE-4.0 (bfcl_eval, Exaone4Handler), no thinking",
    ),
    Template(
        name="hyperclovax",
        jinja=turns(
            begin="<|im_start|>tool_list\n<|im_end|>\n",
            system="<|im_start|>system\n{}<|im_end|>\n",
            default_system='- AI 언어모델의 이름은 "CLOVA X" 이며 네이버에서 만들었다.',
            user="<|im_start|>user\n{}<|im_end|>\n",
            assistant="<|im_start|>assistant\n{}<|im_end|><|endofturn|>\n",
            answer="<|im_start|>assistant\n",
        ),
        stops=("<|endofturn|>", "<|stop|>"),
        sampling={"repeat_penalty": 1.2},
        source="huggingface.co/naver-hyperclovax/HyperCLOVAX-SEED-Text-Instruct-0.5B, the card",
    ),
    Template(
        name="midm-2",
        jinja=_llama_3("\n", "{}"),
        stops=("<|eot_id|>", "<|end_of_text|>"),
        sampling={"temperature": 0.7},
        source="github.com/K-intelligence-Midm/Midm-2.0, tutorial/03_open-webui/modelfile",
    ),
    Template(
        name="ax-4",
        jinja=turns(
            system="<|im_start|><|system|>{}<|im_end|>",
            user="<|im_start|><|user|>{}<|im_end|>",
            assistant="<|im_start|><|assistant|>{}<|im_end|>",
            answer="<|im_start|><|assistant|>",
        ),
        source="a copy of the chat_template of skt/A.X-4.0",
    ),
    Template(
        name="kanana",
        jinja=_llama_3("\n\n", "{trimmed}"),
        confirmed=False,
        source="inferred from the tokenizer; prefer the template that the file carries",
    ),
    Template(
        name="chatml",
        jinja=turns(
            system="<|im_start|>system\n{}<|im_end|>\n",
            user="<|im_start|>user\n{}<|im_end|>\n",
            assistant="<|im_start|>assistant\n{}<|im_end|>\n",
            answer="<|im_start|>assistant\n",
        ),
        stops=("<|im_end|>",),
        source="github.com/openai/openai-python, chatml.md",
    ),
    Template(
        name="gemma",
        jinja=turns(
            begin="{bos}",
            user="<start_of_turn>user\n{trimmed}<end_of_turn>\n",
            user_with_system="<start_of_turn>user\n{system}\n\n{trimmed}<end_of_turn>\n",
            assistant="<start_of_turn>model\n{trimmed}<end_of_turn>\n",
            answer="<start_of_turn>model\n",
        ),
        stops=("<end_of_turn>",),
        source="llama.cpp, models/templates/google-gemma-2-2b-it.jinja",
    ),
    Template(
        name="mistral",
        jinja=turns(
            user="[INST] {} [/INST]",
            user_with_system="[INST] {system}\n\n{} [/INST]",
            assistant=" {}{eos}",
        ),
        stops=("[INST]",),
        system_slot=False,
        source="llama.cpp, src/llama-chat.cpp (mistral-v1)",
    ),
)

PRESETS: dict[str, Template] = {template.name: template for template in _TABLE}
