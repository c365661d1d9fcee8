"""What an engine is held to: the loop, on the same masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

import mcdrop
from mcdrop.engine import Footprints, LoopEngine
from mcdrop.sampling import MaskBank


def bank_of(
    program: mcdrop.Program,
    inputs: Mapping[str, Tensor],
    seed: int = 3,
    sampling: Any = "balanced",
) -> MaskBank:
    return MaskBank(
        seed,
        program.active,
        Footprints(program, "shared")(inputs).shapes,
        masks="shared",
        sampling=sampling,
        device=program.device,
    )


def inputs_of(program: mcdrop.Program, example: Any) -> dict[str, Tensor]:
    if isinstance(example, dict):
        return example
    values = example if isinstance(example, tuple) else (example,)
    return {spec.name: value for spec, value in zip(program.inputs, values, strict=True)}


def by_loop(
    program: mcdrop.Program, inputs: Mapping[str, Tensor], bank: MaskBank, samples: range
) -> tuple[Tensor, ...]:
    rows = range(len(next(iter(inputs.values()))))
    return LoopEngine(program).open(inputs, bank, rows).samples(samples.start, samples.stop)


def assert_close(ours: Sequence[Tensor], oracle: Sequence[Tensor]) -> None:
    for a, b in zip(ours, oracle, strict=True):
        assert a.dtype == b.dtype
        scale = float(b.abs().max())
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * max(scale, 1e-3))
