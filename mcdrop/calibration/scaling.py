"""Scalings of logits, fitted by maximum likelihood: temperature, vector, matrix (Guo et al. 2017).

A calibrator is made by `fit` and is fitted: there is no other. It holds numbers only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mcdrop.errors import InputError
from mcdrop.metrics.functional.cases import Cases, cases

_STEPS = 200
# Logarithms of the temperatures that are tried, how many first, and how close is close enough.
_FARTHEST, _PLACES, _CLOSE = 5.0, 40, 1e-7
# Of a probability that is exactly 0, whose logarithm no scaling could move.
_LEAST = 1e-30


@dataclass(frozen=True, slots=True)
class Temperature:
    r"""Divides log-probabilities by a number: :math:`\mathrm{softmax}(\log \bar p / T)`.

    Outside of the average over samples: it takes the mean probabilities of a prediction, or the
    logits of a plain net. For logits of single samples see `SampleTemperature`.

    Attributes:
        temperature: above 1 where the predictions were too sure.

    Example:
        >>> probs = torch.tensor([[0.99, 0.01]] * 4)
        >>> fitted = Temperature.fit(probs=probs, labels=torch.tensor([0, 0, 0, 1]))
        >>> [round(p, 3) for p in fitted(probs=probs)[0].tolist()]
        [0.75, 0.25]
    """

    temperature: float

    @classmethod
    def fit(
        cls, *, probs: Tensor | None = None, logits: Tensor | None = None, labels: Tensor
    ) -> Temperature:
        """Find the temperature of the highest likelihood.

        Args:
            probs: `[N, C]` of classes, or `[N]` of yes.
            logits: instead of `probs`.
            labels: integers, `[N]`.

        Raises:
            InputError: an argument does not fit, or no temperature is best: all predictions are
                right (it would be 0) or no better than chance (infinite).
        """
        found = labelled(probs, logits, labels)
        scores = _scores(probs, logits, found.probs)

        def loss(inverse: Tensor) -> Tensor:
            return _nll(scores * inverse.exp(), found.labels)

        return cls(_temperature(loss))

    def __call__(self, *, probs: Tensor | None = None, logits: Tensor | None = None) -> Tensor:
        """Calibrated probabilities, of the shape and type that came.

        Args:
            probs: `[N, C]` of classes, or `[N]` of yes.
            logits: instead of `probs`.

        Raises:
            InputError: both came, or neither.
        """
        given = _one(probs, logits)
        scaled = _scores(probs, logits, _columns(given, probs is None)) / self.temperature
        spread = scaled.softmax(1)
        return (spread[:, 1] if given.ndim == 1 else spread).to(given.dtype)


@dataclass(frozen=True, slots=True)
class SampleTemperature:
    r"""Divides the logits of each sample: :math:`\overline{\mathrm{softmax}(z_s / T)}`.

    Inside of the average over samples: the spread between them stays what it is on the scale of
    their logits, and is read at another temperature.

    Attributes:
        temperature: above 1 where the samples were too sure. Towards 0 what is left is the share of
            samples that vote for a class: no sharper average can be had.
    """

    temperature: float

    @classmethod
    def fit(cls, *, logits: Tensor, labels: Tensor) -> SampleTemperature:
        """Find the temperature of the highest likelihood of the mixture.

        Args:
            logits: of samples, `[S, N, C]`.
            labels: integers, `[N]`.

        Raises:
            InputError: an argument does not fit, or no temperature is best.
        """
        samples = _samples(logits)
        labelled(None, samples[0], labels)

        def loss(inverse: Tensor) -> Tensor:
            logs = torch.log_softmax(samples * inverse.exp(), -1).logsumexp(0)
            picked = logs.gather(1, labels[:, None].long())
            return math.log(len(samples)) - picked.mean()

        return cls(_temperature(loss, votes=True))

    def __call__(self, *, logits: Tensor) -> Tensor:
        """Calibrated mean probabilities, `[N, C]`.

        Args:
            logits: of samples, `[S, N, C]`.

        Raises:
            InputError: the logits have no axis of samples.
        """
        return (_samples(logits) / self.temperature).softmax(-1).mean(0).to(logits.dtype)


@dataclass(frozen=True, slots=True)
class VectorScaling:
    """Scales and shifts the log-probability of each class: softmax(w · log p + b).

    Attributes:
        weight: one for each class.
        bias: one for each class.
    """

    weight: Sequence[float]
    bias: Sequence[float]

    @classmethod
    def fit(
        cls, *, probs: Tensor | None = None, logits: Tensor | None = None, labels: Tensor
    ) -> VectorScaling:
        """Find weights and biases of the highest likelihood; arguments as for `Temperature.fit`."""
        found = labelled(probs, logits, labels)
        scores = _scores(probs, logits, found.probs)
        weight, bias = torch.ones_like(scores[0]), torch.zeros_like(scores[0])
        _minimise([weight, bias], lambda: _nll(scores * weight + bias, found.labels))
        return cls(tuple(weight.tolist()), tuple(bias.tolist()))

    def __call__(self, *, probs: Tensor | None = None, logits: Tensor | None = None) -> Tensor:
        """Calibrated probabilities; see `Temperature.__call__`."""
        given = _one(probs, logits)
        scores = _scores(probs, logits, _columns(given, probs is None))
        weight, bias = (scores.new_tensor(values) for values in (self.weight, self.bias))
        _match(scores, len(weight))
        spread = (scores * weight + bias).softmax(1)
        return (spread[:, 1] if given.ndim == 1 else spread).to(given.dtype)


@dataclass(frozen=True, slots=True)
class MatrixScaling:
    """Mixes the log-probabilities of the classes: softmax(W log p + b).

    Attributes:
        weight: C rows of C.
        bias: one for each class.
    """

    weight: Sequence[Sequence[float]]
    bias: Sequence[float]

    @classmethod
    def fit(
        cls,
        *,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        labels: Tensor,
        penalty: float = 0.0,
    ) -> MatrixScaling:
        """Find a matrix and biases of the highest likelihood.

        Args:
            probs: as for `Temperature.fit`.
            logits: instead of `probs`.
            labels: integers.
            penalty: on the mean square of weights off the diagonal and of biases (ODIR; Kull et al.
                2019): C² numbers are soon too many for the cases.

        Raises:
            InputError: an argument does not fit.
        """
        if not penalty >= 0.0:
            raise InputError(f"a penalty is at least 0; got {penalty}")
        found = labelled(probs, logits, labels)
        scores = _scores(probs, logits, found.probs)
        classes = scores.shape[1]
        weight, bias = torch.eye(classes).to(scores), torch.zeros_like(scores[0])
        off = 1.0 - torch.eye(classes).to(scores)

        def loss() -> Tensor:
            odd = (weight * off).square().sum() / max(1, classes * (classes - 1))
            fit = _nll(scores @ weight.T + bias, found.labels)
            return fit + penalty * (odd + bias.square().mean())

        _minimise([weight, bias], loss)
        return cls(tuple(map(tuple, weight.tolist())), tuple(bias.tolist()))

    def __call__(self, *, probs: Tensor | None = None, logits: Tensor | None = None) -> Tensor:
        """Calibrated probabilities; see `Temperature.__call__`."""
        given = _one(probs, logits)
        scores = _scores(probs, logits, _columns(given, probs is None))
        weight, bias = scores.new_tensor(self.weight), scores.new_tensor(self.bias)
        _match(scores, len(weight))
        spread = (scores @ weight.T + bias).softmax(1)
        return (spread[:, 1] if given.ndim == 1 else spread).to(given.dtype)


def labelled(probs: Tensor | None, logits: Tensor | None, labels: Tensor) -> Cases:
    """Checked cases of a calibrator: of classes or binary, not multilabel.

    Raises:
        InputError: they are not `[N, C]` or `[N]` with labels `[N]`.
    """
    given = _one(probs, logits)
    if labels.ndim != 1:
        raise InputError(
            f"expected labels [N] for [N, C] of classes or [N] of yes; got labels "
            f"{list(labels.shape)} for {list(given.shape)}. Calibrate each of many labels alone"
        )
    return cases(probs=probs, logits=logits, labels=labels)


def _one(probs: Tensor | None, logits: Tensor | None) -> Tensor:
    given = logits if probs is None else probs
    if given is None or (probs is not None and logits is not None):
        raise InputError("pass either probs=… or logits=…: values do not tell them apart")
    if given.ndim not in (1, 2):
        raise InputError(f"expected [N, C] of classes, or [N] of yes; got {list(given.shape)}")
    return given


def _columns(given: Tensor, logits: bool) -> Tensor:
    """Two columns of no and yes where there is no axis of classes, float64."""
    wide = given.detach().double()
    if given.ndim == 2:
        return wide.softmax(1) if logits else wide
    yes = wide.sigmoid() if logits else wide
    return torch.stack((1.0 - yes, yes), 1)


def _scores(probs: Tensor | None, logits: Tensor | None, columns: Tensor) -> Tensor:
    """Log-probabilities up to a constant, float64 `[N, C]`; logits as they are."""
    if probs is None and logits is not None:
        wide = logits.detach().double()
        return wide if wide.ndim == 2 else torch.stack((torch.zeros_like(wide), wide), 1)
    return columns.clamp_min(_LEAST).log()


def _nll(scores: Tensor, labels: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(scores, labels)


def _temperature(loss: Callable[[Tensor], Tensor], *, votes: bool = False) -> float:
    """The temperature that makes the loss least, as a function of its inverse's logarithm.

    Towards 0 each sample is left with a vote, so that inside of an average the lowest temperature
    can be best (`votes`); outside of it nothing but certainty is left, and it never should.

    A grid first, then a golden section: inside of an average the loss has more than one hollow, and
    flat ends where a gradient leads nowhere.
    """

    def at(place: float) -> float:
        return float(loss(torch.tensor(place, dtype=torch.float64)))

    grid = [-_FARTHEST + step * 2.0 * _FARTHEST / _PLACES for step in range(_PLACES + 1)]
    losses = [at(place) for place in grid]
    best = min(range(len(grid)), key=losses.__getitem__)
    if votes and losses[-1] <= losses[best]:
        return math.exp(-_FARTHEST)
    if min(losses[0], losses[-1]) <= losses[best]:
        raise InputError(
            f"no temperature between {math.exp(-_FARTHEST):.2g} and {math.exp(_FARTHEST):.2g} is "
            "best: it needs predictions that are sometimes wrong, and better than chance"
        )
    low, high = grid[best - 1], grid[best + 1]
    golden = (math.sqrt(5.0) - 1.0) / 2.0
    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = at(left), at(right)
    while high - low > _CLOSE:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = at(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = at(right)
    return math.exp(-(low + high) / 2.0)


def _minimise(parameters: list[Tensor], loss: Callable[[], Tensor]) -> None:
    """LBFGS in place."""
    with torch.enable_grad():
        for parameter in parameters:
            parameter.requires_grad_()
        optimiser = torch.optim.LBFGS(
            parameters,
            max_iter=_STEPS,
            tolerance_grad=1e-9,
            tolerance_change=1e-12,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            optimiser.zero_grad()
            value = loss()
            value.backward()
            return value

        optimiser.step(closure)
    for parameter in parameters:
        parameter.requires_grad_(False)


def _samples(logits: Tensor) -> Tensor:
    if logits.ndim != 3 or not logits.is_floating_point() or len(logits) == 0:
        raise InputError(f"expected logits of samples [S, N, C]; got {list(logits.shape)}")
    return logits.detach().double()


def _match(scores: Tensor, classes: int) -> None:
    if scores.shape[1] != classes:
        raise InputError(f"fitted on {classes} classes; got {scores.shape[1]}")
