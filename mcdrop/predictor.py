"""`MCDropout`: Monte Carlo dropout over any module or program."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from mcdrop.arguments import integer, one_of, positive
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
    check_precision,
    require_variance,
)
from mcdrop.errors import InputError
from mcdrop.estimate import estimator
from mcdrop.exact import CLOSED_FORM, closed_form, switched_off
from mcdrop.opening import open_eager, open_program
from mcdrop.prediction import Prediction, joined
from mcdrop.program import Manifest, Program, TensorSpec, artifact
from mcdrop.program.analytic import analytic_head as without_last_sites
from mcdrop.program.device import resolve_device
from mcdrop.program.manifest import Defaults
from mcdrop.program.schema import Inputs, checked, lookup_errors
from mcdrop.sampling import BLOCK, Masks, Sampling
from mcdrop.summary import Summary, first_look
from mcdrop.tasks import AnyTask, Regression, Task, check_outputs, entries, resolve

Progress = Callable[[int, int], None]
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
            (the oracle), `"batched"`, `"thinned"` (dropped units are not computed), or `"eager"`
            for modules that cannot be traced.
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
        one_of("engine", engine, ("auto", "loop", "batched", "thinned", "eager"))
        one_of("precision", precision, ("float32", "tf32", "bfloat16"))
        memory_budget = integer("memory_budget (bytes)", memory_budget, 1)
        self.task: AnyTask = resolve(task)
        self.masks: Masks = masks
        self.sampling: Sampling = sampling
        self.device = resolve_device(device)
        check_precision(precision, self.device)
        self.manifest: Manifest | None = None
        self._eager: EagerEngine | None = None
        self._program: Program | None = None
        self._head: Program | None = None
        self._closed: Callable[[Mapping[str, Tensor], int], Prediction] | None = None
        self._closed_plan = Plan(1, CLOSED_FORM, CLOSED_FORM)
        if analytic_head and (engine == "eager" or not isinstance(self.task, Regression)):
            raise InputError(
                "analytic_head takes a program (not engine='eager') and task='regression', which "
                "is affine in the model's output; a softmax or a log-variance is not. For the "
                "moments of logits, take task='regression' on their entry"
            )
        if engine == "eager":
            if precision != "float32":
                raise InputError("engine='eager' computes as the module does; leave precision out")
            if sites is not None:
                raise InputError('engine="eager" samples every site; sites cannot be selected')
            self._eager = open_eager(
                model, example_inputs, dynamic_axes, self.task, masks, sampling
            )
            self._source: Source = self._eager
            self.inputs: tuple[TensorSpec, ...] = self._eager.inputs
            return
        program, example = open_program(model, example_inputs, sites, dynamic_axes)
        names = entries(self.task, [spec.name for spec in program.outputs])
        program = program.select(*names).to(self.device)
        check_outputs(self.task, [spec.shape for spec in program.outputs])
        program.require_rows()
        program.require_sites()
        if example is not None:
            require_variance(program, checked(program.inputs, example.tensors, self.device))
        self._program = program
        self.inputs = program.inputs

        def planner(program: Program) -> Planner:
            return Planner(
                program,
                engine=engine,
                masks=masks,
                sampling=sampling,
                memory_budget=memory_budget,
                precision=precision,
            )

        self._source = self._sampled = planner(program)
        if analytic_head:
            self._head = without_last_sites(program)
            if self._head.active:
                self._source = planner(self._head)
            else:
                assert isinstance(self.task, Regression)
                self._closed = partial(closed_form, self._head, self.task)

    @property
    def program(self) -> Program:
        """The captured program, with the outputs that the task reads.

        Raises:
            InputError: the eager engine has none.
        """
        if self._program is None:
            raise InputError('engine="eager" runs the module itself; there is no program')
        return self._program

    @property
    def engine(self) -> str:
        """Name of the engine in use; `"closed form"` where an analytic head leaves no sampling."""
        return CLOSED_FORM.engine if self._closed is not None else self._source.name

    @property
    def plan(self) -> Plan:
        """How the newest shape of input is computed, and why; print it.

        Raises:
            InputError: the eager engine has no plan.
        """
        if not isinstance(self._source, Planner):
            raise InputError('engine="eager" runs the module itself, one sample at a time')
        if self._closed is not None:
            return self._closed_plan
        return self._source.latest

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
        if self._closed is not None:
            return self._closed(job.inputs, job.plan.rows)
        parts = []
        for rows in job.row_chunks():

            def report(done: int, rows: range = rows) -> None:
                if progress is not None:
                    progress(rows.start * job.samples + len(rows) * done, job.rows * job.samples)

            summary = self._summary(job, rows)
            summary.extend(0, job.samples, report)
            if summary.finished:
                report(job.samples)
            parts.append(summary.prediction())
            del summary  # or its trunk would be held while the next one is made
        return joined(parts)

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
        if self._closed is not None:
            return iter([self._closed(job.inputs, job.plan.rows)])
        return self._partials(job)

    def _partials(self, job: Job) -> Iterator[Prediction]:
        summaries = [self._summary(job, rows) for rows in job.row_chunks()]
        for start in range(0, job.samples, BLOCK):
            for summary in summaries:
                summary.extend(start, min(start + BLOCK, job.samples))
                if len(summaries) > 1:
                    summary.release()  # or memory would grow with the rows
            yield joined([summary.prediction() for summary in summaries])
            if all(summary.finished for summary in summaries):
                return

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
        source = self._eager or self._sampled  # not of an analytic head, which has no samples
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
        inputs = checked(self.inputs, x, self.device)
        if self._eager is None:
            return switched_off(self.program, inputs, self._sampled.fitting_rows(inputs))[0]
        with torch.no_grad(), lookup_errors():
            return self._eager.deterministic(inputs)[0]

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
        overwrite: bool = False,
    ) -> Path:
        """Write an artifact: a folder of data that `load` and the server read.

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
        return artifact.save(Path(path), self.program, manifest, overwrite=overwrite)

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
        if source is None and self._closed is not None:
            rows = self._sampled.fitting_rows(inputs)
            plan = self._closed_plan = Plan(rows, CLOSED_FORM, CLOSED_FORM)
        else:
            plan = (source or self._source).plan(inputs, samples, seed)
        return Job(inputs, samples, seed, first_row, plan, tolerance)

    @cached_property
    def _first_look(self) -> int:
        """After how many samples a tolerance is looked at first."""
        sites = self._eager.sites if self._eager else (self._head or self.program).active
        return first_look([site.law for site in sites])

    def _summary(self, job: Job, rows: range) -> Summary:
        block = BLOCK if self.sampling == "balanced" else 1
        estimate = estimator(self.task, block, analytic=self._head is not None)

        def open_rows(some: Sequence[int]) -> Sampler:
            return self._source.open(job.plan, job.part(some), job.seed, job.numbers(some))

        return Summary(rows, estimate, open_rows, job.tolerance, self._first_look)
