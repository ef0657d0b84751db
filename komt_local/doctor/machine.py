"""A machine as data: what `measure` found, and what the tests have recorded of others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Version = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Cpu:
    """`features` are named as the Linux kernel does; None where they cannot be known."""

    name: str = ""
    features: frozenset[str] | None = None
    physical_cores: int = 1
    threads: int = 1
    """What this program computes with: physical cores within the limits of the process."""


@dataclass(frozen=True, slots=True)
class Build:
    """The installed llama.cpp, read from its files: nothing of it has run.

    `needs` are CPU features under ggml's names, None where the file does not say; `picks_cpu` if
    there are several CPU builds of which one is chosen at run time; `cuda` is the major version of
    the CUDA runtime that it is linked to.
    """

    folder: str
    backends: tuple[str, ...] = ()
    needs: frozenset[str] | None = None
    picks_cpu: bool = False
    cuda: int | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """What a backend computes on; memory in bytes. `kind` is cpu, gpu, igpu or accel."""

    name: str
    description: str
    kind: str
    free: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """How llama.cpp fared in a child process.

    `ended` is how far it came: `loaded` with its devices, `computed` a token, or the way it failed;
    `signal` is the name of what killed it, `error` what it said.
    """

    ended: Literal["absent", "failed", "killed", "loaded", "computed"]
    devices: tuple[Device, ...] = ()
    signal: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Gpu:
    """An NVIDIA GPU; memory in bytes."""

    name: str
    free: int
    total: int
    capability: Version


@dataclass(frozen=True, slots=True)
class Nvidia:
    """What the NVIDIA driver says, and what can be seen without it.

    `cuda` is the newest version that the driver runs, `runtimes` the major versions of the CUDA
    runtime that the loader finds, `cards` the number of cards on the bus, `error` why the driver
    did not answer.
    """

    driver: str = ""
    cuda: Version | None = None
    gpus: tuple[Gpu, ...] = ()
    runtimes: tuple[int, ...] = ()
    cards: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Folder:
    """A place that is written to: `size` of what is there, `free` on its disk, in bytes."""

    path: str
    size: int
    free: int
    writable: bool = True
    partial: int = 0
    """Bytes of downloads that have begun and not ended."""


@dataclass(frozen=True, slots=True)
class Models:
    """What there is to talk with; `problem` is what is wrong with the default."""

    count: int
    default: str
    problem: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything that the checks look at. Memory in bytes."""

    system: str
    arch: str
    python: str
    install: str
    """How packages are installed into this environment: the command up to the package's name."""
    versions: Mapping[str, str]
    wanted: Mapping[str, str]
    """Versions that are pinned, by distribution."""
    cpu: Cpu
    build: Build | None
    probe: Probe
    nvidia: Nvidia
    memory_total: int
    memory_available: int
    memory_limit: int | None
    cache: Folder
    data: Folder
    models: Models
    encoding: str = "utf-8"
    environment: Mapping[str, str] = field(default_factory=dict)
    is_colab: bool = False
    is_translated: bool = False
    """Python runs on Apple silicon as an Intel program."""

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        values = asdict(self)
        for part in ("cpu", "build"):
            for key in ("features", "needs"):
                if values[part] and isinstance(values[part].get(key), frozenset):
                    values[part][key] = sorted(values[part][key])
        return values
