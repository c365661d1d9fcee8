"""LSTM and GRU with masks, row by row and step by step. Imports nothing of ours."""

from __future__ import annotations

import torch
from torch import Tensor


def step(mode: str, x: Tensor, state: list[Tensor], masks: tuple[Tensor, Tensor], w: list[Tensor]):
    """One row's step, gate after gate: x `[D]`, states `[H]`, masks `[G, D]` and `[G, H]`."""
    h, hidden = state[0], len(state[0])
    ins, recs = [], []
    for gate in range(len(w[0]) // hidden):
        part = slice(gate * hidden, (gate + 1) * hidden)
        ins.append(w[0][part] @ (x * masks[0][gate]) + w[2][part])
        recs.append(w[1][part] @ (h * masks[1][gate]) + w[3][part])
    if mode == "lstm":
        i, f, g, o = (a + b for a, b in zip(ins, recs, strict=True))
        c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
        return [torch.sigmoid(o) * torch.tanh(c), c]
    r, z = (torch.sigmoid(a + b) for a, b in zip(ins[:2], recs[:2], strict=True))
    n = torch.tanh(ins[2] + r * recs[2])
    return [(1 - z) * n + z * h]


def direction(mode, x, state, input_mask, recurrent_mask, w, lengths, reverse):
    """One layer and direction: x `[T, B, D]`; the arguments of the operation, masks never None."""
    gates = 4 if mode == "lstm" else 3
    hidden = state[0].shape[1]
    out = x.new_zeros(len(x), x.shape[1], hidden)
    finals = [s.clone() for s in state]
    for row in range(x.shape[1]):
        now = [s[row] for s in state]
        masks = tuple(m[row].expand(gates, -1).to(x.dtype) for m in (input_mask, recurrent_mask))
        steps = range(int(lengths[row]))
        for t in reversed(steps) if reverse else steps:
            now = step(mode, x[t, row], now, masks, w)
            out[t, row] = now[0]
        for final, value in zip(finals, now, strict=True):
            final[row] = value
    return out, finals


def layers(mode, x, params, masks, lengths, directions):
    """All layers from zeros; `params` and `masks` one entry for each layer and direction."""
    hidden = params[0][1].shape[1]
    finals = []
    for first in range(0, len(params), directions):
        outs = []
        for index in range(directions):
            zero = [x.new_zeros(x.shape[1], hidden) for _ in range(2 if mode == "lstm" else 1)]
            at = first + index
            out, last = direction(mode, x, zero, *masks[at], params[at], lengths, index == 1)
            outs.append(out)
            finals.append(last)
        x = torch.cat(outs, -1)
    return x, [torch.stack(parts) for parts in zip(*finals, strict=True)]
