"""From a machine to findings: one pure function for each check, in the order they are read.

Each `page` is a heading of docs/troubleshooting.md.
"""

from __future__ import annotations

from collections.abc import Callable

from ..hardware import gigabytes
from . import gpu, native
from .checks import Check, Text, same
from .machine import Folder, Machine

_LITTLE_MEMORY = 2 << 30
_LITTLE_DISK = 10 << 30
# Memory that a model in Q4_K_M takes with a context of 8,192 tokens, as `list --all` has it.
_SIZES = ((12 << 30, "13B"), (7 << 30, "7B"), (4 << 30, "3B"), (0, "1B"))


def examine(machine: Machine) -> list[Check]:
    """Everything that can be said about a machine."""
    return [check for look in _CHECKS if (check := look(machine)) is not None]


# --- the program and its parts -------------------------------------------------------------------


def _program(machine: Machine) -> Check:
    versions = ", ".join(
        f"{name} {version}" for name, version in machine.versions.items() if version
    )
    where = f"{machine.system} {machine.arch}, Python {machine.python}"
    return Check("program", "ok", same(f"{where}; {versions}"))


def _binding(machine: Machine) -> Check:
    """llama-cpp-python: there, and of the version whose structs this program knows."""
    wanted = machine.wanted["llama-cpp-python"]
    found = machine.versions.get("llama-cpp-python", "")
    remedy = same(f"{machine.install} --force-reinstall llama-cpp-python=={wanted}")
    if not found or machine.build is None:
        missing = Text("llama-cpp-python is not installed.", "llama-cpp-python이 없습니다.")
        return Check("llama-cpp-python", "fail", missing, remedy, "build")
    if found != wanted:
        other = Text(
            f"llama-cpp-python {found} is installed; this version of komt-local works with "
            f"{wanted} only.",
            f"llama-cpp-python {found}이(가) 설치되어 있습니다. 이 komt-local은 {wanted}에서만 "
            "동작합니다.",
        )
        return Check("llama-cpp-python", "fail", other, remedy, "build")
    return Check("llama-cpp-python", "ok", same(f"{found}: {', '.join(machine.build.backends)}"))


# --- threads, memory and disk --------------------------------------------------------------------


def _threads(machine: Machine) -> Check:
    cpu = machine.cpu
    if cpu.threads < cpu.physical_cores:
        limited = Text(
            f"{cpu.threads} threads: this process may use {cpu.threads} of {cpu.physical_cores} "
            "physical cores.",
            f"스레드 {cpu.threads}개: 물리 코어 {cpu.physical_cores}개 가운데 {cpu.threads}개만 "
            "쓸 수 있습니다.",
        )
        return Check("threads", "ok", limited)
    every = Text(
        f"{cpu.threads} threads, one for each physical core",
        f"스레드 {cpu.threads}개(물리 코어마다 하나)",
    )
    return Check("threads", "ok", every)


def _memory(machine: Machine) -> Check:
    available = machine.memory_available
    fits = next(name for least, name in _SIZES if available >= least)
    limit = machine.memory_limit is not None and machine.memory_limit <= available
    en, ko = (" (limited by a control group)", "(컨트롤 그룹의 제한)") if limit else ("", "")
    found = Text(
        f"{gigabytes(available)} of {gigabytes(machine.memory_total)} can be used{en}: models up "
        f"to about {fits} in Q4_K_M",
        f"{gigabytes(machine.memory_total)} 가운데 {gigabytes(available)} 사용 가능{ko}: "
        f"Q4_K_M으로 약 {fits} 모델까지",
    )
    if available >= _LITTLE_MEMORY:
        return Check("memory", "ok", found)
    remedy = Text(
        "Close other programs, or take a smaller model: komt-local list --all",
        "다른 프로그램을 닫거나 더 작은 모델을 쓰세요: komt-local list --all",
    )
    return Check("memory", "warn", found, remedy)


def _cache(machine: Machine) -> Check:
    return _folder("cache", machine.cache, "HF_HOME")


def _data(machine: Machine) -> Check:
    return _folder("data", machine.data, "KOMT_LOCAL_HOME")


def _folder(name: str, folder: Folder, variable: str) -> Check:
    en, ko = "", ""
    if folder.partial:
        en = f", {gigabytes(folder.partial)} of it unfinished downloads"
        ko = f"(받다 만 것 {gigabytes(folder.partial)} 포함)"
    found = Text(
        f"{folder.path}: {gigabytes(folder.size)} used{en}, {gigabytes(folder.free)} free",
        f"{folder.path}: {gigabytes(folder.size)} 사용{ko}, 여유 {gigabytes(folder.free)}",
    )
    elsewhere = Text(
        f"Set {variable} to a folder on a disk with room that you may write to.",
        f"{variable}을(를) 쓸 수 있고 공간이 있는 디스크의 폴더로 정하세요.",
    )
    if not folder.writable or folder.free < _LITTLE_DISK:
        return Check(name, "warn", found, elsewhere, "disk")
    return Check(name, "ok", found)


# --- models and surroundings ---------------------------------------------------------------------


def _models(machine: Machine) -> Check:
    models = machine.models
    if models.problem:
        remedy = Text(
            "komt-local pull komt-mistral-7b-v1, then komt-local default komt-mistral-7b-v1",
            "komt-local pull komt-mistral-7b-v1 다음에 komt-local default komt-mistral-7b-v1",
        )
        return Check("models", "warn", Text(*models.problem), remedy)
    found = Text(
        f"{models.count} on this machine; without a name, {models.default}",
        f"{models.count}개 있음. 이름이 없으면 {models.default}",
    )
    return Check("models", "ok", found)


def _network(machine: Machine) -> Check | None:
    """The variables that decide where models come from; nothing is contacted to find out."""
    settings = {
        name: value
        for name, value in machine.environment.items()
        if name.startswith("HF_") or name.lower().endswith("_proxy")
    }
    if not settings:
        return None
    listed = same(", ".join(f"{name}={value}" for name, value in settings.items()))
    if settings.get("HF_HUB_OFFLINE", "").upper() not in ("1", "ON", "YES", "TRUE"):
        return Check("network", "ok", listed)
    remedy = Text(
        "To pull models, unset HF_HUB_OFFLINE.", "모델을 받으려면 HF_HUB_OFFLINE을 지우세요."
    )
    return Check("network", "ok", listed, remedy, "offline")


def _encoding(machine: Machine) -> Check | None:
    if machine.encoding.replace("-", "") in ("utf8", "cp65001"):
        return None
    found = Text(
        f"The terminal's encoding is {machine.encoding or 'unknown'}, which lacks Hangul: "
        "it shows as '?'.",
        f"터미널 인코딩이 {machine.encoding or '알 수 없음'}이라 한글이 '?'로 보입니다.",
    )
    line = "set PYTHONUTF8=1" if machine.system == "Windows" else "export LANG=C.UTF-8"
    return Check("terminal", "warn", found, same(line), "hangul")


def _colab(machine: Machine) -> Check | None:
    if not machine.is_colab:
        return None
    if machine.nvidia.gpus:
        found = Text(
            "Google Colab with a GPU; what is not saved to Drive is lost when it ends.",
            "GPU가 있는 구글 코랩. 드라이브에 저장하지 않은 것은 세션이 끝나면 사라집니다.",
        )
        return Check("colab", "ok", found)
    found = Text("Google Colab without a GPU.", "GPU가 없는 구글 코랩입니다.")
    remedy = Text(
        "Runtime → Change runtime type → T4 GPU, then run the notebook from its first cell.",
        "런타임 → 런타임 유형 변경 → T4 GPU를 고르고 첫 셀부터 다시 실행하세요.",
    )
    return Check("colab", "warn", found, remedy, "colab")


_CHECKS: tuple[Callable[[Machine], Check | None], ...] = (
    _program,
    _binding,
    native.check_processor,
    native.check_trial,
    gpu.check,
    _threads,
    _memory,
    _cache,
    _data,
    _models,
    _network,
    _encoding,
    _colab,
)
