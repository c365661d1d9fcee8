"""Variational GRU: the same masks at every time step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from mcdrop.errors import InputError
from mcdrop.layers.recurrence import Recurrence


class VariationalGRU(Recurrence):
    r"""A GRU whose inputs and states are dropped, each sequence the same ones at every step.

    .. math:: r, z = \sigma\bigl(W_{ih} (x_t \odot m_x) + b_{ih} +
              W_{hh} (h_{t-1} \odot m_h) + b_{hh}\bigr)

    .. math:: n = \tanh\bigl(W_{in} (x_t \odot m_x) + b_{in} + r \odot
              (W_{hn} (h_{t-1} \odot m_h) + b_{hn})\bigr), \quad
              h_t = (1 - z) \odot n + z \odot h_{t-1}

    Masks are Bernoulli, divided by what is kept; they drop what weights read, not the state that
    z carries over. Every row, layer and direction has its own; with `tied=False` each of the three
    gates has, too, as for weights that are dropped apart. In evaluation, or with all rates 0, this
    is `nn.GRU`: parameters have the names and the layout of those there, so a state of one loads
    into the other. A batch is needed; the rates stand in place of `dropout`.

    Shapes: x `[T, B, D]`, or `[B, T, D]` with `batch_first`, or a `PackedSequence`; state h
    `[layers·directions, B, H]`. Output `[T, B, directions·H]` as x lies, packed if x is; the state
    after each row's last step (its first, in the backward direction).

    Args:
        input_size: D.
        hidden_size: H.
        num_layers: layers, each of which reads what the one below puts out.
        bias: whether there are biases.
        batch_first: whether the batch is axis 0, and time axis 1; states are as they are.
        bidirectional: whether a second direction runs backwards, from each row's last step.
        p: probability to drop an input of a layer, the first and those above.
        p_recurrent: probability to drop a unit of the state, where the weights read it.
        p_output: probability to drop a feature of the output; the state is not dropped.
        tied: whether the gates share a mask.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        InputError: a rate is no probability, or shapes or lengths do not fit.

    Source: Gal & Ghahramani 2016, "A theoretically grounded application of dropout in recurrent
    neural networks", section 4, which extends equations 4 and 6 to GRUs.

    Example:
        >>> gru = VariationalGRU(3, 4, batch_first=True, p=0.5, p_recurrent=0.5)
        >>> y, h = gru(torch.ones(2, 7, 3), lengths=[7, 4])
        >>> y.shape, h.shape, bool((y[1, 3] == h[0, 1]).all())
        (torch.Size([2, 7, 4]), torch.Size([1, 2, 4]), True)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        *,
        bidirectional: bool = False,
        p: float = 0.25,
        p_recurrent: float = 0.25,
        p_output: float = 0.0,
        tied: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            "GRU",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            bidirectional,
            (p, p_recurrent, p_output),
            tied,
            {"device": device, "dtype": dtype},
        )

    @overload
    def forward(
        self, x: Tensor, hx: Tensor | None = None, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def forward(
        self, x: PackedSequence, hx: Tensor | None = None, lengths: None = None
    ) -> tuple[PackedSequence, Tensor]: ...

    def forward(
        self,
        x: Any,
        hx: Tensor | None = None,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> tuple[Any, Tensor]:
        """Run the layers.

        Args:
            x: sequences, padded or packed.
            hx: h to begin with; zeros by default.
            lengths: steps of each row, `[B]`; from there on the output is zero.

        Returns:
            The output, and h after the last step.
        """
        if hx is not None and not isinstance(hx, Tensor):
            raise InputError(f"a GRU begins with one state, h; got {type(hx).__name__}")
        out, (h,) = self._answer(x, None if hx is None else (hx,), lengths)
        return out, h
