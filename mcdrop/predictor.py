"""`MCDropout`: Monte Carlo dropout over any module or program."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from mcdrop.capture import capture
from mcdrop.capture.example import Ranges, make_example
from mcdrop.capture.probe import evaluated
from mcdrop.engine import BatchedEngine, EagerEngine, Engine, Job, LoopEngine, Run, require_variance
from mcdrop.errors import ArtifactError, InputError, NoStochasticSiteError
from mcdrop.estimate import Estimator, estimator
from mcdrop.prediction import Prediction
from mcdrop.program import Manifest, Program, TensorSpec, artifact
from mcdrop.program.device import resolve_device
from mcdrop.program.manifest import Defaults, Files
from mcdrop.program.schema import Inputs, checked, lookup_errors
from mcdrop.sampling import Masks
from mcdrop.tasks import AnyTask, Task, entries, resolve
from mcdrop.version import __version__

EngineName = Literal["auto", "loop", "batched", "eager"]
Progress = Callable[[int, int], None]
_DEFAULT_SAMPLES = 64
_STREAM_BLOCK = 16  # samples between two partial results


class MCDropout:
    """Monte Carlo dropout over any PyTorch model (Gal & Ghahramani, 2016).

    Args:
        model: a module or a captured program.
        example_inputs: a tensor, a tuple or a dict of tensors; needed for a module.
        task: `"classification"`, `"binary"`, `"multilabel"`, `"regression"`, `"gaussian"`, or an
            object of `mcdrop.tasks`.
        masks: `"shared"` gives all rows of a sample the same masks: a sample is one function;
            `"independent"` gives each row its own.
        sampling: `"iid"`, independent samples.
        engine: `"auto"` (batched), `"loop"` (the oracle), `"batched"`, or `"eager"` for modules
            that cannot be traced.
        device: where to compute.
        memory_budget: bytes that the tensors of a chunk may take.
        sites: patterns of the sites to sample; all by default.
        dynamic_axes: free axes other than the batch (see `capture`).

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
        sampling: Literal["iid"] = "iid",
        engine: EngineName = "auto",
        device: torch.device | str = "cpu",
        memory_budget: int = 1 << 30,
        sites: str | Sequence[str] | None = None,
        dynamic_axes: Ranges | None = None,
    ) -> None:
        _one_of("masks", masks, ("shared", "independent"))
        _one_of("sampling", sampling, ("iid",))
        _one_of("engine", engine, ("auto", "loop", "batched", "eager"))
        if memory_budget < 1:
            raise InputError(
                f"memory_budget must be a positive number of bytes; got {memory_budget}"
            )
        self.task: AnyTask = resolve(task)
        self.masks: Masks = masks
        self.device = resolve_device(device)
        self.manifest: Manifest | None = None
        self._eager: EagerEngine | None = None
        self._program: Program | None = None
        if engine == "eager":
            self._engine: Engine = self._open_eager(model, example_inputs, sites, dynamic_axes)
            return
        example = None
        if isinstance(model, Program):
            if example_inputs is not None or sites is not None or dynamic_axes is not None:
                raise InputError(
                    "example_inputs, sites and dynamic_axes belong to capture(); a Program has them"
                )
            program = model
        else:
            if example_inputs is None:
                raise InputError(
                    "example_inputs is needed to trace a module: a tensor, a tuple or a dict"
                )
            program = capture(model, example_inputs, sites=sites, dynamic_axes=dynamic_axes)
            example = make_example(model, example_inputs, dynamic_axes)
        names = entries(self.task, [spec.name for spec in program.outputs])
        program = program.select(*names).to(self.device)
        program.require_rows()
        program.require_sites()
        if example is not None:
            require_variance(program, checked(program.inputs, example.tensors, self.device))
        self._program = program
        self.inputs: tuple[TensorSpec, ...] = program.inputs
        if engine == "loop":
            self._engine = LoopEngine(program, masks)
        else:
            self._engine = BatchedEngine(program, masks, memory_budget)

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
        """Name of the engine in use."""
        return self._engine.name

    def predict(
        self,
        x: Inputs,
        *,
        samples: int | None = None,
        seed: int | None = None,
        first_row: int = 0,
        progress: Progress | None = None,
    ) -> Prediction:
        """Summarise `samples` stochastic passes.

        Args:
            x: a tensor, or a tuple or dict of tensors, `[B, ...]`.
            samples: how many; the artifact's default, or 64.
            seed: of the mask stream; the artifact's default, or 0. The same seed gives the same
                answer whatever other rows are in the batch.
            first_row: number of the first row. Independent masks are keyed by the row's number, so
                pass it when a table is predicted in parts.
            progress: called with (done, total) in row-samples after each chunk.

        Returns:
            A `ClassificationPrediction` or a `RegressionPrediction`.

        Raises:
            InputError: an input does not fit the model.
        """
        job = self._job(x, samples, seed, first_row)
        parts = []
        for rows in job.row_chunks():
            run, estimate = self._open(job, rows), estimator(self.task)
            for chunk in job.sample_chunks(job.plan.samples):
                _fold(estimate, run, chunk)
                if progress is not None:
                    done = rows.start * job.samples + len(rows) * chunk.stop
                    progress(done, job.rows * job.samples)
            parts.append(estimate.prediction())
        return _joined(parts)

    def stream(
        self,
        x: Inputs,
        *,
        samples: int | None = None,
        seed: int | None = None,
        first_row: int = 0,
    ) -> Iterator[Prediction]:
        """Partial predictions after each block of samples; the last one is that of `predict`.

        Args:
            x: as for `predict`.
            samples: as for `predict`.
            seed: as for `predict`.
            first_row: as for `predict`.

        Raises:
            InputError: an input does not fit the model.
        """
        job = self._job(x, samples, seed, first_row)
        opened = [(self._open(job, rows), estimator(self.task)) for rows in job.row_chunks()]
        return _partials(opened, job.sample_chunks(min(_STREAM_BLOCK, job.plan.samples)))

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
        job = self._job(x, samples, seed, first_row)
        columns = []
        for rows in job.row_chunks():
            run = self._open(job, rows)
            with torch.no_grad(), lookup_errors():
                chunks = [
                    run.samples(chunk.start, chunk.stop)[0]
                    for chunk in job.sample_chunks(job.plan.samples)
                ]
            columns.append(torch.cat(chunks))
        return torch.cat(columns, 1)

    def deterministic(self, x: Inputs) -> Tensor:
        """The task's output entry with dropout off, `[B, ...]`.

        Raises:
            InputError: an input does not fit the model.
        """
        inputs = checked(self.inputs, x, self.device)
        with torch.no_grad(), lookup_errors():
            if self._eager is not None:
                return self._eager.deterministic(inputs)[0]
            program = self.program
            return program.run_deterministic(inputs)[program.outputs[0].name]

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
        samples: int = _DEFAULT_SAMPLES,
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
        program = self.program
        made = {
            "mcdrop": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        }
        try:
            manifest = Manifest(
                name=name,
                version=version,
                description=description,
                task=self.task,
                classes=None if classes is None else tuple(classes),
                inputs=program.inputs,
                outputs=program.outputs,
                sites=artifact.site_specs(program),
                defaults=Defaults(samples=samples, seed=seed, masks=self.masks),
                metrics=dict(metrics or {}),
                provenance={**made, **(provenance or {})},
                files=Files(graph="0" * 64, weights="0" * 64),
            )
        except ValueError as error:
            raise InputError(f"the artifact's manifest would not be valid: {error}") from None
        count = manifest.class_count()
        if classes is not None and count is not None and len(classes) != count:
            raise InputError(f"the model has {count} classes; got {len(classes)} names")
        return artifact.save(Path(path), program, manifest, overwrite=overwrite)

    def _open_eager(
        self,
        model: nn.Module | Program,
        example_inputs: Inputs | None,
        sites: str | Sequence[str] | None,
        dynamic_axes: Ranges | None,
    ) -> Engine:
        if isinstance(model, Program) or example_inputs is None:
            raise InputError('engine="eager" needs a module and example_inputs')
        if sites is not None:
            raise InputError('engine="eager" samples every site; sites cannot be selected')
        example = make_example(model, example_inputs, dynamic_axes)
        names = entries(self.task, list(evaluated(model, example)))
        engine = EagerEngine(model, example, names, self.masks)
        if not engine.sites:
            raise NoStochasticSiteError("the module drew no random number in a stochastic pass")
        self.inputs = example.specs()
        self._eager = engine
        return engine

    def _job(self, x: Inputs, samples: int | None, seed: int | None, first_row: int) -> Job:
        defaults = Defaults() if self.manifest is None else self.manifest.defaults
        samples = defaults.samples if samples is None else samples
        seed = defaults.seed if seed is None else seed
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
            raise InputError(f"samples must be a positive integer; got {samples!r}")
        if isinstance(first_row, bool) or not isinstance(first_row, int) or first_row < 0:
            raise InputError(f"first_row must be a natural number; got {first_row!r}")
        inputs = checked(self.inputs, x, self.device)
        return Job(inputs, samples, seed, first_row, self._engine.plan(inputs))

    def _open(self, job: Job, rows: range) -> Run:
        part = {name: tensor[rows.start : rows.stop] for name, tensor in job.inputs.items()}
        numbers = range(job.first_row + rows.start, job.first_row + rows.stop)
        with torch.no_grad(), lookup_errors():
            return self._engine.open(part, job.seed, numbers)


def _partials(
    opened: Sequence[tuple[Run, Estimator]], chunks: Iterator[range]
) -> Iterator[Prediction]:
    for chunk in chunks:
        for run, estimate in opened:
            _fold(estimate, run, chunk)
        yield _joined([estimate.prediction() for _, estimate in opened])


def load(
    path: str | os.PathLike[str],
    *,
    device: torch.device | str = "cpu",
    masks: Masks | None = None,
    engine: Literal["auto", "loop", "batched"] = "auto",
    memory_budget: int = 1 << 30,
) -> MCDropout:
    """Load an artifact. Nothing in the folder is executed.

    Args:
        path: the artifact's folder.
        device: where to compute.
        masks: how masks are shared; as saved by default.
        engine: as for `MCDropout`.
        memory_budget: as for `MCDropout`.

    Raises:
        ArtifactError: the folder is missing, damaged, altered or unsafe.
    """
    program, manifest = artifact.load(Path(path), resolve_device(device))
    try:
        mc = MCDropout(
            program,
            task=manifest.task,
            masks=manifest.defaults.masks if masks is None else masks,
            engine=engine,
            device=device,
            memory_budget=memory_budget,
        )
    except NoStochasticSiteError as error:
        raise ArtifactError(f"{path} holds a model without stochastic sites: {error}") from error
    mc.manifest = manifest
    return mc


def _one_of(what: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InputError(f"{what} must be one of {', '.join(map(repr, allowed))}; got {value!r}")


def _fold(estimate: Estimator, run: Run, chunk: range) -> None:
    with torch.no_grad(), lookup_errors():
        estimate.update(run.samples(chunk.start, chunk.stop))


def _joined(parts: Sequence[Prediction]) -> Prediction:
    if len(parts) == 1:
        return parts[0]
    names = [field.name for field in dataclasses.fields(parts[0])]
    return type(parts[0])(
        **{name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    )
