"""Devices by name."""

from __future__ import annotations

import torch

from mcdrop.errors import InputError


def resolve_device(device: torch.device | str) -> torch.device:
    """A device that is there.

    Raises:
        InputError: the name is not a device, or there is no such device.
    """
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise InputError(f"device must be like 'cpu' or 'cuda:0'; got {device!r}") from None
    if resolved.type not in ("cpu", "cuda"):
        raise InputError(f"device must be like 'cpu' or 'cuda:0'; got {device!r}")
    if resolved.type == "cuda":
        if not torch.cuda.is_available():
            raise InputError(
                f"device {str(resolved)!r} asked for, but there is no CUDA device here"
            )
        if (resolved.index or 0) >= torch.cuda.device_count():
            raise InputError(
                f"device {str(resolved)!r} asked for; there are {torch.cuda.device_count()}"
            )
        return torch.device("cuda", resolved.index or 0)
    return resolved
