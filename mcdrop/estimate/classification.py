"""Streaming estimates of class probabilities and their uncertainties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from mcdrop.errors import InputError
from mcdrop.estimate.blocks import BlockMoments
from mcdrop.prediction import ClassificationPrediction
from mcdrop.tasks import Binary, Classification, Multilabel

ProbabilityTask: TypeAlias = Classification | Binary | Multilabel

_FEW_CLASSES = 15  # one fewer than fill a vector of the CPU
_TINY = 1e-30  # a probability of exactly 0 has a logarithm, too


@dataclass(frozen=True, slots=True)
class _State:
    """Sums over samples: moments of the probabilities, H[p_s], and votes `[B, ..., C]`."""

    moments: BlockMoments
    entropy: Tensor
    votes: Tensor

    def merge(self, other: _State) -> _State:
        return _State(
            self.moments.merge(other.moments),
            self.entropy + other.entropy,
            self.votes + other.votes,
        )

    def rows(self, index: Tensor) -> _State:
        return _State(self.moments.rows(index), self.entropy[index], self.votes[index])


class ClassificationEstimator:
    """Folds chunks of raw outputs into a prediction; memory does not grow with the samples.

    Args:
        task: how raw outputs become probabilities.
        block: samples of a balanced block; 1 for independent samples.
        temperature: that the logits of each sample are divided by.
    """

    def __init__(self, task: ProbabilityTask, block: int = 1, temperature: float = 1.0) -> None:
        self._reading = ClassReading(task, temperature)
        self._block = block
        self._state: _State | None = None
        self._dtype = torch.float32

    def update(self, outputs: tuple[Tensor, ...], start: int) -> None:
        """Take in a chunk: the task's output entry `[S, B, ...]`, its first sample's number."""
        probs, (entropy, votes) = self._reading.read(outputs)
        self._dtype = probs.dtype
        self._fold(_State(BlockMoments.of(probs, start, self._block), entropy, votes))

    def merge(self, other: ClassificationEstimator) -> None:
        """Take in another estimator's samples."""
        if other._state is not None:
            self._dtype = other._dtype
            self._fold(other._state)

    def keep(self, index: Tensor) -> None:
        """Forget all rows but these."""
        if self._state is not None:
            self._state = self._state.rows(index)

    def expected_error(self) -> Tensor:
        """Of the mean, `[B, ...]`; see `BlockMoments.expected_error`."""
        assert self._state is not None, "no samples yet"
        return self._state.moments.expected_error()

    def _fold(self, new: _State) -> None:
        old = self._state
        self._state = new if old is None else old.merge(new)

    def prediction(self) -> ClassificationPrediction:
        """What the samples so far say."""
        assert self._state is not None, "no samples yet"
        moments = self._state.moments
        rows = moments.mean.shape[0]
        samples = torch.full((rows,), moments.count, device=moments.mean.device)
        sums = self._state.entropy, self._state.votes
        return self._reading.prediction(
            moments.mean, *moments.deviations(), sums, samples, dtype=self._dtype
        )


class ClassReading:
    """What raw outputs say of classes: each sample's probabilities, entropy and vote.

    Args:
        task: how raw outputs become probabilities.
        temperature: that the logits of each sample are divided by.
    """

    def __init__(self, task: ProbabilityTask, temperature: float = 1.0) -> None:
        self._task = task
        self._temperature = temperature

    def read(self, outputs: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Read a chunk of samples.

        Args:
            outputs: the task's output entry, `[S, B, ...]`.

        Returns:
            The probabilities, of that shape, and sums over the samples: of their entropies, and of
            their votes `[B, ..., C]`.
        """
        probs = self._probabilities(outputs[0])
        return probs, (self._entropies(probs).sum(0), self._vote(probs))

    def prediction(
        self,
        mean: Tensor,
        variance: Tensor,
        error: Tensor,
        sums: Sequence[Tensor],
        samples: Tensor,
        *,
        dtype: torch.dtype,
    ) -> ClassificationPrediction:
        """A prediction of rows that may hold different numbers of samples.

        Args:
            mean: of the probabilities, `[B, ...]`; the next two are of its shape.
            variance: of the probabilities.
            error: of the mean.
            sums: what `read` has summed, over all samples.
            samples: of each row, int64 `[B]`.
            dtype: of the result.
        """
        summed, votes = sums
        entropy = self._entropies(mean[None])[0]
        count = samples.reshape(-1, *[1] * (summed.ndim - 1))
        expected = summed / count
        return ClassificationPrediction(
            mean=mean.to(dtype),
            variance=variance.to(dtype),
            standard_error=error.to(dtype),
            samples=samples,
            entropy=entropy.to(dtype),
            expected_entropy=expected.to(dtype),
            # H is concave, so only rounding can make the difference negative
            mutual_information=(entropy - expected).clamp_min(0.0).to(dtype),
            variation_ratio=(1.0 - votes.amax(-1) / count).to(dtype),
        )

    def _axis(self, probs: Tensor) -> int | None:
        """Class axis of `[S, B, ...]`, counted from the end; `None` for binary and multilabel."""
        if not isinstance(self._task, Classification):
            return None
        dim, ndim = self._task.dim, probs.ndim - 1
        if not -ndim < dim < ndim or dim == 0:
            raise InputError(
                f"the task's class axis is {dim}; the output has axes 1 to {ndim - 1} behind the "
                f"batch"
            )
        return dim - ndim if dim > 0 else dim

    def _probabilities(self, raw: Tensor) -> Tensor:
        wide = raw.to(torch.promote_types(raw.dtype, torch.float32))
        axis = self._axis(wide)
        if self._temperature != 1.0:
            return self._tempered(wide, axis)
        if self._task.output == "probs":
            return wide
        if axis is None:
            return torch.sigmoid(wide)
        if self._task.output == "log_probs":
            return wide.exp()
        return _softmax(wide, axis)

    def _tempered(self, wide: Tensor, axis: int | None) -> Tensor:
        if axis is None:
            logits = wide.double().logit(1e-15) if self._task.output == "probs" else wide
            return torch.sigmoid(logits / self._temperature).to(wide.dtype)
        logits = wide.clamp_min(_TINY).log() if self._task.output == "probs" else wide
        return _softmax(logits / self._temperature, axis)

    def _entropies(self, probs: Tensor) -> Tensor:
        """Entropy in nats; `entr` is finite at 0 and 1."""
        axis = self._axis(probs)
        if axis is None:
            terms: Tensor = torch.special.entr(probs) + torch.special.entr(1.0 - probs)
            return terms
        entropy: Tensor = torch.special.entr(probs).sum(axis)
        return entropy

    def _vote(self, probs: Tensor) -> Tensor:
        """How many samples voted for each class, `[B, ..., C]`."""
        axis = self._axis(probs)
        if axis is None:
            yes = (probs >= 0.5).sum(0)
            return torch.stack((probs.shape[0] - yes, yes), -1)
        classes = probs.shape[axis]
        winners = probs.argmax(axis)  # [S, B, ...]
        counted = winners.new_zeros((*winners.shape[1:], classes))
        ones = torch.ones_like(winners).movedim(0, -1)
        return counted.scatter_add_(-1, winners.movedim(0, -1), ones)


def _softmax(logits: Tensor, axis: int) -> Tensor:
    """The softmax; torch takes few classes one by one, up to five times as long on the CPU."""
    few = axis == -1 and logits.shape[-1] <= _FEW_CLASSES and logits.device.type == "cpu"
    if not few:
        return torch.softmax(logits, axis)
    powers = (logits - logits.amax(-1, keepdim=True)).exp_()
    return powers.div_(powers.sum(-1, keepdim=True))
