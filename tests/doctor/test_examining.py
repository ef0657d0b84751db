"""What the doctor says of recorded machines."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from machines import (
    AVX512,
    COLAB_CPU,
    COLAB_T4,
    CPU,
    CUDA,
    LAPTOP,
    MAC,
    MAXWELL,
    SANDY_BRIDGE,
    WINDOWS_4090,
    with_cuda_build,
)

from komt_local.doctor import Check, Machine, examine, wheels, worst
from komt_local.doctor.machine import Build, Cpu, Folder, Models, Nvidia, Probe
from komt_local.llama.library import PINNED_VERSION

DOCS = Path(__file__).parent.parent.parent / "docs"


def check(machine: Machine, name: str) -> Check:
    return next(check for check in examine(machine) if check.name == name)


def remedy(machine: Machine, name: str) -> str:
    found = check(machine, name)
    assert found.remedy is not None, found
    return found.remedy.en


OLD_PROCESSOR = replace(LAPTOP, cpu=Cpu("i5-2500", SANDY_BRIDGE, 4, 4))
SICK: dict[str, tuple[Machine, str, str, str]] = {
    # what is wrong: the machine, the check, its state, what the sentence says
    "no binding": (replace(LAPTOP, build=None), "llama-cpp-python", "fail", "not installed"),
    "other binding": (
        replace(LAPTOP, versions={"llama-cpp-python": "0.3.35"}),
        "llama-cpp-python",
        "fail",
        "0.3.35 is installed; .* 0.3.36 only",
    ),
    "old processor": (OLD_PROCESSOR, "cpu", "fail", "avx2, bmi2, f16c, fma, which .* lacks"),
    "no avx512": (
        replace(LAPTOP, build=Build("", ("cpu",), AVX512)),
        "cpu",
        "fail",
        "avx512, avx512_bf16, avx512_vbmi, avx512_vnni",
    ),
    "slow build": (
        replace(LAPTOP, build=Build("", ("cpu",), frozenset({"sse3"}))),
        "cpu",
        "warn",
        "leaves avx2, f16c, fma of this processor unused",
    ),
    "rosetta": (replace(MAC, arch="x86_64", is_translated=True), "cpu", "warn", "Rosetta"),
    "illegal instruction": (
        replace(LAPTOP, probe=Probe("killed", signal="SIGILL")),
        "llama.cpp",
        "fail",
        "another processor",
    ),
    "abort": (
        replace(LAPTOP, probe=Probe("killed", signal="SIGABRT", error="ggml.c:1: oops")),
        "llama.cpp",
        "fail",
        r"SIGABRT \(ggml.c:1: oops\)",
    ),
    "broken model": (
        replace(LAPTOP, probe=Probe("failed", (CPU,), error="demo.gguf is cut off.")),
        "llama.cpp",
        "fail",
        "demo.gguf is cut off",
    ),
    "no runtime": (
        with_cuda_build(
            COLAB_T4,
            probe=Probe("failed", error="libcudart.so.12: cannot open shared object file"),
            nvidia=replace(COLAB_T4.nvidia, runtimes=()),
        ),
        "llama.cpp",
        "fail",
        "libcudart.so.12",
    ),
    "cpu build": (COLAB_T4, "gpu", "warn", "Tesla T4 is not used: .* built for CPU only"),
    "hidden": (
        with_cuda_build(COLAB_T4, environment={"CUDA_VISIBLE_DEVICES": "-1"}),
        "gpu",
        "warn",
        "CUDA_VISIBLE_DEVICES='-1'",
    ),
    "old driver": (WINDOWS_4090, "gpu", "warn", r"551\.61 runs CUDA up to 12\.4, .* CUDA 13"),
    "no driver": (replace(LAPTOP, nvidia=Nvidia(cards=1)), "gpu", "warn", "does not answer"),
    "driver mismatch": (
        replace(LAPTOP, nvidia=Nvidia(error="Driver/library version mismatch")),
        "gpu",
        "warn",
        "mismatch",
    ),
    "no metal": (MAC, "gpu", "warn", "without Metal"),
    "unseen": (with_cuda_build(COLAB_T4), "gpu", "warn", "sees no GPU"),
    "little memory": (
        replace(LAPTOP, memory_available=1 << 30, memory_limit=1 << 30),
        "memory",
        "warn",
        r"1\.1 GB of 17\.2 GB .*limited by a control group.*1B",
    ),
    "full disk": (
        replace(LAPTOP, cache=Folder("/c", 1, 5 << 30, partial=1)),
        "cache",
        "warn",
        "unfinished downloads",
    ),
    "read-only": (
        replace(LAPTOP, data=Folder("/d", 1, 99 << 30, writable=False)),
        "data",
        "warn",
        "/d",
    ),
    "no model": (
        replace(LAPTOP, models=Models(0, "", ("It is gone.", "없습니다."))),
        "models",
        "warn",
        "gone",
    ),
    "no hangul": (replace(LAPTOP, encoding="ascii"), "terminal", "warn", "lacks Hangul"),
    "colab without gpu": (COLAB_CPU, "colab", "warn", "without a GPU"),
}


@pytest.mark.parametrize("case", SICK)
def test_each_trouble_is_named_with_its_remedy(case: str) -> None:
    machine, name, state, sentence = SICK[case]
    found = check(machine, name)
    assert found.state == state
    assert re.search(sentence, found.found.en), found.found.en
    assert found.remedy is not None
    assert worst(examine(machine)) != "ok"


@pytest.mark.parametrize("case", [None, *SICK])
def test_both_languages_say_something(case: str | None) -> None:
    machine = SICK[case][0] if case else LAPTOP
    for found in examine(machine):
        for text in filter(None, (found.found, found.remedy)):
            assert text.en and text.ko
            assert not re.search("[가-힣]", text.en)
            assert text.ko == text.en or re.search("[가-힣]", text.ko)


def test_a_healthy_machine_is_fine() -> None:
    checks = examine(LAPTOP)
    assert worst(checks) == "ok"
    assert [found.remedy for found in checks] == [None] * len(checks)
    assert "7B" not in check(replace(LAPTOP, memory_available=4 << 30), "memory").found.en


def test_a_gpu_that_is_used_is_fine() -> None:
    machine = with_cuda_build(COLAB_T4, probe=Probe("computed", (CPU, CUDA)))
    found = check(machine, "gpu")
    assert found.state == "ok" and "Tesla T4 (15.6 GB / 15.8 GB)" in found.found.en


def test_of_a_gpu_nothing_is_said_before_llama_cpp_runs() -> None:
    machine = with_cuda_build(COLAB_T4, probe=Probe("killed", signal="SIGILL"))
    assert [found.name for found in examine(machine) if found.state != "ok"] == ["llama.cpp"]


def test_a_mac_without_a_gpu_is_no_trouble() -> None:
    machine = replace(MAC, build=Build("", ("blas", "cpu", "metal")))
    assert check(machine, "gpu").state == "ok"


def test_the_wheel_fits_driver_runtime_and_system() -> None:
    index = "https://abetlen.github.io/llama-cpp-python/whl"
    assert remedy(COLAB_T4, "gpu").endswith(f"=={'0.3.36'} --extra-index-url {index}/cu124")
    newer = replace(COLAB_T4, nvidia=replace(COLAB_T4.nvidia, cuda=(13, 0)))
    assert remedy(newer, "gpu").endswith("/cu125")  # the runtime that is here is 12
    free = replace(newer, nvidia=replace(newer.nvidia, runtimes=()))
    assert remedy(free, "gpu").endswith("/cu130")
    assert remedy(WINDOWS_4090, "gpu").endswith("/cu124")


def test_without_a_wheel_the_build_from_source_is_named() -> None:
    old = replace(COLAB_T4, nvidia=replace(COLAB_T4.nvidia, gpus=(MAXWELL,)))
    assert remedy(old, "gpu").startswith('CMAKE_ARGS="-DGGML_CUDA=on" python -m pip install')
    windows = replace(old, system="Windows", arch="AMD64")
    assert remedy(windows, "gpu").startswith('$env:CMAKE_ARGS="-DGGML_CUDA=on"; ')
    assert "--no-binary llama-cpp-python" in remedy(old, "gpu")


def test_advice_for_an_installation_that_has_not_begun() -> None:
    t4 = wheels.advice(COLAB_T4.nvidia, "Linux", "x86_64")
    assert (t4.index.rsplit("/", 1)[-1], t4.for_gpu) == ("cu124", True)
    assert "GGML_CUDA=on" in t4.cmake_args
    none = wheels.advice(Nvidia(), "Linux", "x86_64")
    assert (none.index.rsplit("/", 1)[-1], none.cmake_args, none.for_gpu) == ("cpu", "", False)
    arm = wheels.advice(COLAB_T4.nvidia, "Linux", "aarch64")
    assert not arm.for_gpu and arm.cmake_args


def test_remedies_use_what_installs_here() -> None:
    machine = replace(COLAB_T4, install="pipx runpip komt-local install")
    assert remedy(machine, "gpu").startswith("pipx runpip komt-local install --force-reinstall")


def test_the_cuda_runtime_of_the_build_is_named() -> None:
    machine, name, *_ = SICK["no runtime"]
    assert " nvidia-cuda-runtime-cu12 nvidia-cublas-cu12, then LD_LIB" in remedy(machine, name)
    newer = with_cuda_build(machine, major=13)
    assert ' "nvidia-cuda-runtime==13.*" "nvidia-cublas==13.*", ' in remedy(newer, name)


def test_threads_follow_the_limits_of_the_process() -> None:
    limited = replace(LAPTOP, cpu=replace(LAPTOP.cpu, threads=2))
    assert "2 of 4 physical cores" in check(limited, "threads").found.en


def test_network_settings_are_shown_without_a_connection() -> None:
    assert "network" not in [found.name for found in examine(LAPTOP)]
    offline = replace(LAPTOP, environment={"HF_HUB_OFFLINE": "1"})
    assert check(offline, "network").state == "ok"
    assert "unset HF_HUB_OFFLINE" in remedy(offline, "network")


@pytest.mark.parametrize("manual", ["troubleshooting.md", "troubleshooting.ko.md"])
def test_every_page_that_is_pointed_to_exists(manual: str) -> None:
    text = (DOCS / manual).read_text(encoding="utf-8")
    pages = {found.page for machine, *_ in SICK.values() for found in examine(machine)} - {""}
    assert len(pages) > 5
    assert pages <= set(re.findall(r'<a id="([a-z-]+)"></a>', text))


@pytest.mark.parametrize("manual", ["troubleshooting.md", "troubleshooting.ko.md"])
def test_the_manual_has_the_table_and_the_version_of_the_program(manual: str) -> None:
    text = (DOCS / manual).read_text(encoding="utf-8")
    table = wheels.table()
    assert set(re.findall(r"`(cu\d+)`", text)) == {build.name for build in table.builds}
    assert table.checked.isoformat() in text and table.releases[-1] in text
    assert set(re.findall(r"llama-cpp-python==([\d.]+)", text)) == {PINNED_VERSION}
    assert table.index in text
