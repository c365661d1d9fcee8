"""`MCDropout`: Monte Carlo dropout over any module or program."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from mcdrop.arguments import integer, one_of
from mcdrop.capture import capture
from mcdrop.capture.example import Ranges, make_example
from mcdrop.capture.probe import evaluated
from mcdrop.engine import (
    BatchedEngine,
    EagerEngine,
    Engine,
    Job,
    LoopEngine,
    OneRow,
    Run,
    require_variance,
)
from mcdrop.errors import ArtifactError, InputError, NoStochasticSiteError
from mcdrop.estimate import Estimator, estimator
from mcdrop.prediction import Prediction, joined
from mcdrop.program import Manifest, Program, TensorSpec, artifact
from mcdrop.program.device import resolve_device
from mcdrop.program.manifest import UNKNOWN, Defaults, first, made_with
from mcdrop.program.schema import Inputs, checked, lookup_errors
from mcdrop.sampling import Masks
from mcdrop.tasks import AnyTask, Task, check_outputs, entries, resolve

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
        engine: `"auto"` (batched, or loop where vmap cannot take the model), `"loop"` (the oracle),
            `"batched"`, or `"eager"` for modules that cannot be traced.
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
        one_of("masks", masks, ("shared", "independent"))
        one_of("sampling", sampling, ("iid",))
        one_of("engine", engine, ("auto", "loop", "batched", "eager"))
        memory_budget = integer("memory_budget (bytes)", memory_budget, 1)
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
        check_outputs(self.task, [spec.shape for spec in program.outputs])
        program.require_rows()
        program.require_sites()
        if example is not None:
            require_variance(program, checked(program.inputs, example.tensors, self.device))
        self._program = program
        self.inputs: tuple[TensorSpec, ...] = program.inputs
        batched = BatchedEngine(program, masks, memory_budget)
        looped = engine == "loop" or (engine == "auto" and not batched.works())
        self._engine = LoopEngine(program, masks, memory_budget) if looped else batched

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
            del run  # or its trunk would be held while the next one is made
        return joined(parts)

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
        return self._partials(self._job(x, samples, seed, first_row))

    def _partials(self, job: Job) -> Iterator[Prediction]:
        chunks = list(job.row_chunks())
        estimates = [estimator(self.task) for _ in chunks]
        # of one chunk the trunk is kept; of several it is made again for each block, as memory
        # would grow with the rows
        kept = self._open(job, chunks[0]) if len(chunks) == 1 else None
        for block in job.sample_chunks(_STREAM_BLOCK):
            for rows, estimate in zip(chunks, estimates, strict=True):
                run = kept or self._open(job, rows)
                for start in range(block.start, block.stop, job.plan.samples):
                    stop = min(start + job.plan.samples, block.stop)
                    _fold(estimate, run, range(start, stop))
                del run
            yield joined([estimate.prediction() for estimate in estimates])

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
        job = self._job(x, 1, 0, 0)
        with torch.no_grad(), lookup_errors():
            if self._eager is not None:
                return self._eager.deterministic(job.inputs)[0]
            name = self.program.outputs[0].name
            parts = []
            for rows in job.row_chunks():
                part, alone = self._part(job, rows)
                output = self.program.run_deterministic(part)[name]
                parts.append(output[:1] if alone else output)
            return torch.cat(parts)

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
                provenance={**made_with(), **(provenance or {})},
                files=UNKNOWN,
            )
        except ValidationError as error:
            raise InputError(f"the artifact's manifest is not valid: {first(error)}") from None
        manifest.check_classes()
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
        samples = integer("samples", samples, 1)
        seed = integer("seed", seed, 0)
        first_row = integer("first_row", first_row, 0)
        inputs = checked(self.inputs, x, self.device)
        return Job(inputs, samples, seed, first_row, self._engine.plan(inputs))

    def _open(self, job: Job, rows: range) -> Run:
        part, alone = self._part(job, rows)
        numbers = [job.first_row + row for row in rows]
        with torch.no_grad(), lookup_errors():
            if alone:
                return OneRow(self._engine.open(part, job.seed, numbers * 2))
            return self._engine.open(part, job.seed, numbers)

    def _part(self, job: Job, rows: range) -> tuple[dict[str, Tensor], bool]:
        """Some rows of the inputs; one that the program does not take alone comes twice."""
        part = {name: tensor[rows.start : rows.stop] for name, tensor in job.inputs.items()}
        program = self._program
        alone = len(rows) == 1 and program is not None and not program.takes_one_row
        if alone:
            part = {name: torch.cat((tensor, tensor)) for name, tensor in part.items()}
        return part, alone


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


def _fold(estimate: Estimator, run: Run, chunk: range) -> None:
    with torch.no_grad(), lookup_errors():
        estimate.update(run.samples(chunk.start, chunk.stop))
