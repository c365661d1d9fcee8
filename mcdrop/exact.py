"""What needs no sampling: a program with its sites off, an analytic head without other sites."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from mcdrop.engine import Job, Way
from mcdrop.prediction import RegressionPrediction
from mcdrop.program import Program
from mcdrop.program.schema import lookup_errors
from mcdrop.tasks import Regression

CLOSED_FORM: Final = Way("closed form", 0)


def switched_off(program: Program, job: Job) -> tuple[Tensor, ...]:
    """The outputs with every site off, each `[B, ...]`, in as many parts as memory asks for.

    Raises:
        InputError: an input is outside of what the model can look up.
    """
    parts = []
    for rows in job.row_chunks():
        part = job.part(rows)
        if len(rows) == 1 and not program.takes_one_row:  # such a row comes twice
            part = {name: torch.cat((tensor, tensor)) for name, tensor in part.items()}
        with torch.no_grad(), lookup_errors():
            outputs = program.run_deterministic(part).values()
        parts.append([output[: len(rows)] for output in outputs])
    return tuple(torch.cat(columns) for columns in zip(*parts, strict=True))


def closed_form(head: Program, task: Regression, job: Job) -> RegressionPrediction:
    """The prediction of a model whose only sites were in its analytic head.

    Args:
        head: returns conditional mean and variance, and has no site left.
        task: for its noise variance.
        job: for the inputs; its samples and seed do not matter.
    """
    mean, epistemic = switched_off(head, job)
    aleatoric = torch.full_like(epistemic, task.noise_variance)
    return RegressionPrediction(
        mean=mean.to(epistemic.dtype),
        variance=epistemic + aleatoric,
        standard_error=torch.zeros_like(epistemic),
        samples=torch.zeros(job.rows, dtype=torch.int64, device=epistemic.device),
        epistemic=epistemic,
        aleatoric=aleatoric,
    )
