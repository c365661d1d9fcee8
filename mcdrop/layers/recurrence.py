"""What variational LSTMs and GRUs share: masks for each direction, lengths, packed sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from mcdrop.arguments import flag, integer
from mcdrop.errors import InputError
from mcdrop.layers.rate import checked_rate
from mcdrop.program.recurrence import GATES, STATES
from mcdrop.program.variational_rnn import variational_rnn

States = tuple[Tensor, ...]


class Recurrence(nn.RNNBase):
    """Recurrent layers whose masks stay the same over time; base of `VariationalLSTM` and `-GRU`.

    Args:
        mode: `"LSTM"` or `"GRU"`; the others as there.
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        bidirectional: bool,
        rates: tuple[float, float, float],
        tied: bool,
        factory: dict[str, Any],
    ) -> None:
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
        super().__init__(
            mode,
            **{name: integer(name, size, 1) for name, size in sizes.items()},
            bias=flag("bias", bias),
            batch_first=flag("batch_first", batch_first),
            bidirectional=flag("bidirectional", bidirectional),
            **factory,
        )
        self.p = checked_rate(rates[0])
        self.p_recurrent = checked_rate(rates[1], name="p_recurrent")
        self.p_output = checked_rate(rates[2], name="p_output")
        self.tied = flag("tied", tied)

    @property
    def _cell(self) -> str:
        return self.mode.lower()

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # as torch's own layers are
    def _answer(
        self, x: Any, states: States | None, lengths: Tensor | Sequence[int] | None
    ) -> tuple[Any, States]:
        """Output and final states, of a padded or a packed input."""
        if isinstance(x, PackedSequence):
            if torch.compiler.is_exporting():
                raise InputError(
                    "a packed sequence cannot be captured: how long it is depends on its values. "
                    "Pass the padded tensor, and lengths=…"
                )
            if lengths is not None:
                raise InputError("a PackedSequence has its own lengths; pass lengths=None")
            return self._packed(x, states)
        self._check_input(x)
        x = x.transpose(0, 1) if self.batch_first else x
        states = self._states(x, x.shape[1], states)
        out, finals = self._padded(x, states, self._lengths(x, lengths))
        return (out.transpose(0, 1) if self.batch_first else out), finals

    def _packed(self, x: PackedSequence, states: States | None) -> tuple[PackedSequence, States]:
        self._check_features(x.data)
        states = self._states(x.data, int(x.batch_sizes[0]), states)
        if not self.training or not (self.p or self.p_recurrent or self.p_output):
            return self._plain_packed(x, states)
        padded, lengths = pad_packed_sequence(x)
        out, finals = self._padded(padded, states, lengths.to(padded.device))
        if x.sorted_indices is not None:
            out = out.index_select(1, x.sorted_indices)
            lengths = lengths[x.sorted_indices.cpu()]
        return x._replace(data=pack_padded_sequence(out, lengths).data), finals

    def _padded(self, x: Tensor, states: States, lengths: Tensor | None) -> tuple[Tensor, States]:
        """`[T, B, D]` to `[T, B, F]`."""
        dropped = self.training and (self.p > 0 or self.p_recurrent > 0)
        # of a trace each layer is one node, with or without masks: torch's would fix the time axis
        if dropped or torch.compiler.is_exporting():
            out, states = self._masked(x, states, lengths)
        elif lengths is None:
            out, states = self._plain(x, states)
        else:
            packed = pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
            ended, states = self._plain_packed(packed, states)
            out, _ = pad_packed_sequence(ended, total_length=len(x))
        mask = self._mask(x, 1, out.shape[2], self.p_output)
        return (out if mask is None else out * mask.squeeze(1)), states

    def _masked(self, x: Tensor, states: States, lengths: Tensor | None) -> tuple[Tensor, States]:
        """Layer by layer, direction by direction, each with masks of its own."""
        # a trace is to have one node for the loop over time, however many steps the example has
        exporting = torch.compiler.is_exporting()
        run = torch.ops.mcdrop.variational_rnn if exporting else variational_rnn
        gates = 1 if self.tied else GATES[self._cell]
        first = x
        finals: list[list[Tensor]] = []
        for layer in range(self.num_layers):
            outs = []
            for reverse in (False, True) if self.bidirectional else (False,):
                out, *final = run(
                    self._cell,
                    x,
                    [state[len(finals)] for state in states],
                    self._mask(first, gates, x.shape[2], self.p),
                    self._mask(first, gates, self.hidden_size, self.p_recurrent),
                    self._weights(layer, reverse),
                    lengths,
                    reverse,
                )
                outs.append(out)
                finals.append(final)
            x = torch.cat(outs, 2) if self.bidirectional else outs[0]
        return x, tuple(torch.stack(parts) for parts in zip(*finals, strict=True))

    def _mask(self, x: Tensor, gates: int, features: int, p: float) -> Tensor | None:
        """`[B, gates, features]`: ones, dropped; to a trace a site like any other."""
        if not self.training or p == 0.0:
            return None
        return F.dropout(x.new_ones((x.shape[1], gates, features)), p)

    def _weights(self, layer: int, reverse: bool) -> list[Tensor]:
        names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if self.bias else [])]
        return [getattr(self, f"{name}_l{layer}{'_reverse' * reverse}") for name in names]

    def _plain(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        """Without a mask: torch's own layers."""
        return self._torch(x, None, states)

    def _plain_packed(self, x: PackedSequence, states: States) -> tuple[PackedSequence, States]:
        """The same of a packed input; states are in the order of the caller's rows."""
        if x.sorted_indices is not None:
            states = tuple(state.index_select(1, x.sorted_indices) for state in states)
        out, finals = self._torch(x.data, x.batch_sizes, states)
        if x.unsorted_indices is not None:
            finals = tuple(final.index_select(1, x.unsorted_indices) for final in finals)
        return x._replace(data=out), finals

    def _torch(self, x: Tensor, sizes: Tensor | None, states: States) -> tuple[Tensor, States]:
        function: Any = torch.lstm if self._cell == "lstm" else torch.gru
        first = states if self._cell == "lstm" else states[0]
        # not self._flat_weights, which misses what functional_call and parametrizations put there
        weights = [
            weight
            for layer in range(self.num_layers)
            for reverse in ((False, True) if self.bidirectional else (False,))
            for weight in self._weights(layer, reverse)
        ]
        tail = (self.bias, self.num_layers, 0.0, self.training, self.bidirectional)
        if sizes is None:
            out, *finals = function(x, first, weights, *tail, False)
        else:
            out, *finals = function(x, sizes, first, weights, *tail)
        return out, tuple(finals)

    def _states(self, x: Tensor, rows: int, states: States | None) -> States:
        """What to begin with, `[layers·directions, B, H]` each; zeros by default."""
        shape = (self.num_layers * (1 + self.bidirectional), rows, self.hidden_size)
        if states is None:
            return tuple(x.new_zeros(shape) for _ in range(STATES[self._cell]))
        for state in states:
            fits = isinstance(state, Tensor) and state.shape == shape
            mixed = fits and state.dtype != x.dtype
            if not fits or (mixed and not torch.is_autocast_enabled(x.device.type)):
                came = type(state).__name__
                if isinstance(state, Tensor):
                    came = f"{list(state.shape)}, {state.dtype}"
                raise InputError(
                    f"{type(self).__name__} takes states [layers·directions, B, H] of the type of "
                    f"x, {list(shape)}, {x.dtype} here; got {came}"
                )
        return states

    def _check_input(self, x: Any) -> None:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            came = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise InputError(
                f"{type(self).__name__} takes a floating tensor or a PackedSequence; got {came}"
            )
        steps = "[B, T, D]" if self.batch_first else "[T, B, D]"
        if x.ndim != 3 or x.shape[int(self.batch_first)] == 0:
            raise InputError(
                f"{type(self).__name__} takes sequences of at least one step, {steps}; got "
                f"{list(x.shape)}"
            )
        self._check_features(x)

    def _check_features(self, x: Tensor) -> None:
        if x.shape[-1] != self.input_size:
            raise InputError(
                f"{type(self).__name__} takes {self.input_size} features; got {x.shape[-1]}"
            )

    def _lengths(self, x: Tensor, lengths: Tensor | Sequence[int] | None) -> Tensor | None:
        if lengths is None:
            return None
        try:
            given = torch.as_tensor(lengths)
        except (TypeError, ValueError, RuntimeError):
            given = torch.zeros(())  # fits nothing
        whole = not (given.is_floating_point() or given.is_complex() or given.dtype == torch.bool)
        fits = whole and given.shape == (x.shape[1],)
        # looking at values would wait for the device; a trace has none
        if fits and given.device.type == "cpu" and not torch.compiler.is_exporting():
            fits = bool(((given >= 1) & (given <= len(x))).all())
        if not fits:
            raise InputError(
                f"lengths must be whole numbers from 1 to {x.shape[0]}, one for each of "
                f"{x.shape[1]} rows; got {lengths!r}"
            )
        return given.to(x.device, torch.int64)

    def extra_repr(self) -> str:
        """Sizes as torch says them, and the rates."""
        return (
            f"{super().extra_repr()}, p={self.p}, p_recurrent={self.p_recurrent}, "
            f"p_output={self.p_output}, tied={self.tied}"
        )
