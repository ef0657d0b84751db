"""Which layers go to which GPU, and with how much context: planned before anything is loaded.

Pure arithmetic over numbers of bytes; it measures nothing and knows no llama.cpp but for its rules.
`n_gpu_layers` counts from the end: the output first, then the last layers; several GPUs share them
in the order of the layers, by what is free on each
(https://github.com/ggml-org/llama.cpp/blob/master/src/llama-model.cpp, load_tensors). The input
embedding stays with the machine. No GPU was at hand to check what buffers it takes besides: hence
the margin.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Literal

from . import hardware
from .hardware import Demand, Need, Shape

Layers = int | Literal["auto", "all"]

MARGIN = 512 << 20
"""Bytes that stay free on each GPU: workspaces of its libraries, and the screen."""
_STEP = 256
_LEAST_CONTEXT = 2048

BITS_PER_WEIGHT = {
    "Q8_0": 8.5,
    "Q6_K": 6.56,
    "Q5_K_M": 5.69,
    "Q5_K_S": 5.53,
    "Q4_K_M": 4.85,
    "Q4_K_S": 4.58,
    "Q3_K_M": 3.91,
    "Q3_K_S": 3.50,
}
"""Of whole files of 7B; https://github.com/ggml-org/llama.cpp/tree/master/tools/quantize."""


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU: `free` bytes, which are the machine's own where `is_shared`."""

    name: str
    description: str
    free: int
    is_shared: bool = False


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of the weights: of each layer, of the output, and of all that stays on the machine."""

    layers: tuple[int, ...]
    output: int
    input: int
    n_parameters: int
    shape: Shape
    n_ctx_train: int

    @property
    def n_layers(self) -> int:
        """As `n_gpu_layers` counts them: with the output."""
        return len(self.layers) + 1

    @property
    def total(self) -> int:
        return sum(self.layers) + self.output + self.input

    def scaled(self, factor: float) -> Size:
        """The same model with weights of another type."""
        layers = tuple(int(factor * n) for n in self.layers)
        output, rest = int(factor * self.output), int(factor * self.input)
        return replace(self, layers=layers, output=output, input=rest)


@dataclass(frozen=True, slots=True)
class Share:
    """What one GPU, or the machine (without a device), is to hold, and what is free there."""

    device: Device | None
    n_layers: int
    weights: int
    kv_cache: int
    compute: int
    free: int

    @property
    def total(self) -> int:
        return self.weights + self.kv_cache + self.compute

    @property
    def fits(self) -> bool:
        return self.total + (MARGIN if self.device else hardware.RESERVE) <= self.free


@dataclass(frozen=True, slots=True)
class Plan:
    """Context, layers on GPUs, and what lies where: the machine's share first."""

    n_ctx: int
    n_gpu_layers: int
    n_layers: int
    shares: tuple[Share, ...]
    wanted_ctx: int
    smaller_context: int = 0
    smaller_type: str = ""

    @property
    def machine(self) -> Share:
        return self.shares[0]

    @property
    def fits(self) -> bool:
        """Everywhere, and where GPUs use the machine's own memory, together too."""
        together = [s for s in self.shares if s.device is None or s.device.is_shared]
        in_all = sum(share.total for share in together) + hardware.RESERVE <= self.machine.free
        return in_all and all(share.fits for share in self.shares)

    @property
    def is_whole(self) -> bool:
        """Whether everything that can be is on GPUs."""
        return self.n_gpu_layers >= self.n_layers

    @property
    def need(self) -> Need:
        """Of everything together."""
        sums = (sum(getattr(s, part) for s in self.shares) for part in _PARTS)
        return Need(*sums)


_PARTS = ("weights", "kv_cache", "compute")


def plan(
    size: Size,
    demand: Demand,
    devices: Sequence[Device],
    available: int,
    *,
    n_ctx: int | None = None,
    layers: Layers = "auto",
) -> Plan:
    """The context that was asked for, else the model's own up to 8,192; as many layers as fit.

    Layers come before context: it shrinks only where nobody asked for one, and where the machine
    does not hold what is left. Raises OutOfMemory, with what would fit, if it does not then either.
    """
    trained = size.n_ctx_train or hardware.DEFAULT_CONTEXT
    wanted = n_ctx or min(trained, hardware.DEFAULT_CONTEXT)

    def at(context: int, size: Size = size) -> Plan:
        found = _with_layers(size, demand, devices, available, context, layers)
        return replace(found, wanted_ctx=wanted)

    best = at(wanted)
    if not _runs(best, layers):
        fitting = _largest(wanted, lambda context: _runs(at(context), layers))
        if n_ctx is not None or not fitting:
            n_slots, need = demand.n_slots, best.need
            raise hardware.too_large(wanted, n_slots, need, available, fitting)
        best = at(fitting)
    if not devices or best.is_whole or layers != "auto":
        return best
    context = _largest(best.n_ctx, lambda n: at(n).is_whole and at(n).fits)
    context = context if context >= _LEAST_CONTEXT else 0
    bits = 8 * size.total / max(size.n_parameters, 1)
    smaller = (t for t, b in BITS_PER_WEIGHT.items() if b < 0.98 * bits)
    types = (t for t in smaller if at(best.n_ctx, size.scaled(BITS_PER_WEIGHT[t] / bits)).is_whole)
    return replace(best, smaller_context=context, smaller_type=next(types, ""))


def _runs(plan: Plan, layers: Layers) -> bool:
    """Who names a number of layers knows the GPU better than an estimate does."""
    return plan.fits if layers == "auto" else plan.machine.fits


def _largest(limit: int, is_right: Callable[[int], bool]) -> int:
    """The largest multiple of 256 up to a limit; what is right for one is for smaller ones."""
    low, high = 0, limit // _STEP
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if is_right(middle * _STEP) else (low, middle - 1)
    return low * _STEP


def _with_layers(
    size: Size,
    demand: Demand,
    devices: Sequence[Device],
    available: int,
    n_ctx: int,
    layers: Layers,
) -> Plan:
    def place(n_gpu_layers: int) -> Plan:
        shares = _shares(size, demand, devices, available, n_ctx, n_gpu_layers)
        return Plan(n_ctx, n_gpu_layers, size.n_layers, shares, n_ctx)

    if not devices:
        return place(0)
    if layers != "auto":
        return place(size.n_layers if layers == "all" else min(layers, size.n_layers))
    plans = (place(n) for n in range(size.n_layers, 0, -1))
    return next((found for found in plans if found.fits), place(0))


def _shares(
    size: Size,
    demand: Demand,
    devices: Sequence[Device],
    available: int,
    n_ctx: int,
    n_gpu_layers: int,
) -> tuple[Share, ...]:
    kv_layer = hardware.kv_cache_bytes(size.shape, n_ctx, demand) // max(len(size.layers), 1)
    compute = hardware.compute_bytes(size.shape, n_ctx, demand)
    weights = [*size.layers, size.output]
    caches = [kv_layer] * len(size.layers) + [0]
    owners = _owners(size.n_layers, n_gpu_layers, [device.free for device in devices])

    def share(owner: int | None, device: Device | None, base: int, free: int) -> Share:
        own = [layer for layer, who in enumerate(owners) if who == owner]
        computes = compute if own else hardware.input_bytes(size.shape, demand)
        return Share(
            device,
            len(own),
            base + sum(weights[layer] for layer in own),
            sum(caches[layer] for layer in own),
            computes if own or device is None else 0,
            free,
        )

    gpus = (share(n, device, 0, device.free) for n, device in enumerate(devices))
    return (share(None, None, size.input, available), *gpus)


def _owners(n_layers: int, n_gpu_layers: int, free: Sequence[int]) -> list[int | None]:
    """The GPU of each layer, None for the machine, as llama.cpp splits them."""
    first = n_layers - n_gpu_layers
    bounds = list(accumulate(free))
    owners: list[int | None] = [None] * first
    for layer in range(n_gpu_layers):
        place = layer / n_gpu_layers * bounds[-1]
        owners.append(min(bisect_right(bounds, place), len(free) - 1))
    return owners
