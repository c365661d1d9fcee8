"""Monte Carlo dropout as the textbook has it: train mode, and a loop. Imports nothing of ours."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn


def naive_samples(
    module: nn.Module, run: Callable[[nn.Module], Tensor], samples: int, seed: int
) -> Tensor:
    """`samples` passes with dropout on and normalisation in evaluation mode, `[S, B, ...]`."""
    stochastic = copy.deepcopy(module).train()
    for part in stochastic.modules():
        if isinstance(part, nn.modules.batchnorm._NormBase):
            part.eval()
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        return torch.stack([run(stochastic) for _ in range(samples)])
