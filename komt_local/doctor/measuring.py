"""`measure`: looks at this machine, and decides nothing.

Each part is measured on its own; what cannot be known is left empty rather than guessed.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from .machine import Build, Cpu, Folder, Machine, Models, Probe

_PACKAGES = (
    "komt-local",
    "llama-cpp-python",
    "gguf",
    "huggingface_hub",
    "numpy",
    "sentencepiece",
    "tokenizers",
    "numba",
    "torch",
    "transformers",
)
_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "KOMT_LOCAL_HOME",
    "LD_LIBRARY_PATH",
    "https_proxy",
    "http_proxy",
)
_LIBRARY = re.compile(r"(?:lib)?ggml-(?P<backend>[a-z]+)(?P<variant>[-.].*)?\.(?:so|dylib|dll)")
_CUDA_RUNTIME = re.compile(r"(?:lib)?(?:cudart|cublas)(?:\.so\.|64_)(\d\d)")


def measure(*, try_out: bool = True) -> Machine:
    """This machine; without `try_out`, llama.cpp is not loaded even in a child process."""
    import psutil

    from .. import hardware
    from . import cpu, nvidia

    name, features = cpu.look()
    memory = psutil.virtual_memory()
    build = installed_build()
    return Machine(
        system=platform.system(),
        arch=platform.machine(),
        python=platform.python_version(),
        install=installer(),
        versions=versions(),
        wanted=pinned(),
        cpu=Cpu(
            name,
            features,
            psutil.cpu_count(logical=False) or os.cpu_count() or 1,
            hardware.physical_cores(),
        ),
        build=build,
        probe=_probe() if try_out and build is not None else Probe("absent"),
        nvidia=nvidia.look(),
        memory_total=int(memory.total),
        memory_available=hardware.available_memory(),
        memory_limit=min(hardware.cgroup_room(), default=None),
        cache=_cache(),
        data=_data(),
        models=_models(),
        encoding=(sys.stdout.encoding or "").lower(),
        environment={name: _shown(name) for name in _VARIABLES if name in os.environ},
        is_colab=is_colab(),
        is_translated=cpu.is_translated(),
    )


def _probe() -> Probe:
    from ..library import embedded
    from .child import probe

    return probe(embedded() if embedded().is_file() else None)


# --- what is installed ---------------------------------------------------------------------------


def versions() -> dict[str, str]:
    """Installed versions; empty for what is not there."""
    return {name: _version(name) for name in _PACKAGES}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def pinned() -> dict[str, str]:
    """The versions that this program holds some of its dependencies to."""
    from ..llama.library import PINNED_VERSION

    return {"llama-cpp-python": PINNED_VERSION}


def installer() -> str:
    """How this environment installs packages: it has pip, or what made it has."""
    prefix = Path(sys.prefix)
    if prefix.parent.name == "venvs" and prefix.parent.parent.name == "pipx":
        return f"pipx runpip {prefix.name} install"
    try:
        metadata.version("pip")
    except metadata.PackageNotFoundError:
        return f"uv pip install --python {sys.executable}"
    return f"{sys.executable} -m pip install"


def installed_build() -> Build | None:
    """The llama.cpp that llama-cpp-python brought, found without importing it."""
    try:
        files = metadata.distribution("llama-cpp-python").locate_file("llama_cpp/lib")
    except metadata.PackageNotFoundError:
        return None
    folder = Path(str(files))
    return read_build(folder) if folder.is_dir() else None


def read_build(folder: Path) -> Build:
    """What the libraries in a folder are, by their names and headers."""
    from .binary import built_for, needed

    found = dict(_libraries(folder))
    cpus = [path for key, path in found.items() if key.startswith("cpu")]
    linked = needed(found["cuda"]) if "cuda" in found else ()
    return Build(
        str(folder),
        tuple(sorted({key.split("-")[0] for key in found} - {"base"})),
        built_for(cpus[0]) if len(cpus) == 1 else None,
        len(cpus) > 1,
        next((int(match[1]) for name in linked if (match := _CUDA_RUNTIME.match(name))), None),
    )


def _libraries(folder: Path) -> Iterator[tuple[str, Path]]:
    """ggml's libraries by backend and variant: `base`, `cpu`, `cuda`, `cpu-haswell`."""
    for path in sorted(folder.iterdir()):
        if match := _LIBRARY.fullmatch(path.name):
            variant = match["variant"] or ""
            yield match["backend"] + (variant if variant.startswith("-") else ""), path


def is_colab() -> bool:
    """Whether this is a Google Colab notebook's machine."""
    return "COLAB_RELEASE_TAG" in os.environ or "COLAB_GPU" in os.environ


def _shown(name: str) -> str:
    """A variable's value, without the name and password that a proxy's address may hold."""
    return re.sub(r"//[^/@]*@", "//***@", os.environ[name])


# --- what is kept --------------------------------------------------------------------------------


def _cache() -> Folder:
    from ..library.cache import cache_folder, repos

    partials = [path for repo in repos() for path in repo.partials()]
    return folder(cache_folder(), sum(_size(path) for path in partials))


def _data() -> Folder:
    from ..library.records import data_folder

    return folder(data_folder())


def folder(path: Path, partial: int = 0) -> Folder:
    """A folder with everything in it; links are not followed, so that blobs count once."""
    existing = next(p for p in (path, *path.absolute().parents) if p.exists())
    try:
        free = shutil.disk_usage(existing).free
    except OSError:
        free = 0
    size = sum(_size(Path(top) / name) for top, _, names in os.walk(path) for name in names)
    return Folder(str(path), size, free, os.access(existing, os.W_OK), partial)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _models() -> Models:
    from ..errors import KomtError
    from ..library import EMBEDDED_NAME, describe, records, resolve
    from ..library.contents import names

    try:
        default = records.load().default or EMBEDDED_NAME
        count = len(set(names()))
    except KomtError as error:
        return Models(0, "", (str(error), error.ko))
    try:
        describe(resolve())
    except KomtError as error:
        return Models(count, default, (str(error), error.ko))
    return Models(count, default)
