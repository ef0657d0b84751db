"""What fits: arithmetic, and control groups read from files laid out as the kernel does."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from komt_local import hardware
from komt_local.hardware import Demand, Shape

LLAMA_2_7B = Shape(n_layer=32, kv_row=32 * 256, n_embd=4096, n_ff=11008, n_vocab=32000)
GIGA = 1 << 30


def test_kv_cache_of_llama_2_7b() -> None:
    assert hardware.kv_cache_bytes(LLAMA_2_7B, 4096, Demand()) == 2 * GIGA
    assert hardware.kv_cache_bytes(LLAMA_2_7B, 4096, Demand(2, value_bytes=4)) == 8 * GIGA
    one, block = (hardware.kv_cache_bytes(LLAMA_2_7B, n, Demand()) for n in (1, 256))
    assert one == block


@given(st.integers(1, 1 << 20), st.integers(0, 1 << 36), st.integers(1, 8))
def test_the_largest_context_fits_and_the_next_does_not(
    limit: int, available: int, n_slots: int
) -> None:
    fits = hardware.largest_context(LLAMA_2_7B, GIGA, limit, Demand(n_slots), available)

    def total(n_ctx: int) -> int:
        return hardware.need(LLAMA_2_7B, GIGA, n_ctx, Demand(n_slots)).total

    assert 0 <= fits <= limit
    assert not fits or total(fits) <= available
    assert fits == limit or total(-(-(fits + 1) // 256) * 256) > available


def test_the_refusal_has_the_numbers_and_what_would_fit() -> None:
    need = hardware.need(LLAMA_2_7B, 4 * GIGA, 32768, Demand())
    error = hardware.too_large(32768, 1, need, 8 * GIGA, 4096)
    for sentence in (str(error), error.ko):
        assert all(part in sentence for part in ("32,768", "17.2 GB", "8.6 GB", "4,096"))


def write(folder: Path, **values: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (folder / name.replace("__", ".")).write_text(value + "\n")


def machine(root: Path, cgroup: str) -> Path:
    write(root / "proc/self", cgroup=cgroup)
    return root


def test_control_groups_version_2(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/user/session")
    mount = root / "sys/fs/cgroup"
    stat = "anon 5\ninactive_file 100"
    write(mount / "user", memory__max="1000", memory__current="600", memory__stat=stat)
    write(mount / "user/session", memory__max="max", memory__current="600", memory__stat=stat)
    assert hardware.cgroup_room(root) == [500]


def test_control_groups_version_1_in_a_container(tmp_path: Path) -> None:
    root = machine(tmp_path, "4:cpu,memory:/docker/abc\n2:cpu:/\n0::/")
    write(
        root / "sys/fs/cgroup/memory",
        memory__limit_in_bytes="1000",
        memory__usage_in_bytes="300",
        memory__stat="total_inactive_file 50",
    )
    assert hardware.cgroup_room(root) == [750]


@pytest.mark.parametrize("quota", ["max 100000", "150000 100000"])
def test_cores_within_a_quota(tmp_path: Path, quota: str) -> None:
    root = machine(tmp_path, "0::/")
    write(root / "sys/fs/cgroup", cpu__max=quota)
    assert hardware.cgroup_cores(root) == (None if "max" in quota else 2)


def test_without_control_groups(tmp_path: Path) -> None:
    assert hardware.cgroup_room(tmp_path) == []
    assert hardware.cgroup_cores(tmp_path) is None


def test_this_machine_has_something() -> None:
    assert hardware.available_memory() > 0
    assert hardware.physical_cores() >= 1
