"""Devices: from a setting to what this machine has."""

from __future__ import annotations

import torch

from service.errors import StartError


def resolve_devices(names: str) -> tuple[torch.device, ...]:
    """Turn a setting into devices that this machine has, one for each worker.

    Args:
        names: `auto` (every GPU, or the CPU where there is none), or one of `cpu`, `cuda` (the
            first GPU) and `cuda:N`, or several of them with commas between.

    Raises:
        StartError: there is no such GPU here.
    """
    count = torch.cuda.device_count()
    if names == "auto":
        names = ",".join(f"cuda:{index}" for index in range(count)) or "cpu"
    return tuple(_resolve(name, count) for name in names.split(","))


def _resolve(name: str, count: int) -> torch.device:
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= count:
        raise StartError(
            f"MCDROP_DEVICE is {name}, but torch sees {count} GPUs here; set it to auto or cpu"
        )
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device
