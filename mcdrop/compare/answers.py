"""What a net says of rows, with its noise off or as the mean over samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mcdrop.metrics.functional.densities import log_densities
from mcdrop.metrics.functional.scores import log_likelihoods
from mcdrop.tasks import AnyTask, Gaussian

_IMPOSSIBLE = math.log(torch.finfo(torch.float32).tiny)  # what a probability of 0 is taken for


@dataclass(frozen=True, slots=True)
class Answers:
    """What a net said of some rows.

    Attributes:
        mean: probabilities `[B, C]`, or means `[B, 1]`.
        variance: of numbers, all of it, `[B, 1]`; `None` for classes.
    """

    mean: Tensor
    variance: Tensor | None

    @property
    def uncertainty(self) -> Tensor:
        """Entropy of the probabilities, or the deviation, `[B]`."""
        if self.variance is None:
            entropy: Tensor = torch.special.entr(self.mean).sum(1)
            return entropy
        return self.variance.sqrt()[:, 0]

    def losses(self, targets: Tensor) -> Tensor:
        """Negative log-likelihood of each row, float64 `[B]`, in nats.

        Of numbers, under the normal distribution with the answer's mean and variance.
        """
        if self.variance is None:
            return -log_likelihoods(probs=self.mean, labels=targets).clamp_min(_IMPOSSIBLE)
        mean, std, wanted = (t.double() for t in (self.mean, self.variance.sqrt(), targets))
        return -log_densities(mean, std, wanted)[:, 0]


@torch.no_grad()
def deterministic(net: nn.Module, x: Tensor, task: AnyTask) -> Answers:
    """What a net in evaluation mode says: one pass, no noise.

    Args:
        net: in evaluation mode.
        x: inputs `[B, H, W]`.
        task: classes, or a mean and a log-variance.
    """
    out = net(x)
    if isinstance(task, Gaussian):
        mean, log_variance = out.chunk(2, 1)
        return Answers(mean, log_variance.exp())
    return Answers(out.softmax(1), None)
