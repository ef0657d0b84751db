"""llama.cpp tried out in a process of its own, so that what kills it is only reported.

As a program (`python -m komt_local.doctor.child [MODEL]`) it loads llama.cpp, prints its devices as
one line of JSON, answers with one token of MODEL, and prints a second line. `probe` runs that.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from .machine import Device, Probe

_SECONDS = 120
_KINDS = {0: "cpu", 1: "gpu", 2: "igpu", 3: "accel"}
# Windows has exit codes in place of signals; this one is STATUS_ILLEGAL_INSTRUCTION.
_WINDOWS_CODES = {0xC000001D: "SIGILL", 0xC0000005: "SIGSEGV"}


def probe(model: Path | None = None) -> Probe:
    """How llama.cpp fares here: loaded, and with a model file, computing."""
    command = [sys.executable, "-m", __name__, *([str(model)] if model else [])]
    root = str(Path(__file__).parent.parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"}
    try:
        done = subprocess.run(
            command, capture_output=True, env=environment, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        return read(_text(error.stdout), f"no answer in {_SECONDS} seconds", 1)
    except OSError as error:
        return Probe("failed", error=str(error))
    return read(_text(done.stdout), _text(done.stderr), done.returncode)


def read(output: str, complaints: str, status: int) -> Probe:
    """What the child's lines, its last words and its exit status mean."""
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    said = {key: value for line in lines for key, value in line.items()}
    devices = tuple(Device(**device) for device in said.get("devices", []))
    last = next((line for line in reversed(complaints.strip().splitlines()) if line), "")
    if name := _killer(status):
        return Probe("killed", devices, name, last)
    if status or "devices" not in said:
        return Probe("failed", devices, error=said.get("error") or last)
    return Probe("computed" if said.get("computed") else "loaded", devices)


def _killer(status: int) -> str:
    """The signal that ended a process, empty if none did."""
    if status < 0:
        try:
            return signal.Signals(-status).name
        except ValueError:
            return f"signal {-status}"
    return _WINDOWS_CODES.get(status & 0xFFFFFFFF, "")


def _text(output: bytes | None) -> str:
    return (output or b"").decode("utf-8", "replace")


# --- in the child --------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    """Load, tell, compute, tell; an error in between is told as well."""
    try:
        _tell(devices=_devices())
        if arguments:
            _answer(Path(arguments[0]))
            _tell(computed=True)
    except Exception as error:
        _tell(error=f"{error}")
        return 1
    return 0


def _tell(**what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _devices() -> list[dict[str, Any]]:
    from ..llama.library import ggml_function, native

    native()
    count = ggml_function("ggml_backend_dev_count")
    count.restype = _size()
    return [_device(index) for index in range(count())]


def _device(index: int) -> dict[str, Any]:
    """One device of ggml's. https://github.com/ggml-org/ggml/blob/master/include/ggml-backend.h"""
    import ctypes

    from ..llama.library import ggml_function

    def function(name: str, result: Any, *arguments: Any) -> Any:
        found = ggml_function(f"ggml_backend_dev_{name}")
        found.restype, found.argtypes = result, arguments
        return found

    pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, _size()
    device = function("get", pointer, size)(index)
    free, total = size(), size()
    to_size = ctypes.POINTER(size)
    function("memory", None, pointer, to_size, to_size)(
        device, ctypes.byref(free), ctypes.byref(total)
    )
    return {
        "name": function("name", text, pointer)(device).decode("utf-8", "replace"),
        "description": function("description", text, pointer)(device).decode("utf-8", "replace"),
        "kind": _KINDS.get(function("type", ctypes.c_int, pointer)(device), "other"),
        "free": free.value,
        "total": total.value,
    }


def _size() -> Any:
    import ctypes

    return ctypes.c_size_t


def _answer(model: Path) -> None:
    """One token on the CPU: every kernel of a small model has run then."""
    from ..model import Model

    with Model.load(model, n_ctx=256, gpu_layers=0, threads=1) as opened:
        opened.complete("1", max_tokens=1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
