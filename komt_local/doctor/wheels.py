"""Which prebuilt CUDA wheel of llama-cpp-python belongs to a machine, from the table beside this.

It needs the standard library only, so that it works where komt-local is there and none of the
packages that it needs are.
"""

from __future__ import annotations

import platform
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

from .machine import Gpu, Nvidia, Version

_TABLE = Path(__file__).with_name("wheels.toml")


@dataclass(frozen=True, slots=True)
class Build:
    """One column of the index; `highest` is None where newer GPUs are served as well."""

    name: str
    cuda: Version
    lowest: Version
    highest: Version | None
    systems: frozenset[str]

    def serves(self, gpu: Gpu) -> bool:
        return self.lowest <= gpu.capability <= (self.highest or gpu.capability)


@dataclass(frozen=True, slots=True)
class Table:
    checked: date
    index: str
    releases: tuple[str, ...]
    builds: tuple[Build, ...]

    def address(self, build: Build) -> str:
        return f"{self.index}/{build.name}"


@cache
def table() -> Table:
    """The table as it was when it was last checked."""
    value = tomllib.loads(_TABLE.read_text(encoding="utf-8"))
    return Table(
        value["checked"],
        value["index"],
        tuple(value["releases"]),
        tuple(_build(entry) for entry in value["builds"]),
    )


def _build(entry: dict[str, object]) -> Build:
    cuda, capability = entry["cuda"], entry["capability"]
    systems, name = entry["systems"], entry["name"]
    assert isinstance(cuda, list) and isinstance(capability, list) and isinstance(systems, list)
    highest = tuple(capability[1]) if len(capability) > 1 else None
    return Build(str(name), tuple(cuda), tuple(capability[0]), highest, frozenset(systems))


def choose(nvidia: Nvidia, system: str, arch: str) -> Build | None:
    """The newest build for the driver, for all GPUs, and for the CUDA runtime that is here.

    A runtime that is missing can be installed, so where there is none at all, any will do.
    """
    if nvidia.cuda is None or not nvidia.gpus or arch.lower() not in ("x86_64", "amd64"):
        return None
    fit = [
        build
        for build in table().builds
        if system in build.systems
        and build.cuda <= nvidia.cuda
        and all(build.serves(gpu) for gpu in nvidia.gpus)
        and _has_runtime(build, nvidia.runtimes)
    ]
    return max(fit, key=lambda build: build.cuda, default=None)


def _has_runtime(build: Build, majors: Collection[int]) -> bool:
    return not majors or build.cuda[0] in majors


@dataclass(frozen=True, slots=True)
class Advice:
    """What llama-cpp-python is installed from: an index of wheels, and where that has none, this.

    `cmake_args` are what CMAKE_ARGS has to be for a build from source; `for_gpu` tells whether the
    wheel would use the GPU.
    """

    index: str
    cmake_args: str
    for_gpu: bool


def advice(nvidia: Nvidia, system: str, arch: str) -> Advice:
    """For a machine: CUDA where there is a GPU, else the processor alone."""
    build = choose(nvidia, system, arch)
    cmake = "-DGGML_CUDA=on -DCMAKE_CUDA_ARCHITECTURES=native" if nvidia.gpus else ""
    index = table().address(build) if build else f"{table().index}/cpu"
    return Advice(index, cmake, build is not None)


def here() -> Advice:
    """For this machine."""
    from .nvidia import look

    return advice(look(), platform.system(), platform.machine())
