"""`MCDropout`: Monte Carlo dropout over any module or program."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from mcdrop.arguments import integer, one_of, positive
from mcdrop.calibration.methods import Conformal, Method
from mcdrop.calibration.record import Calibration
from mcdrop.capture.example import Ranges
from mcdrop.engine import (
    EagerEngine,
    EngineName,
    Job,
    Plan,
    Planner,
    Precision,
    Sampler,
    Source,
    Team,
    check_precision,
)
from mcdrop.errors import InputError
from mcdrop.estimate import estimator, ragged_estimator
from mcdrop.evaluation.document import Evaluation
from mcdrop.exact import CLOSED_FORM, switched_off
from mcdrop.extras import write_extras
from mcdrop.opening import open_model
from mcdrop.prediction import Prediction
from mcdrop.program import Manifest, Program, TensorSpec, artifact
from mcdrop.program.device import resolve_device
from mcdrop.program.manifest import Defaults
from mcdrop.program.schema import Inputs, LookupErrors, checked
from mcdrop.recalibrate import recalibrated
from mcdrop.residency import Residency
from mcdrop.sampling import BLOCK, Masks, Sampling
from mcdrop.summary import Progress, Summary, first_look, partials, summarised
from mcdrop.tasks import AnyTask, Task, resolve

_DEFAULTS = Defaults()
MOST_SAMPLES = 1024  # where a tolerance decides, and the caller named no limit


class MCDropout:
    """Monte Carlo dropout over any PyTorch model (Gal & Ghahramani, 2016).

    Args:
        model: a module or a captured program.
        example_inputs: a tensor, a tuple or a dict of tensors; needed for a module.
        task: `"classification"`, `"binary"`, `"multilabel"`, `"regression"`, `"gaussian"`, or an
            object of `mcdrop.tasks`.
        masks: `"shared"` gives all rows of a sample the same masks: a sample is one function;
            `"independent"` gives each row its own.
        sampling: `"balanced"` drops each unit in as nearly p of the samples as whole numbers allow,
            in blocks of 16: the mean is known with fewer samples. `"iid"`: independent samples.
        engine: `"auto"` (the fastest, by a short warm-up for each new shape of input), `"loop"`
            (the oracle), `"batched"`, `"thinned"` (dropped units are not computed), `"packed"`
            (nor here, and one sample after another: CPUs), or `"eager"` for modules that
            cannot be traced.
        device: where to compute.
        memory_budget: bytes that the tensors of a chunk may take.
        sites: patterns of the sites to sample; all by default.
        dynamic_axes: free axes other than the batch (see `capture`).
        analytic_head: for regression: take the last dropout, where only an affine layer follows it,
            in closed form instead of by sampling. Exact, and without Monte Carlo error where the
            model has no other site.
        precision: `"float32"`, or `"bfloat16"` or (CUDA) `"tf32"` for the products; `plan` says
            what that costs in accuracy.

    Raises:
        CaptureError: the module cannot be traced.
        NoStochasticSiteError: nothing random reaches the output.
        InputError: an argument does not fit.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 3))
        >>> mc = MCDropout(net, example_inputs=torch.zeros(1, 4), task="classification")
        >>> p = mc.predict(torch.randn(8, 4), samples=100)
        >>> p.mean.shape, p.mutual_information.shape
        (torch.Size([8, 3]), torch.Size([8]))
    """

    def __init__(
        self,
        model: nn.Module | Program,
        example_inputs: Inputs | None = None,
        *,
        task: str | Task,
        masks: Masks = "shared",
        sampling: Sampling = "balanced",
        engine: EngineName | Literal["eager"] = "auto",
        device: torch.device | str = "cpu",
        memory_budget: int = 1 << 30,
        sites: str | Sequence[str] | None = None,
        dynamic_axes: Ranges | None = None,
        analytic_head: bool = False,
        precision: Precision = "float32",
    ) -> None:
        one_of("masks", masks, ("shared", "independent"))
        one_of("sampling", sampling, ("balanced", "iid"))
        one_of("engine", engine, ("auto", "loop", "batched", "thinned", "packed", "eager"))
        one_of("precision", precision, ("float32", "tf32", "bfloat16"))
        memory_budget = integer("memory_budget (bytes)", memory_budget, 1)
        self.task: AnyTask = resolve(task)
        self.masks: Masks = masks
        self.sampling: Sampling = sampling
        self.device = resolve_device(device)
        check_precision(precision, self.device)
        self.manifest: Manifest | None = None
        self.evaluation: Evaluation | None = None  # as loaded; of the calibrated model
        self._calibration: Calibration | None = None
        self._closed_plan = Plan(1, CLOSED_FORM, CLOSED_FORM)
        self._opened = open_model(
            model,
            example_inputs,
            task=self.task,
            masks=masks,
            sampling=sampling,
            engine=engine,
            device=self.device,
            memory_budget=memory_budget,
            sites=sites,
            dynamic_axes=dynamic_axes,
            analytic_head=analytic_head,
            precision=precision,
        )
        self.inputs: tuple[TensorSpec, ...] = self._opened.inputs

    @property
    def program(self) -> Program:
        """The captured program, with the outputs that the task reads.

        Raises:
            InputError: the eager engine has none.
        """
        if self._opened.program is None:
            raise InputError('engine="eager" runs the module itself; there is no program')
        return self._opened.program

    @property
    def engine(self) -> str:
        """Name of the engine in use; `"closed form"` where an analytic head leaves no sampling."""
        opened = self._opened
        return CLOSED_FORM.engine if opened.closed is not None else opened.source.name

    @property
    def plan(self) -> Plan:
        """How the newest shape of input is computed, and why; print it.

        Raises:
            InputError: the eager engine has no plan.
        """
        source = self._opened.source
        if not isinstance(source, Planner):
            raise InputError('engine="eager" runs the module itself, one sample at a time')
        return source.latest if self._opened.closed is None else self._closed_plan

    @property
    def calibration(self) -> Calibration | None:
        """What `predict` applies; `None` for none. Set it, or let `calibrate` fit it.

        Raises:
            InputError: it was fitted for another task.
        """
        return self._calibration

    @calibration.setter
    def calibration(self, calibration: Calibration | None) -> None:
        if calibration is not None and calibration.task != self.task:
            raise InputError(
                f"the calibration was fitted for {calibration.task!r}; the model's task is "
                f"{self.task!r}"
            )
        self._calibration = calibration

    def calibrate(
        self,
        x: Inputs,
        targets: Tensor,
        *,
        method: Method = "auto",
        conformal: Conformal = "auto",
        level: float = 0.9,
        samples: int | None = None,
        seed: int | None = None,
        source: str = "",
        progress: Progress | None = None,
    ) -> Calibration:
        """Fit calibrators on held-out rows; `predict` and `save` use them from then on.

        Args:
            x: rows that the model was not trained on, as for `predict`.
            targets: their labels or numbers, `[B, ...]`.
            method: `"sample_temperature"` (inside of the average over samples), `"temperature"`
                (outside), `"vector"`, `"matrix"`, `"histogram"`, `"isotonic"`; `"deviation"` and
                `"quantiles"` for numbers; `"none"`. The first of its kind by default.
            conformal: score of sets, `"thr"`, `"aps"`, `"raps"`; of intervals, `"scaled"` (in
                predicted standard deviations), `"absolute"`, `"cqr"`; `"none"`. By default the
                first of its kind. Sets and `"cqr"` take half of the rows for themselves. Each
                of several numbers, `[B, D]`, is calibrated on its own.
            level: of `"cqr"`; the others serve every level.
            samples: as for `predict`.
            seed: as for `predict`.
            source: where the rows are from, for people.
            progress: as for `predict`.

        Raises:
            InputError: an argument does not fit, or nothing can be fitted on these rows.
        """
        defaults = _DEFAULTS if self.manifest is None else self.manifest.defaults
        self.calibration = recalibrated(
            copy.copy(self),
            x,
            targets,
            samples=integer("samples", defaults.samples if samples is None else samples, 1),
            method=method,
            conformal=conformal,
            level=level,
            seed=seed,
            source=source,
            progress=progress,
        )
        return self.calibration

    def predict(
        self,
        x: Inputs,
        *,
        samples: int | None = None,
        seed: int | None = None,
        tolerance: float | None = None,
        first_row: int = 0,
        progress: Progress | None = None,
    ) -> Prediction:
        """Summarise `samples` stochastic passes.

        Args:
            x: a tensor, or a tuple or dict of tensors, `[B, ...]`.
            samples: how many; the artifact's default, or 64. Multiples of 16 are used best: the
                last samples of a block balance its first ones. With a tolerance, the most that a
                row may use; 1024 by default.
            seed: of the mask stream; the artifact's default, or 0. The same seed gives the same
                answer (to rounding) whatever other rows are in the batch.
            tolerance: a row is done when the root mean square error that its mean is expected to
                have, the largest over its outputs, is no larger: the standard error, and a little
                more where few blocks tell it. Looked at after each block of 16 samples, from 64 on,
                or from as many as drop every unit once (1 / p).
            first_row: number of the first row. Independent masks are keyed by the row's number, so
                pass it when a table is predicted in parts.
            progress: called with (done, total) in row-samples after each chunk.

        Returns:
            A `ClassificationPrediction` or a `RegressionPrediction`.

        Raises:
            InputError: an input does not fit the model.
        """
        job = self._job(x, samples, seed, tolerance, first_row)
        if self._opened.closed is not None:
            return self._calibrated(self._opened.closed(job.inputs, job.plan.rows))
        return self._calibrated(summarised(job, self._summary, progress))

    def interval(self, prediction: Prediction, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Lower and upper bounds that hold `level` of the targets, each of the shape of `mean`.

        Conformal, or between recalibrated quantiles, where the `calibration` has such; of the
        normal distribution (`prediction.interval`) where it has none.

        Args:
            prediction: made by `predict`, of numbers.
            level: strictly between 0 and 1.

        Raises:
            InputError: the prediction is of classes, or the level is not one that can be had.
        """
        return (self._calibration or Calibration(self.task)).interval(prediction, level)

    def stream(
        self,
        x: Inputs,
        *,
        samples: int | None = None,
        seed: int | None = None,
        tolerance: float | None = None,
        first_row: int = 0,
    ) -> Iterator[Prediction]:
        """Partial predictions after each block of samples; the last one is that of `predict`.

        Args:
            x: as for `predict`.
            samples: as for `predict`.
            seed: as for `predict`.
            tolerance: as for `predict`; the stream ends when every row is done.
            first_row: as for `predict`.

        Raises:
            InputError: an input does not fit the model.
        """
        job = self._job(x, samples, seed, tolerance, first_row)
        if self._opened.closed is not None:
            return iter([self._calibrated(self._opened.closed(job.inputs, job.plan.rows))])
        return map(self._calibrated, partials(job, self._summary))

    def sample(
        self, x: Inputs, *, samples: int = 10, seed: int | None = None, first_row: int = 0
    ) -> Tensor:
        """The task's output entry of each sample, no link applied: `[S, B, ...]`.

        Args:
            x: as for `predict`.
            samples: how many; all of them are held in memory.
            seed: as for `predict`.
            first_row: as for `predict`.

        Raises:
            InputError: an input does not fit the model.
        """
        source = self._opened.plain  # not of an analytic head, which has no samples
        job = self._job(x, samples, seed, None, first_row, source)
        columns = []
        for rows in job.row_chunks():
            sampler = source.open(job.plan, job.part(rows), job.seed, job.numbers(rows))
            chunks = [sampler.samples(chunk)[0] for chunk in sampler.chunks(0, job.samples)]
            columns.append(torch.cat(chunks))
        return torch.cat(columns, 1)

    def deterministic(self, x: Inputs) -> Tensor:
        """The task's output entry with dropout off, `[B, ...]`.

        Raises:
            InputError: an input does not fit the model.
        """
        inputs, plain = checked(self.inputs, x, self.device), self._opened.plain
        if isinstance(plain, Planner):
            return switched_off(self.program, inputs, plain.fitting_rows(inputs))[0]
        assert isinstance(plain, EagerEngine)
        with torch.no_grad(), LookupErrors():
            return plain.deterministic(inputs)[0]

    def residency(self, team: Team | None = None) -> Residency:
        """Rows of many callers, sampled together and each as far as it needs: what servers do.

        Args:
            team: threads that take samples side by side from now on; for CPUs.

        Raises:
            InputError: the model is run eagerly, or has an analytic head.
        """
        source = self._opened.source
        if not isinstance(source, Planner) or self._opened.analytic:
            raise InputError("rows of many callers take a program, and no analytic head")
        if team is not None:
            source.employ(team)
        block = BLOCK if self.sampling == "balanced" else 1
        temperature = 1.0 if self._calibration is None else self._calibration.temperature
        defaults = _DEFAULTS if self.manifest is None else self.manifest.defaults
        return Residency(
            source,
            self.inputs,
            lambda: ragged_estimator(self.task, block, temperature=temperature),
            self._calibrated,
            defaults.seed,
            first_look=self._first_look,
        )

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        name: str,
        version: int = 1,
        description: str = "",
        classes: Sequence[str] | None = None,
        metrics: Mapping[str, float] | None = None,
        provenance: Mapping[str, str] | None = None,
        samples: int = _DEFAULTS.samples,
        seed: int = 0,
        evaluation: Evaluation | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write an artifact: a folder of data that `load` and the server read.

        The `calibration` goes with it.

        Args:
            path: the folder to make, by convention `models/<name>/<version>`.
            name: name of the model: letters, digits, `.`, `_`, `-`.
            version: a positive number.
            description: for people.
            classes: names of the classes, one for each.
            metrics: held-out figures by name.
            provenance: how the model was made; versions and date are added.
            samples: default number of samples.
            seed: default seed.
            evaluation: how good its predictions are; the server tells it.
            overwrite: replace an artifact that is already there.

        Returns:
            The folder.

        Raises:
            ArtifactError: it cannot be written, or the program cannot be stored.
            InputError: a field does not fit.
        """
        manifest = artifact.describe(
            self.program,
            self.task,
            Defaults(samples=samples, seed=seed, masks=self.masks, sampling=self.sampling),
            name=name,
            version=version,
            description=description,
            classes=classes,
            metrics=metrics,
            provenance=provenance,
        )
        extras = write_extras(self._calibration, evaluation)
        return artifact.save(Path(path), self.program, manifest, extras=extras, overwrite=overwrite)

    def _job(
        self,
        x: Inputs,
        samples: int | None,
        seed: int | None,
        tolerance: float | None,
        first_row: int,
        source: Source | None = None,
    ) -> Job:
        defaults = _DEFAULTS if self.manifest is None else self.manifest.defaults
        if tolerance is not None:
            tolerance = positive("tolerance", tolerance)
            samples = MOST_SAMPLES if samples is None else samples
        samples = integer("samples", defaults.samples if samples is None else samples, 1)
        seed = integer("seed", defaults.seed if seed is None else seed, 0)
        first_row = integer("first_row", first_row, 0, 2**32 - 1)
        inputs = checked(self.inputs, x, self.device)
        if source is None and self._opened.closed is not None:
            assert isinstance(self._opened.plain, Planner)
            rows = self._opened.plain.fitting_rows(inputs)
            plan = self._closed_plan = Plan(rows, CLOSED_FORM, CLOSED_FORM)
        else:
            plan = (source or self._opened.source).plan(inputs, samples, seed)
        return Job(inputs, samples, seed, first_row, plan, tolerance)

    @cached_property
    def _first_look(self) -> int:
        """After how many samples a tolerance is looked at first."""
        return first_look(self._opened.laws)

    def _calibrated(self, prediction: Prediction) -> Prediction:
        return prediction if self._calibration is None else self._calibration.apply(prediction)

    def _summary(self, job: Job, rows: range) -> Summary:
        estimate = estimator(
            self.task,
            BLOCK if self.sampling == "balanced" else 1,
            analytic=self._opened.analytic,
            temperature=1.0 if self._calibration is None else self._calibration.temperature,
        )

        def open_rows(some: Sequence[int]) -> Sampler:
            source = self._opened.source
            return source.open(job.plan, job.part(some), job.seed, job.numbers(some))

        return Summary(rows, estimate, open_rows, job.tolerance, self._first_look)
