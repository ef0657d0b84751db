"""What the processor can do, as the operating system says; in the Linux kernel's names."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from pathlib import Path

# ggml's name for a feature → the kernel's, on x86-64 and on AArch64.
KERNEL_NAMES = {
    "sse3": "pni",
    "ssse3": "ssse3",
    "avx": "avx",
    "avx_vnni": "avx_vnni",
    "avx2": "avx2",
    "bmi2": "bmi2",
    "f16c": "f16c",
    "fma": "fma",
    "avx512": "avx512f",
    "avx512_vbmi": "avx512vbmi",
    "avx512_vnni": "avx512_vnni",
    "avx512_bf16": "avx512_bf16",
    "amx_int8": "amx_int8",
    "neon": "asimd",
    "arm_fma": "asimd",
    "fp16_va": "asimdhp",
    "dotprod": "asimddp",
    "matmul_int8": "i8mm",
    "sve": "sve",
    "sme": "sme",
    "sme2": "sme2",
}

_MAC_KEYS = ("machdep.cpu.brand_string", "machdep.cpu.features", "machdep.cpu.leaf7_features")
_MAC_NAMES = {"sse3": "pni", "avx1.0": "avx"}
# IsProcessorFeaturePresent: what Windows tells of.
_WINDOWS_FEATURES = {13: "pni", 36: "ssse3", 39: "avx", 40: "avx2", 41: "avx512f"}


def look(root: Path = Path("/")) -> tuple[str, frozenset[str] | None]:
    """The processor's name and its features; None where the system does not list them."""
    if sys.platform == "darwin":
        return parse_sysctl(_sysctl(*_MAC_KEYS))
    if sys.platform == "win32":
        return platform.processor(), _windows_features()
    try:
        return parse_cpuinfo((root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return platform.processor(), None


def parse_cpuinfo(text: str) -> tuple[str, frozenset[str] | None]:
    """/proc/cpuinfo: `model name` and `flags` on x86-64, `Features` on AArch64."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = fields.get("flags") or fields.get("Features")
    return fields.get("model name", ""), frozenset(flags.split()) if flags else None


def parse_sysctl(values: dict[str, str]) -> tuple[str, frozenset[str] | None]:
    """An Intel Mac lists its features; Apple silicon does not, and every build is for all of it."""
    listed = " ".join(values.get(key, "") for key in _MAC_KEYS[1:]).lower().split()
    names = frozenset(_MAC_NAMES.get(name, name) for name in listed)
    return values.get(_MAC_KEYS[0], ""), names or None


def is_translated() -> bool:
    """Whether Rosetta runs this Intel Python on Apple silicon."""
    key = "sysctl.proc_translated"
    return sys.platform == "darwin" and _sysctl(key).get(key) == "1"


def _sysctl(*keys: str) -> dict[str, str]:
    done = subprocess.run(["sysctl", *keys], capture_output=True, text=True, check=False)
    pairs = (line.partition(": ") for line in done.stdout.splitlines())
    return {key: value.strip() for key, _, value in pairs}


def _windows_features() -> frozenset[str]:
    present = getattr(ctypes, "windll").kernel32.IsProcessorFeaturePresent  # noqa: B009
    return frozenset(name for code, name in _WINDOWS_FEATURES.items() if present(code))
