"""Scalings of logits, fitted by maximum likelihood: temperature, vector, matrix (Guo et al. 2017).

A calibrator is made by `fit` and is fitted: there is no other. It holds numbers only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mcdrop.calibration.temperatures import best_temperature
from mcdrop.errors import InputError
from mcdrop.metrics.functional.cases import Cases, cases

_STEPS = 1000
# Of a probability that is exactly 0, whose logarithm no scaling could move.
_LEAST = 1e-30
# Standard deviation that weights and biases have before any case was seen; see `VectorScaling`.
_PRIOR = 10.0


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

    def __post_init__(self) -> None:
        """Refuse what no fit could have made."""
        positive("temperature", self.temperature)

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
                right (it would be 0) or no better than chance (infinite); or it is out of reach.
        """
        found, scores = labelled(probs, logits, labels), _scores(probs, logits)

        def loss(inverse: Tensor) -> Tensor:
            return torch.nn.functional.cross_entropy(scores * inverse.exp(), found.labels)

        return cls(best_temperature(loss))

    def __call__(self, *, probs: Tensor | None = None, logits: Tensor | None = None) -> Tensor:
        """Calibrated probabilities, of the shape and type that came.

        Args:
            probs: `[N, C]` of classes, or `[N]` of yes.
            logits: instead of `probs`.

        Raises:
            InputError: both came, or neither.
        """
        return _calibrated(probs, logits, lambda scores: scores / self.temperature)


@dataclass(frozen=True, slots=True)
class SampleTemperature:
    r"""Divides the logits of each sample: :math:`\overline{\mathrm{softmax}(z_s / T)}`.

    Inside of the average over samples: the spread between them stays what it is on the scale of
    their logits, and is read at another temperature.

    Attributes:
        temperature: above 1 where the samples were too sure. Towards 0 what is left is the share of
            samples that vote for a class: no sharper average can be had, and nothing of what a
            sample itself was unsure of.
    """

    temperature: float

    def __post_init__(self) -> None:
        """Refuse what no fit could have made."""
        positive("temperature", self.temperature)

    @classmethod
    def fit(cls, *, logits: Tensor, labels: Tensor) -> SampleTemperature:
        """Find the most probable temperature, by the likelihood of the mixture and a weak prior.

        The logarithm of the temperature has a standard normal prior. Among many cases it is lost;
        but some hundred that are nearly all right would be best served by votes, whose
        probabilities are exactly 0 for a class that no sample chose.

        Args:
            logits: of samples, `[S, N, C]` of classes, or `[S, N]` of yes.
            labels: integers, `[N]`.

        Raises:
            InputError: an argument does not fit, or no temperature is best.
        """
        samples = _samples(logits)
        found = labelled(samples.softmax(-1).mean(0), None, labels)

        def loss(inverse: Tensor) -> Tensor:
            logs = torch.log_softmax(samples * inverse.exp(), -1).logsumexp(0)
            picked = logs.gather(1, found.labels[:, None])
            return math.log(len(samples)) - picked.mean()

        return cls(best_temperature(loss, votes=True, prior_cases=len(found.labels)))

    def __call__(self, *, logits: Tensor) -> Tensor:
        """Calibrated mean probabilities, `[N, C]`, or `[N]` of yes.

        Args:
            logits: of samples, `[S, N, C]` of classes, or `[S, N]` of yes.

        Raises:
            InputError: the logits have no axis of samples.
        """
        spread = (_samples(logits) / self.temperature).softmax(-1).mean(0)
        return (spread[:, 1] if logits.ndim == 2 else spread).to(logits.dtype)


@dataclass(frozen=True, slots=True)
class VectorScaling:
    """Scales and shifts the log-probability of each class: softmax(w · log p + b).

    The likelihood alone often has no maximum: the bias of a class that no held-out case has goes to
    minus infinity, and so do weights where scores tell a class without error. Weights and biases
    therefore have a normal prior around 1 and 0, of standard deviation 10: what it adds to the mean
    loss, the sum of squares over 200 N, makes the maximum the only one and is lost among N cases
    that have one of their own. Refusing would need held-out cases of every class.

    Attributes:
        weight: one for each class.
        bias: one for each class.
    """

    weight: tuple[float, ...]
    bias: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse what no fit could have made."""
        _linear(self.weight, self.bias, 1)

    @classmethod
    def fit(
        cls, *, probs: Tensor | None = None, logits: Tensor | None = None, labels: Tensor
    ) -> VectorScaling:
        """Find the most probable weights and biases; arguments as for `Temperature.fit`."""
        found, scores = labelled(probs, logits, labels), _scores(probs, logits)
        weight, bias = _most_probable(scores, found.labels, torch.ones(scores.shape[1]))
        return cls(tuple(weight.tolist()), tuple(bias.tolist()))

    def __call__(self, *, probs: Tensor | None = None, logits: Tensor | None = None) -> Tensor:
        """Calibrated probabilities; see `Temperature.__call__`."""
        return _calibrated(probs, logits, lambda scores: _mapped(scores, self.weight, self.bias))


@dataclass(frozen=True, slots=True)
class MatrixScaling:
    """Mixes the log-probabilities of the classes: softmax(W log p + b).

    Weights and biases have the prior of `VectorScaling`, around the identity and 0.

    Attributes:
        weight: C rows of C.
        bias: one for each class.
    """

    weight: tuple[tuple[float, ...], ...]
    bias: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse what no fit could have made."""
        _linear(self.weight, self.bias, 2)

    @classmethod
    def fit(
        cls,
        *,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        labels: Tensor,
        penalty: float = 0.0,
    ) -> MatrixScaling:
        """Find the most probable matrix and biases.

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
        found, scores = labelled(probs, logits, labels), _scores(probs, logits)
        start = torch.eye(scores.shape[1])
        weight, bias = _most_probable(scores, found.labels, start, penalty)
        return cls(tuple(map(tuple, weight.tolist())), tuple(bias.tolist()))

    def __call__(self, *, probs: Tensor | None = None, logits: Tensor | None = None) -> Tensor:
        """Calibrated probabilities; see `Temperature.__call__`."""
        return _calibrated(probs, logits, lambda scores: _mapped(scores, self.weight, self.bias))


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
    found = cases(probs=probs, logits=logits, labels=labels)
    if found.probs.shape[1] < 2:
        raise InputError("expected two classes or more; got one, which is always right")
    return found


def columns(probs: Tensor, classes: int | None = None) -> Tensor:
    """Float64 `[N, C]`; the two columns of no and yes where there is no axis of classes.

    Raises:
        InputError: they are neither `[N, C]` nor `[N]`, or of another number of classes.
    """
    wide = _one(probs, None).detach().double()
    made = torch.stack((1.0 - wide, wide), 1) if wide.ndim == 1 else wide
    if classes is not None:
        _match(made, classes)
    return made


def numbers(name: str, values: object, axes: int = 1) -> Tensor:
    """Numbers that a calibrator holds, float64, of so many axes.

    Raises:
        InputError: they are none, not finite, or not of that form.
    """
    try:
        made = torch.tensor(values, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be numbers in {axes} axes: {error}") from None
    if made.ndim != axes or made.numel() == 0 or not bool(made.isfinite().all()):
        raise InputError(f"{name} must be finite numbers in {axes} axes; got {list(made.shape)}")
    return made


def positive(name: str, value: float) -> None:
    """Check a number that a calibrator holds.

    Raises:
        InputError: it is not finite and above 0.
    """
    if not bool(numbers(name, value, 0) > 0.0):
        raise InputError(f"{name} must be above 0; got {value}")


def _linear(weight: object, bias: object, axes: int) -> None:
    """Check the numbers of a vector or matrix scaling."""
    sizes = {*numbers("weight", weight, axes).shape, *numbers("bias", bias).shape}
    if len(sizes) > 1 or sizes == {1}:
        raise InputError(
            f"expected a weight{' of a square matrix' if axes == 2 else ''} and a bias for each of "
            f"two or more classes; got sizes {sorted(sizes)}"
        )


def _one(probs: Tensor | None, logits: Tensor | None) -> Tensor:
    given = logits if probs is None else probs
    if given is None or (probs is not None and logits is not None):
        raise InputError("pass either probs=… or logits=…: values do not tell them apart")
    if given.ndim not in (1, 2):
        raise InputError(f"expected [N, C] of classes, or [N] of yes; got {list(given.shape)}")
    return given


def _scores(probs: Tensor | None, logits: Tensor | None) -> Tensor:
    """Log-probabilities up to a constant, float64 `[N, C]`; logits as they are."""
    given = _one(probs, logits)
    if probs is not None:
        return columns(probs).clamp_min(_LEAST).log()
    wide = given.detach().double()
    return _with_no(wide) if wide.ndim == 1 else wide


def _with_no(logits: Tensor) -> Tensor:
    """Logits of no and yes, `[..., 2]`."""
    return torch.stack((torch.zeros_like(logits), logits), -1)


def _calibrated(
    probs: Tensor | None, logits: Tensor | None, scale: Callable[[Tensor], Tensor]
) -> Tensor:
    """Probabilities of scaled scores, of the shape and type that came."""
    given = _one(probs, logits)
    spread = scale(_scores(probs, logits)).softmax(1)
    return (spread[:, 1] if given.ndim == 1 else spread).to(given.dtype)


def _mapped(scores: Tensor, weight: tuple[object, ...], bias: tuple[float, ...]) -> Tensor:
    _match(scores, len(bias))
    return _moved(scores, scores.new_tensor(weight), scores.new_tensor(bias))


def _moved(scores: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return (scores @ weight.T if weight.ndim == 2 else scores * weight) + bias


def _most_probable(
    scores: Tensor, labels: Tensor, start: Tensor, penalty: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Weights and biases by LBFGS, from a vector or a matrix that changes nothing."""
    # not in inference mode, nor of tensors that were made in it: they take no part in gradients
    with torch.inference_mode(False), torch.enable_grad():
        scores, labels, start = scores.clone(), labels.clone(), start.clone().to(scores)
        weight, bias = start.clone().requires_grad_(), torch.zeros_like(scores[0]).requires_grad_()
        parts, classes = 2.0 * _PRIOR**2 * len(scores), len(bias)
        off = 1.0 - torch.eye(classes).to(scores) if weight.ndim == 2 else torch.zeros_like(weight)
        optimiser = torch.optim.LBFGS(
            [weight, bias],
            max_iter=_STEPS,
            tolerance_grad=1e-9,
            tolerance_change=1e-12,
            line_search_fn="strong_wolfe",
        )

        def closure() -> Tensor:
            optimiser.zero_grad()
            value = torch.nn.functional.cross_entropy(_moved(scores, weight, bias), labels)
            prior = ((weight - start).square().sum() + bias.square().sum()) / parts
            odd = (weight * off).square().sum() / max(1, classes * (classes - 1))
            value = value + prior + penalty * (odd + bias.square().mean())
            value.backward()
            return value

        optimiser.step(closure)
    return weight.detach(), bias.detach()


def _samples(logits: Tensor) -> Tensor:
    """Float64 `[S, N, C]`."""
    if logits.ndim not in (2, 3) or not logits.is_floating_point() or len(logits) == 0:
        raise InputError(
            f"expected logits of samples, [S, N, C] of classes or [S, N] of yes; got "
            f"{list(logits.shape)} of {str(logits.dtype).removeprefix('torch.')}"
        )
    wide = logits.detach().double()
    return _with_no(wide) if wide.ndim == 2 else wide


def _match(scores: Tensor, classes: int) -> None:
    if scores.shape[1] != classes:
        raise InputError(f"fitted on {classes} classes; got {scores.shape[1]}")
