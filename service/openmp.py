"""OpenMP's threads, which the CPU's kernels run on: how they wait for each other."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import torch

_POLICIES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def let_threads_sleep(devices: Sequence[torch.device]) -> None:
    """Start the process again unless its threads sleep while they wait, or were told what to do.

    By default they spin, for milliseconds, on cores that the event loop and other processes need:
    with as many threads as cores, steps of a small model took up to seven times as long. libgomp
    reads its environment when it is loaded, which torch has done by now; so a new process image
    has to read it. Set `OMP_WAIT_POLICY` yourself to have one, or to start without this step.

    Args:
        devices: that are to compute; nothing is done unless the CPU is among them.
    """
    told = any(name in os.environ for name in _POLICIES)
    if told or sys.platform != "linux" or all(device.type != "cpu" for device in devices):
        return
    os.environ[_POLICIES[0]] = "passive"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves
