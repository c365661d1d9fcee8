"""`load`: a predictor from an artifact, in one step or in two."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from mcdrop.calibration.record import Calibration
from mcdrop.engine import EngineName, Precision
from mcdrop.errors import ArtifactError, NoStochasticSiteError
from mcdrop.evaluation.document import Evaluation
from mcdrop.extras import read_calibration, read_evaluation
from mcdrop.predictor import MCDropout
from mcdrop.program import Manifest, Program, artifact
from mcdrop.program.device import resolve_device
from mcdrop.sampling import Masks, Sampling


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """An artifact as it was read: verified, on the CPU, and nothing of it computed yet."""

    path: Path
    program: Program
    manifest: Manifest
    calibration: Calibration | None
    evaluation: Evaluation | None


def read(path: str | os.PathLike[str]) -> Stored:
    """Read and verify an artifact; this may take place beside predictions, on any thread.

    Raises:
        ArtifactError: the folder is missing, damaged, altered or unsafe.
    """
    folder = Path(path)
    program, manifest = artifact.load(folder, torch.device("cpu"))
    return Stored(
        folder,
        program,
        manifest,
        read_calibration(folder, manifest),
        read_evaluation(folder, manifest),
    )


def load(
    path: str | os.PathLike[str],
    *,
    device: torch.device | str = "cpu",
    masks: Masks | None = None,
    sampling: Sampling | None = None,
    engine: EngineName = "auto",
    memory_budget: int = 1 << 30,
    analytic_head: bool = False,
    precision: Precision = "float32",
) -> MCDropout:
    """Load an artifact with its calibration. Nothing in the folder is executed.

    Args:
        path: the artifact's folder.
        device: where to compute.
        masks: how masks are shared; as saved by default.
        sampling: balanced or iid; as saved by default.
        engine: as for `MCDropout`.
        memory_budget: as for `MCDropout`.
        analytic_head: as for `MCDropout`.
        precision: as for `MCDropout`.

    Raises:
        ArtifactError: the folder is missing, damaged, altered or unsafe.
        InputError: an argument does not fit.
    """
    there = resolve_device(device)  # said before much is read
    return opened(
        read(path),
        device=there,
        masks=masks,
        sampling=sampling,
        engine=engine,
        memory_budget=memory_budget,
        analytic_head=analytic_head,
        precision=precision,
    )


def opened(
    stored: Stored,
    *,
    device: torch.device | str = "cpu",
    masks: Masks | None = None,
    sampling: Sampling | None = None,
    engine: EngineName = "auto",
    memory_budget: int = 1 << 30,
    analytic_head: bool = False,
    precision: Precision = "float32",
) -> MCDropout:
    """Make a predictor of an artifact that was read; arguments and errors are those of `load`.

    It computes a little, to see which engines take the model: call it where predictions are made.
    """
    manifest = stored.manifest
    try:
        mc = MCDropout(
            stored.program,
            task=manifest.task,
            masks=masks or manifest.defaults.masks,
            sampling=sampling or manifest.defaults.sampling,
            engine=engine,
            device=device,
            memory_budget=memory_budget,
            analytic_head=analytic_head,
            precision=precision,
        )
    except NoStochasticSiteError as error:
        raise ArtifactError(
            f"{stored.path} holds a model without stochastic sites: {error}"
        ) from error
    mc.manifest = manifest
    mc.calibration = stored.calibration
    mc.evaluation = stored.evaluation
    return mc
