"""The machine's peak, measured, and what a pass of a model would need of it."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

SIZES = {"cpu": (256, 512, 1024, 2048), "cuda": (2048, 4096, 8192)}


def measure(device: str = "cpu", seconds: float = 0.5) -> float:
    """Best rate of a float32 matrix product over several square sizes, in FLOP/s.

    Args:
        device: `"cpu"` or `"cuda"`.
        seconds: how long each size is tried.
    """
    return max(_rate(size, device, seconds) for size in SIZES[device])


def flops(module: nn.Module, x: Tensor) -> int:
    """Floating-point operations of the matrix products and convolutions of one deterministic pass.

    Counted on the CPU with gradients on, where no fused transformer layer hides its products.
    """
    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.mkldnn_rnn_layer: _recurrent}
    )
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        module(x)
    total: int = counter.get_total_flops()
    return total


def _rate(size: int, device: str, seconds: float) -> float:
    a, b = torch.randn(size, size, device=device), torch.randn(size, size, device=device)
    best, deadline = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        start = time.perf_counter()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _recurrent(
    x: tuple[int, ...], inputs: tuple[int, ...], hidden: tuple[int, ...], *_: Any, **__: Any
) -> int:
    """Of one recurrent layer: `x` is `[T, B, I]`, the weights `[4H, I]` and `[4H, H]`."""
    steps, rows, _features = x
    return 2 * steps * rows * (inputs[0] * inputs[1] + hidden[0] * hidden[1])
