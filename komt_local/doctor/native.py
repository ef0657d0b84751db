"""Whether the installed llama.cpp is for this processor: by its file, then by how it fared."""

from __future__ import annotations

from . import gpu
from .checks import Check, Text, same
from .cpu import KERNEL_NAMES
from .machine import Machine

# Without these, generation takes several times as long.
_FAST = {"avx2", "fma", "f16c"}


def check_processor(machine: Machine) -> Check | None:
    """What the build takes for granted, against what the processor has."""
    build, has = machine.build, machine.cpu.features
    if build is None:
        return None
    if machine.is_translated:
        return _translated(machine)
    if build.picks_cpu:
        chosen = Text(
            "The build picks the code for this processor as it starts.",
            "이 프로세서에 맞는 코드를 실행할 때 고르는 빌드입니다.",
        )
        return Check("cpu", "ok", chosen)
    if build.needs is None or has is None:
        unknown = Text(
            f"{machine.cpu.name or machine.arch}; the build does not say what it needs, so only "
            "trying it out tells.",
            f"{machine.cpu.name or machine.arch}. 빌드에 필요한 명령어는 파일에서 알 수 없어 "
            "실행해 보아야 합니다.",
        )
        return Check("cpu", "ok", unknown)
    missing = sorted(name for name in build.needs & KERNEL_NAMES.keys() if not _has(has, name))
    if missing:
        return _lacks(machine, missing)
    unused = sorted(name for name in _FAST - build.needs if _has(has, name))
    return _slow(machine, unused) if unused else _fits(machine)


def _has(features: frozenset[str], name: str) -> bool:
    return KERNEL_NAMES[name] in features


def _lacks(machine: Machine, missing: list[str]) -> Check:
    names = ", ".join(missing)
    found = Text(
        f"The installed llama.cpp was built for {names}, which this processor lacks: it dies of an "
        "illegal instruction. Build it here.",
        f"설치된 llama.cpp는 이 프로세서에 없는 {names}을(를) 쓰도록 빌드되어 '잘못된 명령어'로 "
        "죽습니다. 이 컴퓨터에서 빌드하세요.",
    )
    return Check("cpu", "fail", found, _rebuild(machine), "illegal-instruction")


def _slow(machine: Machine, unused: list[str]) -> Check:
    names = ", ".join(unused)
    found = Text(
        f"The installed llama.cpp leaves {names} of this processor unused and is several times "
        "slower for it.",
        f"설치된 llama.cpp가 이 프로세서의 {names}을(를) 쓰지 않아 몇 배 느립니다.",
    )
    return Check("cpu", "warn", found, _rebuild(machine), "slow")


def _fits(machine: Machine) -> Check:
    assert machine.build is not None and machine.build.needs is not None
    needs = ", ".join(sorted(machine.build.needs & KERNEL_NAMES.keys()))
    name = machine.cpu.name or machine.arch
    return Check(
        "cpu", "ok", Text(f"{name} has what the build uses: {needs}", f"{name}: {needs} 사용")
    )


def _rebuild(machine: Machine) -> Text:
    wanted = machine.wanted["llama-cpp-python"]
    flags = "--force-reinstall --no-cache-dir --no-deps --no-binary llama-cpp-python"
    return same(f"{machine.install} {flags} llama-cpp-python=={wanted}")


def _translated(machine: Machine) -> Check:
    found = Text(
        "This Python is an Intel program that Rosetta translates; llama.cpp finds neither AVX nor "
        "Metal.",
        "이 파이썬은 Rosetta가 번역하는 인텔용이라 llama.cpp가 AVX도 Metal도 쓰지 못합니다.",
    )
    remedy = Text(
        "Install with an arm64 Python: uv tool install --python 3.12-macos-aarch64 komt-local",
        "arm64 파이썬으로 설치하세요: uv tool install --python 3.12-macos-aarch64 komt-local",
    )
    return Check("cpu", "warn", found, remedy, "macos")


def check_trial(machine: Machine) -> Check | None:
    """How llama.cpp fared when it was run."""
    probe = machine.probe
    if probe.ended == "absent":
        return None
    if probe.ended == "killed":
        return _killed(machine)
    if probe.ended == "failed":
        return _failed(machine)
    devices = ", ".join(f"{d.name} ({d.description})" for d in probe.devices)
    if probe.ended == "loaded":
        return Check("llama.cpp", "ok", Text(f"loads; {devices}", f"불러옴, {devices}"))
    return Check("llama.cpp", "ok", Text(f"loads and computes; {devices}", f"동작함, {devices}"))


def _killed(machine: Machine) -> Check:
    probe = machine.probe
    if probe.signal == "SIGILL":
        found = Text(
            "llama.cpp ran into an illegal instruction: it was built for another processor.",
            "llama.cpp가 '잘못된 명령어'로 죽었습니다. 다른 프로세서용으로 빌드된 것입니다.",
        )
        return Check("llama.cpp", "fail", found, _rebuild(machine), "illegal-instruction")
    said = f" ({probe.error})" if probe.error else ""
    found = Text(
        f"llama.cpp was killed by {probe.signal}{said}.",
        f"llama.cpp가 {probe.signal}(으)로 죽었습니다{said}.",
    )
    return Check("llama.cpp", "fail", found, _rebuild(machine), "build")


def _failed(machine: Machine) -> Check:
    error = machine.probe.error or "?"
    found = Text(f"llama.cpp does not run: {error}", f"llama.cpp가 실행되지 않습니다: {error}")
    if major := gpu.missing_runtime(machine):
        return Check("llama.cpp", "fail", found, gpu.install_runtime(machine, major), "cuda")
    if machine.probe.devices:  # llama.cpp is up; what failed after that is komt-local's own
        again = same(f"{machine.install} --force-reinstall --no-deps komt-local")
        return Check("llama.cpp", "fail", found, again)
    return Check("llama.cpp", "fail", found, _rebuild(machine), "build")
