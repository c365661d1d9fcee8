"""What an engine is held to: the loop, on the same masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import mcdrop
from mcdrop.engine import Engine, Footprints, LoopEngine
from mcdrop.sampling import MaskBank

BUDGET = 1 << 28  # bytes


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


def assert_keeps_seeds_apart(engine: Engine, program: mcdrop.Program, x: Tensor) -> None:
    """What is kept of one seed and sampling is not taken for another's."""
    inputs = inputs_of(program, x)
    for seed in (1, 2, 3, 1):
        for sampling in ("iid", "balanced"):
            bank = bank_of(program, inputs, seed, sampling)
            ours = engine.open(inputs, bank, range(len(x))).samples(0, 6)
            assert_close(ours, by_loop(program, inputs, bank, range(6)))


def wide(width: int = 64) -> tuple[mcdrop.Program, dict[str, Tensor]]:
    """A net all of whose sites are thinned, and two rows."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Dropout(0.2)]
    for inputs in (8, width, width):
        layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(0.5)]
    program = mcdrop.capture(nn.Sequential(*layers, nn.Linear(width, 3)).eval(), torch.randn(2, 8))
    return program, inputs_of(program, torch.randn(2, 8))
