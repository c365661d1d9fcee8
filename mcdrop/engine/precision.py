"""Arithmetic narrower than float32, as an option."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch

from mcdrop.errors import InputError

Precision = Literal["float32", "tf32", "bfloat16"]


def check_precision(precision: Precision, device: torch.device) -> None:
    """Raise unless a device computes in this precision.

    Raises:
        InputError: TF32 is asked for on a CPU.
    """
    if precision == "tf32" and device.type != "cuda":
        raise InputError('precision="tf32" is for CUDA devices; on a CPU take "bfloat16"')


def arithmetic(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """Compute products in this precision, whatever the caller's; what is accumulated stays float32.

    - `"float32"`: in full, also in convolutions, for which torch would take TF32 on CUDA;
    - `"bfloat16"`: torch's autocast, 8 bits of mantissa in products and convolutions;
    - `"tf32"`: 10 bits, on CUDA's tensor cores.

    On CUDA torch keeps the choice for the whole process: it is put back afterwards, but other
    threads see it meanwhile.
    """
    if precision == "float32" and device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
        return nullcontext()  # as it is anyway; small nets notice every step
    return _changed(precision, device)


@contextmanager
def _changed(precision: Precision, device: torch.device) -> Iterator[None]:
    if precision == "bfloat16":
        with torch.autocast(device.type, torch.bfloat16):
            yield
    elif torch.is_autocast_enabled(device.type):
        with torch.autocast(device.type, enabled=False), arithmetic(precision, device):
            yield
    elif device.type == "cuda":
        matmul: Any = torch.backends.cuda.matmul
        conv: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # not in the stubs
        before = matmul.fp32_precision, conv.fp32_precision
        matmul.fp32_precision = conv.fp32_precision = "tf32" if precision == "tf32" else "ieee"
        try:
            yield
        finally:
            matmul.fp32_precision, conv.fp32_precision = before
    else:
        yield
