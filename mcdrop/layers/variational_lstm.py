"""Variational LSTM: the same masks at every time step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from mcdrop.errors import InputError
from mcdrop.layers.recurrence import Recurrence

State = tuple[Tensor, Tensor]


class VariationalLSTM(Recurrence):
    r"""An LSTM whose inputs and states are dropped, each sequence the same ones at every step.

    .. math:: \begin{pmatrix} i \\ f \\ g \\ o \end{pmatrix} =
              \begin{pmatrix} \sigma \\ \sigma \\ \tanh \\ \sigma \end{pmatrix}\!
              \bigl(W_{ih} (x_t \odot m_x) + b_{ih} + W_{hh} (h_{t-1} \odot m_h) + b_{hh}\bigr),
              \quad c_t = f \odot c_{t-1} + i \odot g, \quad h_t = o \odot \tanh c_t

    Masks are Bernoulli, divided by what is kept. Every row, layer and direction has its own; with
    `tied=False` each of the four gates has, too, as for weights that are dropped apart. In
    evaluation, or with all rates 0, this is `nn.LSTM`: parameters have the names and the layout of
    those there, so a state of one loads into the other. A batch is needed, and there is no
    `proj_size`; the rates stand in place of `dropout`.

    Shapes: x `[T, B, D]`, or `[B, T, D]` with `batch_first`, or a `PackedSequence`; states h and c
    `[layers·directions, B, H]`. Output `[T, B, directions·H]` as x lies, packed if x is; states
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
        p_output: probability to drop a feature of the output; states are not dropped.
        tied: whether the gates share a mask.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        InputError: a rate is no probability, or shapes or lengths do not fit.

    Source: Gal & Ghahramani 2016, "A theoretically grounded application of dropout in recurrent
    neural networks", equations 4 (untied) and 6 (tied), section 4.

    Example:
        >>> lstm = VariationalLSTM(3, 4, batch_first=True, p=0.5, p_recurrent=0.5)
        >>> y, (h, c) = lstm(torch.ones(2, 7, 3), lengths=[7, 4])
        >>> y.shape, h.shape, bool((y[1, 4:] == 0).all())
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
            "LSTM",
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
        self, x: Tensor, hx: State | None = None, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, State]: ...

    @overload
    def forward(
        self, x: PackedSequence, hx: State | None = None, lengths: None = None
    ) -> tuple[PackedSequence, State]: ...

    def forward(
        self,
        x: Any,
        hx: State | None = None,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> tuple[Any, State]:
        """Run the layers.

        Args:
            x: sequences, padded or packed.
            hx: h and c to begin with; zeros by default.
            lengths: steps of each row, `[B]`; from there on the output is zero.

        Returns:
            The output, and h and c after the last step.
        """
        if hx is not None and (not isinstance(hx, tuple | list) or len(hx) != 2):
            raise InputError(f"an LSTM begins with a pair, h and c; got {type(hx).__name__}")
        out, (h, c) = self._answer(x, None if hx is None else tuple(hx), lengths)
        return out, (h, c)
