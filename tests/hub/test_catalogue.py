"""The catalogue is complete: every Korean checkpoint that was looked up has its entry and facts.

The list below is not read from the data file, so that an entry that is lost, or a fact that slips,
is noticed. `-` stands for a template or a class that no source at hand tells.
"""

from __future__ import annotations

import pytest

from komt_local import catalogue
from komt_local.variants import BITS_PER_WEIGHT

NEOX, LLAMA, MISTRAL = "GPTNeoXForCausalLM", "LlamaForCausalLM", "MistralForCausalLM"

CHECKPOINTS = f"""
EleutherAI/polyglot-ko-1.3b                         {NEOX} - 1.33
EleutherAI/polyglot-ko-3.8b                         {NEOX} - 3.81
EleutherAI/polyglot-ko-5.8b                         {NEOX} - 5.89
EleutherAI/polyglot-ko-12.8b                        {NEOX} - 12.9
beomi/polyglot-ko-12.8b-safetensors                 {NEOX} - 12.9
beomi/KoAlpaca-Polyglot-5.8B                        {NEOX} koalpaca 5.89
beomi/KoAlpaca-Polyglot-12.8B                       {NEOX} koalpaca 12.9
beomi/KoAlpaca-Polyglot                             {NEOX} koalpaca 5.89
beomi/KoAlpaca                                      {LLAMA} koalpaca-llama 6.74
metterian/kullm-polyglot-12.8b-v1                   {NEOX} kullm-v1 12.9
metterian/kullm-polyglot-12.8b                      {NEOX} kullm-v1 12.9
nlpai-lab/kullm-polyglot-5.8b-v2                    {NEOX} kullm-v2 5.89
nlpai-lab/kullm-polyglot-12.8b-v2                   {NEOX} kullm-v2 12.9
taeminlee/kullm-polyglot-12.8b-v2                   {NEOX} kullm-v2 12.9
nlpai-lab/KULLM3                                    {LLAMA} kullm3 10.7
KRAFTON/KORani-v1-13B                               {NEOX} korani 12.9
KRAFTON/KORani-v2-13B                               {LLAMA} korani 13.0
KRAFTON/KORani-v3-13B                               {LLAMA} korani 13.0
Cartinoe5930/KoRAE-13b                              {LLAMA} korae 13.2
Cartinoe5930/KoRAE-13b-DPO                          {LLAMA} korae 13.2
Cartinoe5930/original-KoRAE-13b-3ep                 {LLAMA} korae 13.2
junelee/ko_vicuna_7b                                {LLAMA} kovicuna 6.74
davidkim205/komt-llama2-7b-v1                       {LLAMA} komt 6.74
davidkim205/komt-llama2-13b-v1                      {LLAMA} komt 13.0
davidkim205/komt-Llama-2-7b-chat-hf                 {LLAMA} komt 6.74
davidkim205/komt-Llama-2-13b-hf                     {LLAMA} komt 13.0
davidkim205/komt-llama-30b-v1                       {LLAMA} komt 32.5
davidkim205/komt-mistral-7b-v1                      {MISTRAL} komt-mistral 7.24
beomi/llama-2-ko-7b                                 {LLAMA} - 6.86
beomi/llama-2-koen-13b                              {LLAMA} - 13.2
kfkas/Llama-2-ko-7b-Chat                            {LLAMA} kullm-v2 6.86
upstage/SOLAR-10.7B-v1.0                            {LLAMA} - 10.7
upstage/SOLAR-10.7B-Instruct-v1.0                   {LLAMA} solar 10.7
upstage/Solar-Open-100B                             SolarOpenForCausalLM - 100
yanolja/EEVE-Korean-Instruct-10.8B-v1.0             {LLAMA} eeve 10.8
MLP-KTLim/llama-3-Korean-Bllossom-8B                {LLAMA} llama-3 8.03
Bllossom/llama-3.2-Korean-Bllossom-3B               {LLAMA} llama-3 3.21
LGAI-EXAONE/EXAONE-3.5-2.4B-Instruct                ExaoneForCausalLM exaone-3.5 2.4
LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct                ExaoneForCausalLM exaone-3.5 7.8
LGAI-EXAONE/EXAONE-3.5-32B-Instruct                 ExaoneForCausalLM exaone-3.5 32
LGAI-EXAONE/EXAONE-4.0-1.2B                         Exaone4ForCausalLM exaone-4 1.28
LGAI-EXAONE/EXAONE-4.0-32B                          Exaone4ForCausalLM exaone-4 32
LGAI-EXAONE/EXAONE-4.5-33B                          Exaone4_5_ForConditionalGeneration exaone-4 33
LGAI-EXAONE/K-EXAONE-236B-A23B                      ExaoneMoEForCausalLM exaone-4 236
kakaocorp/kanana-1.5-2.1b-instruct-2505             {LLAMA} kanana 2.1
kakaocorp/kanana-1.5-8b-instruct-2505               {LLAMA} kanana 8
kakaocorp/kanana-1.5-9.8b-instruct                  {LLAMA} kanana 9.8
kakaocorp/kanana-1.5-15.7b-a3b-instruct             - kanana 15.7
kakaocorp/kanana-1.5-32.5b-instruct                 {LLAMA} kanana 32.5
kakaocorp/kanana-2-30b-a3b-instruct-2601            DeepseekV3ForCausalLM - 30
kakaocorp/kanana-2-30b-a3b-thinking-2601            DeepseekV3ForCausalLM - 30
kakaocorp/kanana-2-30b-a3b-instruct-2512            DeepseekV3ForCausalLM - 30
kakaocorp/kanana-2-30b-a3b-thinking-2512            DeepseekV3ForCausalLM - 30
naver-hyperclovax/HyperCLOVAX-SEED-Text-Instruct-0.5B  {LLAMA} hyperclovax 0.57
naver-hyperclovax/HyperCLOVAX-SEED-Text-Instruct-1.5B  {LLAMA} hyperclovax 1.5
naver-hyperclovax/HyperCLOVAX-SEED-Think-14B        HyperCLOVAXForCausalLM hyperclovax 14.7
K-intelligence/Midm-2.0-Base-Instruct               {LLAMA} midm-2 11.5
K-intelligence/Midm-2.0-Mini-Instruct               {LLAMA} midm-2 2.3
skt/A.X-4.0                                         Qwen2ForCausalLM ax-4 72
skt/A.X-4.0-Light                                   Qwen2ForCausalLM ax-4 7
skt/A.X-3.1                                         {LLAMA} - 35
skt/A.X-3.1-Light                                   {LLAMA} - 7.26
trillionlabs/Trillion-7B                            {LLAMA} - 7
beomi/Qwen2.5-7B-Instruct-kowiki-qa                 Qwen2ForCausalLM chatml 7.62
rtzr/ko-gemma-2-9b-it                               Gemma2ForCausalLM gemma 9.24
"""

ADAPTERS = f"""
beomi/KoAlpaca-13B-LoRA                             {LLAMA} koalpaca-llama
beomi/KoAlpaca-30B-LoRA                             {LLAMA} koalpaca-llama
beomi/KoAlpaca-65B-LoRA                             {LLAMA} koalpaca-llama
beomi/qlora-koalpaca-polyglot-12.8b-50step          {NEOX} koalpaca
psymon/KoLlama2-7b                                  {LLAMA} -
davidkim205/komt-llama2-7b-v1-lora                  {LLAMA} komt
davidkim205/komt-llama2-13b-v1-lora                 {LLAMA} komt
davidkim205/komt-Llama-2-7b-chat-hf-lora            {LLAMA} komt
davidkim205/komt-Llama-2-13b-hf-lora                {LLAMA} komt
davidkim205/komt-llama-30b-v1-lora                  {LLAMA} komt
davidkim205/komt-mistral-7b-v1-lora                 {MISTRAL} komt-mistral
davidkim205/komt-mistral-7b-v1-dpo                  {MISTRAL} komt-mistral
"""

# Repositories with ready files, and a file that is known in them.
READY = """
davidkim205/komt-llama2-7b-v1-ggml                  ggml-model-q4_0.gguf
davidkim205/komt-llama2-13b-v1-ggml                 -
davidkim205/komt-Llama-2-7b-chat-hf-ggml            -
davidkim205/komt-Llama-2-13b-hf-ggml                -
davidkim205/komt-mistral-7b-v1-gguf                 ggml-model-q4_1.gguf
StarFox7/Llama-2-ko-7B-chat-gguf                    -
heegyu/EEVE-Korean-Instruct-10.8B-v1.0-GGUF         ggml-model-Q4_K_M.gguf
teddylee777/EEVE-Korean-Instruct-10.8B-v1.0-gguf    EEVE-Korean-Instruct-10.8B-v1.0-Q8_0.gguf
QuantFactory/EEVE-Korean-Instruct-10.8B-v1.0-GGUF   -
MLP-KTLim/llama-3-Korean-Bllossom-8B-gguf-Q4_K_M    llama-3-Korean-Bllossom-8B-Q4_K_M.gguf
LGAI-EXAONE/EXAONE-3.5-2.4B-Instruct-GGUF           EXAONE-3.5-2.4B-Instruct-IQ4_XS.gguf
LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct-GGUF           EXAONE-3.5-7.8B-Instruct-BF16.gguf
LGAI-EXAONE/EXAONE-3.5-32B-Instruct-GGUF            EXAONE-3.5-32B-Instruct-Q4_K_M.gguf
LGAI-EXAONE/EXAONE-4.0-1.2B-GGUF                    EXAONE-4.0-1.2B-Q4_K_M.gguf
LGAI-EXAONE/EXAONE-4.0-32B-GGUF                     EXAONE-4.0-32B-Q4_K_M.gguf
Mungert/kanana-1.5-8b-instruct-2505-GGUF            -
rippertnt/HyperCLOVAX-SEED-Text-Instruct-1.5B-Q4_K_M-GGUF  -
K-intelligence/Midm-2.0-Base-Instruct-GGUF          Midm-2.0-Base-Instruct-BF16.gguf
"""

# Repositories that cannot be pulled, and are named where their model is.
NOTED = """
taeminlee/KULLM3-awq                                kullm3
Mozzipa/ko_vicuna_7b_ggml_q4                        kovicuna-7b
StarFox7/Llama-2-ko-7B-chat-ggml                    llama-2-ko-7b-chat
"""

# Whose licences forbid commercial use.
RESEARCH_ONLY = (
    "korani-v1", "korani-v2", "korani-v3", "korae", "korae-13b-dpo", "kovicuna",
    "komt-llama-30b-v1", "komt-llama-30b-v1-lora", "koalpaca-llama-65b-lora", "solar",
    "exaone-3.5-2.4b", "exaone-3.5-7.8b", "exaone-3.5-32b", "exaone-4.0-1.2b", "exaone-4.0-32b",
)  # fmt: skip


def lines(table: str) -> list[list[str]]:
    return [line.split() for line in table.strip().splitlines()]


def known(repo: str) -> catalogue.Model:
    model = catalogue.of_repo(repo)
    assert model is not None, f"the catalogue lacks {repo}"
    return model


@pytest.mark.parametrize(("repo", "class_", "template", "billions"), lines(CHECKPOINTS))
def test_every_checkpoint_is_there(repo: str, class_: str, template: str, billions: str) -> None:
    model = known(repo)
    assert repo in (model.checkpoint, *model.copies)
    assert (model.architecture or "-", model.template or "-") == (class_, template)
    assert model.parameters / 1e9 == pytest.approx(float(billions), rel=0.01)
    assert set(model.memory()) == set(BITS_PER_WEIGHT) and not model.adapter_of


@pytest.mark.parametrize(("repo", "class_", "template"), lines(ADAPTERS))
def test_every_adapter_is_there(repo: str, class_: str, template: str) -> None:
    model = known(repo)
    assert (model.checkpoint, model.architecture, model.template or "-") == (repo, class_, template)
    assert model.adapter_of


@pytest.mark.parametrize(("repo", "file"), lines(READY))
def test_every_repository_with_ready_files_is_there(repo: str, file: str) -> None:
    model = known(repo)
    assert repo in model.gguf
    assert file == "-" or file in model.ggufs


@pytest.mark.parametrize(("repo", "name"), lines(NOTED))
def test_what_cannot_be_pulled_is_said(repo: str, name: str) -> None:
    model = catalogue.find(name)
    assert model is not None and repo in model.note and repo in model.note_ko


def test_nothing_else_is_there() -> None:
    listed = [repo for table in (CHECKPOINTS, ADAPTERS, READY) for repo, *_ in lines(table)]
    there = [repo for model in catalogue.models() for repo in model.repos()]
    assert sorted(listed) == sorted(there)


@pytest.mark.parametrize("name", RESEARCH_ONLY)
def test_licences_that_forbid_commercial_use_say_so(name: str) -> None:
    model = catalogue.find(name)
    assert model is not None
    assert "no commercial use" in model.restrictions and "상업적 이용 금지" in model.restrictions_ko


def test_a_licence_that_no_source_states_is_marked() -> None:
    for model in catalogue.models():
        if model.licence == "unknown":
            assert "licence" in model.unconfirmed and model.restrictions
