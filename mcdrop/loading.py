"""`load`: a predictor from an artifact."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from mcdrop.engine import EngineName, Precision
from mcdrop.errors import ArtifactError, NoStochasticSiteError
from mcdrop.extras import read_calibration, read_evaluation
from mcdrop.predictor import MCDropout
from mcdrop.program import artifact
from mcdrop.program.device import resolve_device
from mcdrop.sampling import Masks, Sampling


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
    program, manifest = artifact.load(Path(path), resolve_device(device))
    try:
        mc = MCDropout(
            program,
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
        raise ArtifactError(f"{path} holds a model without stochastic sites: {error}") from error
    mc.manifest = manifest
    mc.calibration = read_calibration(Path(path), manifest)
    mc.evaluation = read_evaluation(Path(path), manifest)
    return mc
