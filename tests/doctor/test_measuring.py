"""What is measured here is true: the build against ggml's own word, the child against real ends."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import T4

from komt_local.doctor import binary, child, cpu, measure, measuring, nvidia, wheels
from komt_local.doctor.machine import Nvidia
from komt_local.doctor.measuring import folder, installed_build, installer, read_build

ROOT = Path(__file__).parent.parent.parent


def native_folder() -> Path:
    build = installed_build()
    assert build is not None
    return Path(build.folder)


@pytest.mark.skipif(sys.platform != "linux", reason="only ELF files are read")
def test_the_build_needs_what_ggml_says_it_was_built_for() -> None:
    build = installed_build()
    assert build is not None and build.needs is not None and not build.picks_cpu
    ggml = ctypes.CDLL(str(native_folder() / "libggml-cpu.so"))
    for name in cpu.KERNEL_NAMES:
        function = getattr(ggml, f"ggml_cpu_has_{name}", None)
        if function is not None:
            assert bool(function()) == (name in build.needs), name
    assert "cpu" in build.backends


@pytest.mark.skipif(sys.platform != "linux", reason="only ELF files are read")
def test_linked_libraries_are_read() -> None:
    linked = binary.needed(native_folder() / "libllama.so")
    assert any(name.startswith("libggml-base.so") for name in linked)
    assert "libc.so.6" in linked


def test_a_windows_library_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ggml-cpu.dll"
    yes, no = bytes.fromhex("b801000000c3"), bytes.fromhex("33c0c3")
    functions = {"ggml_cpu_has_avx": yes, "ggml_cpu_has_avx512": no, "ggml_cpu_init": b"\xc3"}
    path.write_bytes(windows_library(functions, ["KERNEL32.dll", "cudart64_12.dll"]))
    assert binary.built_for(path) == {"avx"}
    assert binary.needed(path) == ("KERNEL32.dll", "cudart64_12.dll")


def test_the_cuda_of_a_build_is_that_of_its_libraries(tmp_path: Path) -> None:
    for library, major in (("cudart64_110.dll", 11), ("cublas64_13.dll", 13), ("a.dll", None)):
        (tmp_path / "ggml-cuda.dll").write_bytes(windows_library({}, [library]))
        assert measuring.read_build(tmp_path).cuda == major


def windows_library(functions: dict[str, bytes], libraries: list[str]) -> bytes:
    """A PE32+ file with one section at address 0x1000 that is at offset 0x200 in the file."""
    body = bytearray(0x400)  # room for the two tables; what they point to follows

    def put(content: bytes) -> int:
        body.extend(content.ljust(16, b"\0"))
        return 0x1000 + len(body) - len(content.ljust(16, b"\0"))

    def array(kind: str, values: list[int]) -> int:
        return put(struct.pack(f"<{len(values)}{kind}", *values))

    code = array("I", [put(content) for content in functions.values()])
    names = array("I", [put(name.encode() + b"\0") for name in functions])
    ordinals = array("H", list(range(len(functions))))
    struct.pack_into("<4I", body, 24, len(functions), code, names, ordinals)
    for i, library in enumerate(libraries):
        struct.pack_into("<12xI", body, 0x100 + 20 * i, put(library.encode() + b"\0"))
    header = bytearray(0x200)
    header[:2] = b"MZ"
    struct.pack_into("<I", header, 0x3C, 0x40)
    struct.pack_into("<4s2xH12xH", header, 0x40, b"PE\0\0", 1, 240)
    struct.pack_into("<H", header, 0x58, 0x20B)
    struct.pack_into("<I4xI", header, 0x58 + 112, 0x1000, 0x1100)
    struct.pack_into("<8x4I", header, 0x58 + 240, len(body), 0x1000, len(body), 0x200)
    return bytes(header + body)


@given(st.binary(max_size=400), st.sampled_from([b"", b"\x7fELF\x02\x01", b"MZ"]))
def test_no_file_breaks_the_reader(content: bytes, kind: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "library"
        path.write_bytes(kind + content)
        assert binary.built_for(path) is None
        assert isinstance(binary.needed(path), tuple)


def test_builds_that_choose_at_run_time_are_told_apart(tmp_path: Path) -> None:
    for name in ("libggml-base.so", "libggml-cpu-haswell.so", "libggml-cpu-zen4.so"):
        (tmp_path / name).write_bytes(b"")
    build = read_build(tmp_path)
    assert build.picks_cpu and build.needs is None and build.backends == ("cpu",)


def test_the_child_computes(tiny_gguf: Path) -> None:
    probe = child.probe(tiny_gguf)
    assert probe.ended == "computed", probe
    assert [device.kind for device in probe.devices] == ["cpu"]
    assert probe.devices[0].total > 1 << 30


def test_a_model_that_does_not_load_is_said(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF")
    probe = child.probe(broken)
    assert probe.ended == "failed" and "broken.gguf" in probe.error and probe.devices


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("name", ["ILL", "ABRT", "KILL"])
def test_what_kills_the_child_is_only_reported(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\necho '{json.dumps({'devices': []})}'\nkill -{name} $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    probe = child.probe()
    assert (probe.ended, probe.signal) == ("killed", f"SIG{name}")


def test_windows_has_codes_in_place_of_signals() -> None:
    assert child.read("", "", 0xC000001D).signal == "SIGILL"
    assert child.read("", "", 1).ended == "failed"


def test_cpuinfo_of_both_architectures() -> None:
    intel = "processor\t: 0\nmodel name\t: i5\nflags\t\t: fpu avx2\n\nprocessor\t: 1\nflags\t: x\n"
    assert cpu.parse_cpuinfo(intel) == ("i5", frozenset({"fpu", "avx2"}))
    arm = "processor\t: 0\nFeatures\t: asimd sve\n"
    assert cpu.parse_cpuinfo(arm) == ("", frozenset({"asimd", "sve"}))
    assert cpu.parse_cpuinfo("") == ("", None)


def test_sysctl_of_both_kinds_of_macs() -> None:
    brand, features, leaf7 = (
        "machdep.cpu.brand_string",
        "machdep.cpu.features",
        "machdep.cpu.leaf7_features",
    )
    intel = {brand: "i7", features: "SSE3 AVX1.0 FMA F16C", leaf7: "BMI2 AVX2"}
    assert cpu.parse_sysctl(intel) == (
        "i7",
        frozenset({"pni", "avx", "fma", "f16c", "bmi2", "avx2"}),
    )
    assert cpu.parse_sysctl({brand: "Apple M2"}) == ("Apple M2", None)


class Driver:
    """Stands for NVML: what a machine with one T4 answers."""

    def __init__(self, status: int = 0) -> None:
        self.status, self.was_shut_down = status, False

    def nvmlInit_v2(self) -> int:
        return self.status

    def nvmlShutdown(self) -> int:
        self.was_shut_down = True
        return 0

    def nvmlErrorString(self, status: int) -> bytes:
        return b"Driver/library version mismatch"

    def nvmlSystemGetDriverVersion(self, buffer: Any, size: Any) -> int:
        buffer.value = b"550.54.15"
        return 0

    def nvmlSystemGetCudaDriverVersion_v2(self, number: Any) -> int:
        number._obj.value = 12040
        return 0

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = 1
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, handle: Any) -> int:
        return 0

    def nvmlDeviceGetMemoryInfo(self, handle: Any, memory: Any) -> int:
        memory._obj.total, memory._obj.free = T4.total, T4.free
        return 0

    def nvmlDeviceGetCudaComputeCapability(self, handle: Any, major: Any, minor: Any) -> int:
        major._obj.value, minor._obj.value = 7, 5
        return 0

    def nvmlDeviceGetName(self, handle: Any, buffer: Any, size: Any) -> int:
        buffer.value = b"Tesla T4"
        return 0


def driver_says(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Nvidia:
    function = type(driver).nvmlErrorString
    monkeypatch.setattr(Driver, "nvmlErrorString", Words(function, driver))
    monkeypatch.setattr(nvidia, "_load", lambda names: driver)
    monkeypatch.setattr(nvidia, "runtimes", lambda: (12,))
    monkeypatch.setattr(nvidia, "cards", lambda: 1)
    return nvidia.look()


class Words:
    """A function whose result type can be set, as those of ctypes."""

    restype: Any = None

    def __init__(self, function: Any, driver: Driver) -> None:
        self.function, self.driver = function, driver

    def __call__(self, status: int) -> bytes:
        assert self.restype is ctypes.c_char_p
        return bytes(self.function(self.driver, status))


def test_the_driver_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    assert driver_says(driver, monkeypatch) == Nvidia("550.54.15", (12, 4), (T4,), (12,), 1)
    assert driver.was_shut_down


def test_a_driver_that_fails_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    found = driver_says(Driver(status=18), monkeypatch)
    assert found == Nvidia(
        runtimes=(12,), cards=1, error="nvmlInit_v2: Driver/library version mismatch"
    )


def test_cards_are_counted_without_a_driver(tmp_path: Path) -> None:
    for slot, (vendor, kind) in enumerate(
        [("0x10de", "0x030200"), ("0x10de", "0x040300"), ("0x8086", "0x030000")]
    ):
        device = tmp_path / "sys/bus/pci/devices" / f"0000:0{slot}:00.0"
        device.mkdir(parents=True)
        (device / "vendor").write_text(vendor + "\n")
        (device / "class").write_text(kind + "\n")
    assert nvidia.cards(tmp_path) == 1


def test_a_folder_counts_files_once_and_need_not_exist(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"x" * 1000)
    (tmp_path / "link").symlink_to(tmp_path / "blob")
    found = folder(tmp_path)
    assert 1000 <= found.size < 1500 and found.writable and found.free > 0
    assert folder(tmp_path / "no" / "such").size == 0


def test_a_proxy_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy:3128")
    shown = measure(try_out=False).environment["HTTPS_PROXY"]
    assert shown == "http://***@proxy:3128"


def test_colab_is_known_by_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLAB_GPU", raising=False)
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    assert measure(try_out=False).is_colab


def test_pipx_installs_with_pipx(monkeypatch: pytest.MonkeyPatch) -> None:
    assert installer().startswith((sys.executable, "uv pip install"))
    monkeypatch.setattr(sys, "prefix", "/home/me/.local/share/pipx/venvs/komt-local")
    assert installer() == "pipx runpip komt-local install"


def test_the_table_of_wheels_is_sane() -> None:
    table = wheels.table()
    assert [build.cuda for build in table.builds] == sorted(build.cuda for build in table.builds)
    for build in table.builds:
        assert build.name == f"cu{build.cuda[0]}{build.cuda[1]}"
        assert build.systems <= {"Linux", "Windows", "Darwin"}
    assert table.checked.year >= 2026


def test_the_wheel_is_chosen_before_anything_is_installed() -> None:
    code = "from komt_local.doctor import wheels; print(wheels.here().index)"
    done = subprocess.run(
        [sys.executable, "-S", "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(wheels.table().index)
