"""Plans on recorded hardware: what llama.cpp's rules put where, and that it fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from komt_local import hardware, llama
from komt_local.errors import OutOfMemory
from komt_local.hardware import Demand, Shape
from komt_local.model.sizes import size_of
from komt_local.offload import Device, Plan, Size, plan

MEGA, GIGA = 1 << 20, 1 << 30

# Llama-2 7B as Q4_K_M: 3.80 GiB in 291 tensors.
SHAPE = Shape(n_layer=32, kv_row=32 * 256, n_embd=4096, n_ff=11008, n_vocab=32000)
LLAMA_2_7B = Size((116 * MEGA,) * 32, 102 * MEGA, 70 * MEGA, 6_738_415_616, SHAPE, 4096)

# What nvidia-smi and llama.cpp say of common machines with nothing else on the GPU.
T4 = Device("CUDA0", "Tesla T4", 14_900 * MEGA)
RTX_3060 = Device("CUDA0", "NVIDIA GeForce RTX 3060", 11_900 * MEGA)
GTX_1650 = Device("CUDA0", "NVIDIA GeForce GTX 1650", 3_800 * MEGA)
LAPTOP_6 = Device("CUDA0", "NVIDIA GeForce RTX 3060 Laptop GPU", 5_900 * MEGA)
M1_8 = Device("Metal", "Apple M1", 5_461 * MEGA, is_shared=True)


def owners(found: Plan) -> list[int]:
    return [share.n_layers for share in found.shares]


@pytest.mark.parametrize("device", [T4, RTX_3060])
def test_all_layers_go_to_a_gpu_that_holds_them(device: Device) -> None:
    found = plan(LLAMA_2_7B, Demand(), [device], 16 * GIGA)
    assert (found.n_ctx, found.n_gpu_layers, owners(found)) == (4096, 33, [0, 33])
    gpu, machine = found.shares[1], found.machine
    assert gpu.kv_cache == 2 * GIGA
    assert gpu.weights + machine.weights == LLAMA_2_7B.total
    assert machine.kv_cache == 0
    assert (found.smaller_context, found.smaller_type) == (0, "")


def test_as_many_layers_as_fit_and_what_would_fit_better() -> None:
    found = plan(LLAMA_2_7B, Demand(), [LAPTOP_6], 16 * GIGA)
    assert 20 < found.n_gpu_layers < 33
    assert owners(found) == [33 - found.n_gpu_layers, found.n_gpu_layers]
    more = plan(LLAMA_2_7B, Demand(), [LAPTOP_6], 16 * GIGA, layers=found.n_gpu_layers + 1)
    assert found.fits and not more.fits
    assert 2048 <= found.smaller_context < 4096
    whole = plan(LLAMA_2_7B, Demand(), [LAPTOP_6], 16 * GIGA, n_ctx=found.smaller_context)
    assert whole.is_whole and whole.fits
    assert found.smaller_type == "Q3_K_M"
    less = plan(LLAMA_2_7B, replace(Demand(), value_bytes=1.0), [LAPTOP_6], 16 * GIGA)
    assert less.n_gpu_layers > found.n_gpu_layers, "a quantized cache leaves room"


def test_a_small_gpu_takes_few_layers_and_a_tiny_one_none() -> None:
    small = plan(LLAMA_2_7B, Demand(), [GTX_1650], 16 * GIGA)
    assert 5 < small.n_gpu_layers < 20 and small.smaller_type == ""
    tiny = plan(LLAMA_2_7B, Demand(), [replace(GTX_1650, free=600 * MEGA)], 16 * GIGA)
    assert tiny.n_gpu_layers == 0 and owners(tiny) == [33, 0]
    assert tiny.shares[1].total == 0


def test_two_gpus_share_by_what_is_free() -> None:
    second = replace(RTX_3060, name="CUDA1")
    found = plan(LLAMA_2_7B, Demand(n_slots=4), [LAPTOP_6, second], 16 * GIGA)
    assert found.fits and owners(found)[1] < owners(found)[2]
    assert sum(owners(found)) == 33


def test_memory_that_is_shared_is_counted_once() -> None:
    found = plan(LLAMA_2_7B, Demand(), [M1_8], 6 * GIGA)
    assert found.fits
    assert sum(share.total for share in found.shares) < 6 * GIGA
    with pytest.raises(OutOfMemory):
        plan(LLAMA_2_7B, Demand(), [M1_8], 3 * GIGA)


def test_without_a_gpu_all_is_as_the_arithmetic_of_one_memory_says() -> None:
    need = hardware.need(SHAPE, LLAMA_2_7B.total, 4096, Demand())
    found = plan(LLAMA_2_7B, Demand(), [], need.total)
    assert (found.n_ctx, found.need) == (4096, need)
    shrunk = plan(LLAMA_2_7B, Demand(), [], need.total - 1)
    assert (shrunk.n_ctx, shrunk.wanted_ctx) == (4096 - 256, 4096)
    with pytest.raises(OutOfMemory, match="at most 3,840"):
        plan(LLAMA_2_7B, Demand(), [], need.total - 1, n_ctx=4096)


def test_who_names_a_number_of_layers_gets_it() -> None:
    for layers, expected in ((0, 0), (7, 7), (99, 33), ("all", 33)):
        found = plan(LLAMA_2_7B, Demand(), [GTX_1650], 16 * GIGA, layers=layers)  # type: ignore[arg-type]
        assert found.n_gpu_layers == expected


@given(
    free=st.lists(st.integers(0, 12 * GIGA), max_size=3),
    available=st.integers(0, 20 * GIGA),
    n_ctx=st.one_of(st.none(), st.integers(1, 1 << 15)),
    shared=st.booleans(),
)
@settings(deadline=None, max_examples=50)
def test_a_plan_fits_or_is_refused_with_what_would(
    free: list[int], available: int, n_ctx: int | None, shared: bool
) -> None:
    devices = [Device(f"GPU{n}", "", size, shared) for n, size in enumerate(free)]
    try:
        found = plan(LLAMA_2_7B, Demand(), devices, available, n_ctx=n_ctx)
    except OutOfMemory as error:
        assert str(error) and error.ko
        return
    assert found.fits and sum(owners(found)) == 33
    assert sum(share.weights for share in found.shares) == LLAMA_2_7B.total
    assert n_ctx is None or found.n_ctx == n_ctx


def test_sizes_come_from_the_header_and_are_those_of_llama_cpp(random_gguf: Path) -> None:
    size = size_of(llama.check(random_gguf))
    model = llama.load(random_gguf)
    assert size.total == model.size and size.n_parameters == model.n_params
    dimensions = model.dimensions
    assert (len(size.layers), size.shape.n_embd) == (dimensions.n_layer, dimensions.n_embd)
    assert size.shape.n_vocab == model.n_vocab and size.n_ctx_train == model.n_ctx_train
    assert len(set(size.layers)) == 1 and size.output > size.layers[0]
    model.close()


def test_devices_are_listed_as_llama_cpp_sees_them() -> None:
    for device in llama.gpus():
        assert device.name and device.free >= 0
