"""Why a GPU is used or not: the card, its driver, the build, and the runtime between them."""

from __future__ import annotations

from ..hardware import gigabytes
from . import wheels
from .checks import Check, Text, same
from .machine import Device, Machine, Version

_OTHER_BACKENDS = ("vulkan", "hip", "sycl", "metal", "cann", "musa")
_HIDDEN = ("", "-1", "none", "NoDevFiles")


def check(machine: Machine) -> Check | None:
    """The first reason that a GPU is not used, or the GPUs that are; nothing if none could be."""
    if machine.probe.ended in ("killed", "failed"):
        return None
    used = [device for device in machine.probe.devices if device.kind in ("gpu", "igpu")]
    if used:
        return _used(used)
    nvidia = machine.nvidia
    if nvidia.gpus:
        return _unused(machine)
    if nvidia.error or nvidia.cards:
        return _no_driver(machine)
    if machine.system == "Darwin" and machine.arch == "arm64":
        return _no_metal(machine)
    found = Text(
        "No GPU is used: there is no NVIDIA GPU here. The processor computes.",
        "GPU를 쓰지 않습니다. NVIDIA GPU가 없어 프로세서로 계산합니다.",
    )
    return Check("gpu", "ok", found)


def _used(devices: list[Device]) -> Check:
    listed = ", ".join(
        f"{d.description} ({gigabytes(d.free)} / {gigabytes(d.total)})" for d in devices
    )
    return Check("gpu", "ok", Text(f"used: {listed} free", f"사용함: {listed} 남음"))


def _unused(machine: Machine) -> Check:
    """There is a GPU and a driver, and llama.cpp does not see it."""
    build = machine.build
    if build is None or "cuda" not in build.backends:
        return _no_cuda_build(machine)
    if machine.environment.get("CUDA_VISIBLE_DEVICES", "0").strip() in _HIDDEN:
        return _hidden(machine)
    if (cuda := machine.nvidia.cuda) and build.cuda and build.cuda > cuda[0]:
        return _old_driver(machine, cuda, build.cuda)
    if (major := missing_runtime(machine)) is not None:
        return _no_runtime(machine, major)
    found = Text(
        f"{_name(machine)} is there and the build has CUDA, but llama.cpp sees no GPU.",
        f"{_name(machine)}이(가) 있고 CUDA용 빌드인데도 llama.cpp가 GPU를 찾지 못합니다.",
    )
    return Check("gpu", "warn", found, _cuda_wheel(machine), "cuda")


def _no_cuda_build(machine: Machine) -> Check:
    build = machine.build
    other = [name for name in _OTHER_BACKENDS if build and name in build.backends]
    kind = other[0] if other else "CPU"
    found = Text(
        f"{_name(machine)} is not used: the installed llama.cpp is built for {kind} only.",
        f"{_name(machine)}을(를) 쓰지 않습니다. 설치된 llama.cpp가 {kind}용 빌드입니다.",
    )
    return Check("gpu", "warn", found, _cuda_wheel(machine), "cuda")


def _hidden(machine: Machine) -> Check:
    value = machine.environment["CUDA_VISIBLE_DEVICES"]
    found = Text(
        f"{_name(machine)} is hidden by CUDA_VISIBLE_DEVICES={value!r}.",
        f"CUDA_VISIBLE_DEVICES={value!r} 때문에 {_name(machine)}이(가) 보이지 않습니다.",
    )
    return Check("gpu", "warn", found, same("unset CUDA_VISIBLE_DEVICES"), "cuda")


def _old_driver(machine: Machine, cuda: Version, built: int) -> Check:
    found = Text(
        f"The driver {machine.nvidia.driver} runs CUDA up to {cuda[0]}.{cuda[1]}, and the build "
        f"needs CUDA {built}: take another build, or a newer driver.",
        f"드라이버 {machine.nvidia.driver}은(는) CUDA {cuda[0]}.{cuda[1]}까지인데 빌드는 "
        f"CUDA {built}이(가) 필요합니다. 다른 빌드를 설치하거나 드라이버를 올리세요.",
    )
    return Check("gpu", "warn", found, _cuda_wheel(machine), "cuda")


def _no_runtime(machine: Machine, major: int) -> Check:
    found = Text(
        f"The build needs the CUDA {major} runtime (libcudart, libcublas), which is not here.",
        f"빌드에 필요한 CUDA {major} 런타임(libcudart, libcublas)이 없습니다.",
    )
    return Check("gpu", "warn", found, install_runtime(machine, major), "cuda")


def _no_driver(machine: Machine) -> Check:
    said = f" ({machine.nvidia.error})" if machine.nvidia.error else ""
    found = Text(
        f"There is an NVIDIA card, but its driver does not answer{said}.",
        f"NVIDIA 카드가 있지만 드라이버가 응답하지 않습니다{said}.",
    )
    remedy = Text(
        "Install NVIDIA's driver and restart, or start the container with --gpus all; nvidia-smi "
        "must list the card.",
        "NVIDIA 드라이버를 설치하고 다시 시작하거나 컨테이너를 --gpus all로 실행하세요. "
        "nvidia-smi에 카드가 나와야 합니다.",
    )
    return Check("gpu", "warn", found, remedy, "cuda")


def _no_metal(machine: Machine) -> Check:
    if machine.build and "metal" in machine.build.backends:
        unseen = Text(
            "The build has Metal, but macOS offers it no GPU, as in a virtual machine.",
            "Metal 빌드인데 macOS가 GPU를 내주지 않습니다. 가상 머신에서 그렇습니다.",
        )
        return Check("gpu", "ok", unseen)
    found = Text(
        "The installed llama.cpp is built without Metal, so the GPU is not used.",
        "설치된 llama.cpp가 Metal 없이 빌드되어 GPU를 쓰지 않습니다.",
    )
    wanted = machine.wanted["llama-cpp-python"]
    index = f"{wheels.table().index}/metal"
    line = f"{_reinstall(machine)} llama-cpp-python=={wanted} --extra-index-url {index}"
    return Check("gpu", "warn", found, same(line), "macos")


def missing_runtime(machine: Machine) -> int | None:
    """The CUDA runtime that the build is linked to, if the loader does not find it."""
    major = machine.build.cuda if machine.build else None
    return major if major is not None and major not in machine.nvidia.runtimes else None


def install_runtime(machine: Machine, major: int) -> Text:
    """NVIDIA's own packages: up to 12 their names carry the version. The loader needs the path."""
    named = ("nvidia-cuda-runtime", "nvidia-cublas")
    packages = [f"{name}-cu{major}" if major < 13 else f'"{name}=={major}.*"' for name in named]
    line = f"{machine.install} {' '.join(packages)}"
    return Text(
        f"{line}, then LD_LIBRARY_PATH as the page below has it",
        f"{line} 다음에 아래 문서대로 LD_LIBRARY_PATH 설정",
    )


def _cuda_wheel(machine: Machine) -> Text:
    """The wheel for this driver and GPU; where there is none, a build from source."""
    wanted = machine.wanted["llama-cpp-python"]
    build = wheels.choose(machine.nvidia, machine.system, machine.arch)
    line = f"{_reinstall(machine)} llama-cpp-python=={wanted}"
    if build is not None:
        return same(f"{line} --extra-index-url {wheels.table().address(build)}")
    setting = 'CMAKE_ARGS="-DGGML_CUDA=on"'
    if machine.system == "Windows":
        setting = '$env:CMAKE_ARGS="-DGGML_CUDA=on";'
    return same(f"{setting} {line} --no-binary llama-cpp-python")


def _reinstall(machine: Machine) -> str:
    return f"{machine.install} --force-reinstall --no-cache-dir --no-deps"


def _name(machine: Machine) -> str:
    return ", ".join(gpu.name for gpu in machine.nvidia.gpus)
