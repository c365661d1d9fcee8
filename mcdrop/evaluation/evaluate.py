"""From a predictor and labelled rows to an `Evaluation`."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mcdrop.calibration.layout import flat_labels, flat_probs, shaped_targets
from mcdrop.calibration.record import Calibration
from mcdrop.errors import InputError
from mcdrop.evaluation import strata
from mcdrop.evaluation.classes import ClassOutcomes
from mcdrop.evaluation.detection import Uncertainties, detect
from mcdrop.evaluation.document import Convergence, Data, Detection, Evaluation, Model, Run
from mcdrop.evaluation.intervals import FEWEST, Z95
from mcdrop.evaluation.numbers import NumberOutcomes
from mcdrop.evaluation.resampling import REPLICATES
from mcdrop.metrics.functional.cases import cases
from mcdrop.metrics.functional.densities import gaussians, log_densities
from mcdrop.prediction import Prediction, RegressionPrediction
from mcdrop.program import Manifest
from mcdrop.tasks import AnyTask, Gaussian, Regression
from mcdrop.version import __version__

_CONVERGENCE_ROWS = 256

Inputs = Mapping[str, Tensor]


class Predictor(Protocol):
    """What is evaluated: an `MCDropout`."""

    task: AnyTask
    manifest: Manifest | None

    @property
    def calibration(self) -> Calibration | None:
        """What its predictions are calibrated with."""

    def predict(self, x: Inputs, *, samples: int, seed: int, first_row: int) -> Prediction:
        """A prediction of some rows."""

    def stream(self, x: Inputs, *, samples: int, seed: int) -> Iterator[Prediction]:
        """Predictions with more and more samples."""


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Rows and what turned out to be true.

    Attributes:
        inputs: by name, `[B, ...]`.
        target: labels or numbers, `[B, ...]`.
        groups: a name for each row, to have figures of each group.
    """

    inputs: Inputs
    target: Tensor
    groups: Sequence[str] | None = None


def evaluate(
    predictor: Predictor,
    batches: Iterable[Labelled],
    *,
    source: str,
    samples: int | None = None,
    seed: int | None = None,
    others: Iterable[Inputs] | None = None,
    other_source: str = "",
    convergence: int | None = 256,
) -> Evaluation:
    """Predict labelled rows, and say what the predictions and their uncertainties are worth.

    Args:
        predictor: with its calibration, if it has one.
        batches: rows that it was neither trained nor calibrated on; read once.
        source: what they are, for people.
        samples: Monte Carlo samples; the artifact's default, or 64.
        seed: of the masks; the artifact's default, or 0.
        others: rows of other data, which its uncertainties should tell from these.
        other_source: what those are.
        convergence: samples that up to 256 of the rows are predicted with once more, to tell what
            more samples bring; never fewer than those of the evaluation. `None` leaves it out.

    Raises:
        InputError: there are no rows, or they do not fit the model.

    Example:
        >>> import mcdrop
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.Dropout(),
        ...                           torch.nn.ReLU(), torch.nn.Linear(32, 3))
        >>> mc = mcdrop.MCDropout(net, torch.zeros(1, 4), task="classification")
        >>> rows = Labelled({mc.inputs[0].name: torch.randn(50, 4)}, torch.randint(3, (50,)))
        >>> document = evaluate(mc, [rows], source="noise")
        >>> document.data.rows, document.figure("accuracy").low is not None
        (50, True)
    """
    begun = time.monotonic()
    manifest, calibration = predictor.manifest, predictor.calibration
    samples = samples or (manifest.defaults.samples if manifest else 64)
    seed = seed if seed is not None else (manifest.defaults.seed if manifest else 0)
    names = manifest.classes if manifest else None
    outcomes: NumberOutcomes | ClassOutcomes
    if isinstance(predictor.task, Regression | Gaussian):
        outcomes = NumberOutcomes(predictor.task, calibration)
    else:
        outcomes = ClassOutcomes(predictor.task, names, calibration)
    ours, first = Uncertainties(), None
    for batch in batches:
        prediction = predictor.predict(
            batch.inputs, samples=samples, seed=seed, first_row=outcomes.rows
        )
        outcomes.add(prediction, batch.target, batch.groups)
        ours.add(prediction)
        first = first or batch
    if first is None:
        raise InputError(f"{source} holds no labelled rows that could be used")
    detection = None
    if others is not None:
        detection = _other(predictor, others, other_source, samples, seed, ours)
    figures = outcomes.figures()
    converged = None
    if convergence is not None:
        converged = _convergence(predictor, first, max(samples, convergence), seed)
    classes = outcomes if isinstance(outcomes, ClassOutcomes) else None
    numbers = outcomes if isinstance(outcomes, NumberOutcomes) else None
    return Evaluation(
        model=Model(
            name=manifest.name if manifest else "model",
            version=manifest.version if manifest else 1,
            task=predictor.task.kind,
            classes=names,
            calibration=calibration.describe() if calibration else "",
        ),
        data=Data(source=source, rows=outcomes.rows, cases=outcomes.cases),
        run=Run(
            samples=samples,
            seed=seed,
            seconds=round(time.monotonic() - begun, 3),
            mcdrop=__version__,
            torch=torch.__version__,
            created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            replicates=REPLICATES,
            ranked_replicates=strata.REPLICATES,
            ranked_rows=strata.ROWS,
        ),
        figures=figures,
        reliability=classes.reliability() if classes else None,
        risk_coverage=outcomes.risk_coverage(),
        uncertainty=classes.uncertainty() if classes else None,
        error=outcomes.error(),
        pit=numbers.pit() if numbers else None,
        coverage=numbers.coverage() if numbers else (),
        convergence=converged,
        classes=classes.classes() if classes else (),
        outputs=numbers.outputs() if numbers else (),
        groups=outcomes.groups(),
        detection=detection,
        notes=numbers.notes() if numbers else (),
    )


def _other(
    predictor: Predictor,
    others: Iterable[Inputs],
    source: str,
    samples: int,
    seed: int,
    ours: Uncertainties,
) -> Detection:
    theirs, rows = Uncertainties(), 0
    for inputs in others:
        prediction = predictor.predict(inputs, samples=samples, seed=seed, first_row=rows)
        theirs.add(prediction)
        rows += len(prediction.mean)
    if not rows:
        raise InputError(f"{source} holds no rows that could be used")
    return detect(ours, theirs, source)


def _convergence(predictor: Predictor, batch: Labelled, most: int, seed: int) -> Convergence:
    """Standard error and likelihood after 16, 32, 64, … samples of up to 256 rows."""
    inputs = {name: tensor[:_CONVERGENCE_ROWS] for name, tensor in batch.inputs.items()}
    target = batch.target[:_CONVERGENCE_ROWS]
    taken: list[int] = []
    errors: list[float | None] = []
    losses: list[Tensor] = []
    moved = predictor.calibration is not None and predictor.calibration.moves_quantiles
    wanted = 16
    for prediction in predictor.stream(inputs, samples=most, seed=seed):
        so_far = int(prediction.samples.amax())
        if so_far < wanted and so_far < most:
            continue
        wanted *= 2
        taken.append(so_far)
        errors.append(_finite(prediction.standard_error.double().square().mean().sqrt()))
        losses.append(_losses(predictor.task, prediction, target))
    return Convergence(
        rows=len(target),
        samples=tuple(taken),
        standard_error=tuple(errors),
        score=tuple(None if moved else _finite(loss.mean()) for loss in losses),
        score_error=tuple(None if moved else _half(loss - losses[-1]) for loss in losses),
    )


def _half(gaps: Tensor) -> float | None:
    """Half of the 95% interval of the mean of gaps; nothing for fewer than ten."""
    return None if len(gaps) < FEWEST else _finite(Z95 * gaps.std() / len(gaps) ** 0.5)


def _losses(task: AnyTask, prediction: Prediction, target: Tensor) -> Tensor:
    """Mean negative log-likelihood of each row, `[B]`, in nats."""
    rows = len(target)
    if isinstance(prediction, RegressionPrediction):
        truth = shaped_targets(prediction.mean, target)
        logs = log_densities(*gaussians(prediction.mean, prediction.variance.sqrt(), truth))
        return -logs.reshape(rows, -1).mean(1)
    labels = flat_labels(task, prediction.mean, target).to(prediction.mean.device)
    found = cases(probs=flat_probs(task, prediction.mean), labels=labels)
    return -found.probs.gather(1, found.labels[:, None]).log().reshape(rows, -1).mean(1)


def _finite(value: Tensor) -> float | None:
    return float(value) if bool(value.isfinite()) else None
