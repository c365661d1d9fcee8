"""What needs no sampling: a program with its sites off, an analytic head without other sites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from mcdrop.engine import Way
from mcdrop.prediction import RegressionPrediction
from mcdrop.program import Program
from mcdrop.program.schema import LookupErrors
from mcdrop.tasks import Regression

CLOSED_FORM: Final = Way("closed form", 0)


def switched_off(
    program: Program, inputs: Mapping[str, Tensor], at_a_time: int
) -> tuple[Tensor, ...]:
    """The outputs with every site off, each `[B, ...]`.

    Args:
        program: what to run.
        inputs: checked tensors by name, on the program's device.
        at_a_time: rows that fit the memory.

    Raises:
        InputError: an input is outside of what the model can look up.
    """
    parts = []
    for start in range(0, len(next(iter(inputs.values()))), at_a_time):
        part = {name: tensor[start : start + at_a_time] for name, tensor in inputs.items()}
        rows = len(next(iter(part.values())))
        if rows == 1 and not program.takes_one_row:  # such a row comes twice
            part = {name: torch.cat((tensor, tensor)) for name, tensor in part.items()}
        with torch.no_grad(), LookupErrors():
            outputs = program.run_deterministic(part).values()
        parts.append([output[:rows] for output in outputs])
    return tuple(torch.cat(columns) for columns in zip(*parts, strict=True))


def closed_form(
    head: Program, task: Regression, inputs: Mapping[str, Tensor], at_a_time: int
) -> RegressionPrediction:
    """The prediction of a model whose only sites were in its analytic head.

    Args:
        head: returns conditional mean and variance, and has no site left.
        task: for its noise variance.
        inputs: as for `switched_off`.
        at_a_time: as for `switched_off`.
    """
    mean, epistemic = switched_off(head, inputs, at_a_time)
    aleatoric = torch.full_like(epistemic, task.noise_variance)
    return RegressionPrediction(
        mean=mean.to(epistemic.dtype),
        variance=epistemic + aleatoric,
        standard_error=torch.zeros_like(epistemic),
        samples=torch.zeros(len(mean), dtype=torch.int64, device=epistemic.device),
        epistemic=epistemic,
        aleatoric=aleatoric,
    )
