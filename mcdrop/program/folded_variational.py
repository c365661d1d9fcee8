"""Variational recurrent layers of several samples at once: these join the rows.

The loop over time is taken once for all samples, as the weights are shared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mcdrop.program.recurrence import STATES
from mcdrop.program.variational_rnn import check_operands, variational_rnn

_ROWS = (1, 0, 0, 0)  # where the rows are in x, the masks and the lengths


class _Folded(torch.autograd.Function):
    """A variational recurrent layer; under vmap samples join the rows."""

    @staticmethod
    def forward(mode: str, reverse: bool, *operands: Tensor | None) -> tuple[Tensor, ...]:
        return _run(mode, reverse, operands)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing to save: prediction takes no gradients."""

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], mode: str, reverse: bool, *operands: Any
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        """Fold samples into the rows; loop over weights that differ by sample (weight drop)."""
        samples, dims = info.batch_size, in_dims[2:]
        shared = 4 + STATES[mode]  # what comes before the weights
        if any(dim is not None for dim in dims[shared:]):
            outs = [
                _fold(
                    mode, reverse, *(_sample(t, d, s) for t, d in zip(operands, dims, strict=True))
                )
                for s in range(samples)
            ]
            stacked = tuple(torch.stack(parts) for parts in zip(*outs, strict=True))
            return stacked, (0,) * len(stacked)
        places = (*_ROWS, *(0,) * STATES[mode])
        alike = dims[0] is None and dims[1] is None and dims[3] is None
        folded = [
            operand
            if operand is None or (alike and index in (0, 1))  # multiplied once for all samples
            else _joined(operand, dim, samples, place)
            for index, (operand, dim, place) in enumerate(
                zip(operands[:shared], dims[:shared], places, strict=True)
            )
        ]
        joint = _run(mode, reverse, (*folded, *operands[shared:]))
        rows = (1, *(0,) * STATES[mode])
        parted = (out.unflatten(at, (samples, -1)) for out, at in zip(joint, rows, strict=True))
        return tuple(parted), rows


_fold: Callable[..., Any] = _Folded.apply


def folded_variational(
    mode: str,
    x: Tensor,
    state: Sequence[Tensor],
    input_mask: Tensor | None,
    recurrent_mask: Tensor | None,
    weights: Sequence[Tensor],
    lengths: Tensor | None,
    reverse: bool,
) -> tuple[Tensor, ...]:
    """`variational_rnn` of a program, vmapped without a loop over samples.

    Raises:
        ValueError: the operands do not fit together.
    """
    # an artifact's may fit at the sizes at which it was checked, and at no others
    check_operands(mode, x, state, input_mask, recurrent_mask, weights, lengths, reverse)
    operands = (x, input_mask, recurrent_mask, lengths, *state, *weights)
    out: tuple[Tensor, ...] = _fold(mode, reverse, *operands)
    return out


def _run(mode: str, reverse: bool, operands: Sequence[Any]) -> tuple[Tensor, ...]:
    x, input_mask, recurrent_mask, lengths, *rest = operands
    state, weights = rest[: STATES[mode]], rest[STATES[mode] :]
    return tuple(
        variational_rnn(mode, x, state, input_mask, recurrent_mask, weights, lengths, reverse)
    )


def _joined(x: Tensor, dim: int | None, samples: int, rows: int) -> Tensor:
    """A tensor of all samples, `[…, S·B, …]`: sample by sample, the rows of each together."""
    first = x.expand(samples, *x.shape) if dim is None else x.movedim(dim, 0)
    return first.movedim(0, rows).flatten(rows, rows + 1)


def _sample(x: Tensor | None, dim: int | None, index: int) -> Tensor | None:
    return x if x is None or dim is None else x.select(dim, index)
