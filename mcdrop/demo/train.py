"""Train a demo model, calibrate and measure it on rows it never saw, and save it as an artifact."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from mcdrop.demo import data, diabetes, digits
from mcdrop.errors import InputError
from mcdrop.evaluation import Labelled, evaluate
from mcdrop.loading import load
from mcdrop.predictor import MCDropout
from mcdrop.republish import save_again
from mcdrop.tasks import Classification, Gaussian

DEMOS = ("digits", "diabetes")
SAMPLES = 64

Progress = Callable[[int, int], None]


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator and use one thread within; put both back as they were.

    Not `torch.manual_seed`: that one would seed the other devices as well, and leave them so. One
    thread, because sums then have one order on every machine, and because layers this small lose
    more to waiting threads than they gain: 12 s against 39 s for digits on two busy cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def train(
    name: str,
    output: Path,
    *,
    seed: int = 0,
    epochs: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train one demo model and save it to `<output>/<name>/1`.

    The same seed gives the same weights. The random state is left as it was.

    Args:
        name: one of `DEMOS`.
        output: the models folder; an artifact that is already there is replaced.
        seed: of the initial weights, the order of rows and dropout in training.
        epochs: fewer epochs than a good model takes, for a quick look.
        progress: told (done, total) epochs.

    Returns:
        The artifact's folder.

    Raises:
        InputError: no such demo model.
        McdropError: scikit-learn is not installed.
    """
    trainers = {"digits": _digits, "diabetes": _diabetes}
    if name not in trainers:
        raise InputError(f"the demo models are {', '.join(trainers)}; got {name!r}")
    return trainers[name](output / name / "1", seed, epochs, progress)


def _digits(folder: Path, seed: int, epochs: int | None, progress: Progress | None) -> Path:
    epochs = digits.EPOCHS if epochs is None else epochs
    split = data.digits()
    with reproducible(seed):
        net = digits.fit(split, epochs, progress)
    example = torch.from_numpy(split.test[0][:4])
    mc = MCDropout(net, example_inputs=(example,), task=Classification())
    _calibrate(mc, split)
    mc.save(
        folder,
        name="digits",
        description=digits.DESCRIPTION,
        classes=digits.CLASSES,
        provenance={
            **_provenance(split, seed),
            "split": split.rule,
            "epochs": str(epochs),
            "training": f"cross-entropy, AdamW, one cycle to {digits.PEAK_RATE:g}, "
            f"batches of {digits.BATCH}; settings chosen on a part of the training rows",
        },
        samples=SAMPLES,
        overwrite=True,
    )
    return _measure(folder, split)


def _diabetes(folder: Path, seed: int, epochs: int | None, progress: Progress | None) -> Path:
    split = data.diabetes()
    with reproducible(seed):
        fitted = diabetes.fit(split, diabetes.MAX_EPOCHS if epochs is None else epochs, progress)
    example = torch.from_numpy(split.test[0][:4])
    mc = MCDropout(fitted.net, example_inputs=(example,), task=Gaussian())
    _calibrate(mc, split)
    mc.save(
        folder,
        name="diabetes",
        description=diabetes.DESCRIPTION,
        provenance={
            **_provenance(split, seed),
            "split": f"{split.rule}; {diabetes.VALIDATION_SHARE:.0%} of train for early stopping",
            "epochs": f"{fitted.epochs} (best on the validation part)",
            "training": f"squared error for {diabetes.WARM_EPOCHS} epochs, then beta-NLL with beta "
            f"{diabetes.BETA:g}, AdamW at {diabetes.RATE:g}, batches of {diabetes.BATCH}",
        },
        samples=SAMPLES,
        overwrite=True,
    )
    return _measure(folder, split)


def _calibrate(mc: MCDropout, split: data.Split) -> None:
    rows, truth = (torch.from_numpy(part) for part in split.calibration)
    mc.calibrate(rows, truth, samples=SAMPLES, seed=0, source="the demo data's calibration part")


def _measure(folder: Path, split: data.Split) -> Path:
    """Evaluate the artifact as it was saved, and put the evaluation into it."""
    mc = load(folder)
    rows, truth = (torch.from_numpy(part) for part in split.test)
    batch = Labelled({mc.inputs[0].name: rows}, truth)
    return save_again(
        mc,
        folder,
        evaluation=evaluate(mc, [batch], source="the demo data's test part"),
        overwrite=True,
    )


def _provenance(split: data.Split, seed: int) -> dict[str, str]:
    return {
        "made_by": "mcdrop demo",
        "data": split.source,
        "seed": str(seed),
        "calibration": "fitted on the calibration part, for sets on half of it",
        "metrics": f"test part, calibrated, {SAMPLES} Monte Carlo samples, seed 0",
    }
