"""Machines as `measure` saw them, or as they are known: the hardware of the doctor's tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from komt_local.doctor.machine import (
    Build,
    Cpu,
    Device,
    Folder,
    Gpu,
    Machine,
    Models,
    Nvidia,
    Probe,
)

AVX2 = frozenset({"sse3", "ssse3", "avx", "avx2", "bmi2", "f16c", "fma", "llamafile"})
AVX512 = AVX2 | {"avx512", "avx512_vbmi", "avx512_vnni", "avx512_bf16"}

HASWELL = frozenset("pni ssse3 sse4_1 sse4_2 avx avx2 bmi1 bmi2 f16c fma".split())
SANDY_BRIDGE = frozenset("pni ssse3 sse4_1 sse4_2 avx".split())
EPYC = HASWELL | frozenset("avx512f avx512vbmi avx512_vnni avx512_bf16".split())

T4 = Gpu("Tesla T4", 15_642_329_088, 15_828_320_256, (7, 5))
RTX_4090 = Gpu("NVIDIA GeForce RTX 4090", 24 << 30, 24 << 30, (8, 9))
MAXWELL = Gpu("NVIDIA GeForce GTX 970", 4 << 30, 4 << 30, (5, 2))

CPU = Device("CPU", "AMD EPYC", "cpu", 12 << 30, 12 << 30)
CUDA = Device("CUDA0", "Tesla T4", "gpu", T4.free, T4.total)

LAPTOP = Machine(
    system="Linux",
    arch="x86_64",
    python="3.12.3",
    install="python -m pip install",
    versions={"komt-local": "0.1.0", "llama-cpp-python": "0.3.36", "torch": ""},
    wanted={"llama-cpp-python": "0.3.36"},
    cpu=Cpu("Intel(R) Core(TM) i5-4590", HASWELL, 4, 4),
    build=Build("/lib/llama_cpp/lib", ("cpu",), AVX2),
    probe=Probe("computed", (replace(CPU, description="Intel(R) Core(TM) i5-4590"),)),
    nvidia=Nvidia(),
    memory_total=16 << 30,
    memory_available=11 << 30,
    memory_limit=None,
    cache=Folder("/home/me/.cache/huggingface/hub", 4_370_000_000, 200 << 30),
    data=Folder("/home/me/.local/share/komt-local", 0, 200 << 30),
    models=Models(2, "komt-local-demo"),
)

COLAB_T4 = replace(
    LAPTOP,
    cpu=Cpu("Intel(R) Xeon(R) CPU @ 2.00GHz", EPYC, 1, 1),
    nvidia=Nvidia("550.54.15", (12, 4), (T4,), (12,), 1),
    is_colab=True,
)
COLAB_CPU = replace(COLAB_T4, nvidia=Nvidia())
WINDOWS_4090 = replace(
    LAPTOP,
    system="Windows",
    arch="AMD64",
    build=Build("C:/llama_cpp/lib", ("cpu", "cuda"), None, cuda=13),
    nvidia=Nvidia("551.61", (12, 4), (RTX_4090,), (), 0),
)
MAC = replace(
    LAPTOP,
    system="Darwin",
    arch="arm64",
    cpu=Cpu("Apple M2", None, 8, 8),
    build=Build("/lib/llama_cpp/lib", ("cpu",)),
)


def with_cuda_build(machine: Machine, *, major: int = 12, **changes: Any) -> Machine:
    """The machine with a CUDA build installed."""
    return replace(
        machine, build=Build("/lib/llama_cpp/lib", ("cpu", "cuda"), AVX2, cuda=major), **changes
    )
