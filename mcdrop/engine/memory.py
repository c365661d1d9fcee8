"""Running out of memory, and how to tell."""

from __future__ import annotations

import torch

# What torch's allocator for the CPU says; there it raises no class of its own.
_CPU = ("DefaultCPUAllocator", "not enough memory", "Cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a device had no more memory to give."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _CPU)


def free_caches(device: torch.device) -> None:
    """Give back what torch's allocator holds unused."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
