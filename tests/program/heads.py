"""Small nets that end in an affine head, or nearly so; few enough units to try every mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS = 3
Forward = Callable[[Any, Tensor], Tensor]


class Net(nn.Module):
    """Layers and constants for a forward pass that is given as a function."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.body = nn.Linear(4, 8)
        self.drop = nn.Dropout(0.3)
        self.late = nn.Dropout(0.4)
        self.all = nn.Dropout(1.0)
        self.channels = nn.Dropout1d(0.5)
        self.in_place = nn.Dropout(0.3, inplace=True)
        self.act = nn.ReLU()
        self.out = nn.Linear(8, 2)
        self.one = nn.Linear(8, 1)
        self.same = nn.Linear(8, 8)
        self.small = nn.Linear(4, 6)
        self.again = nn.Linear(6, 6)
        self.end = nn.Linear(6, 2)
        self.two = nn.Linear(2, 2)
        self.conv = nn.Conv1d(2, 3, 3, padding=1)
        self.padded = nn.Conv1d(2, 4, 2, padding="same", groups=2)
        self.plane = nn.Conv2d(2, 2, (2, 1), stride=2)
        self.up = nn.ConvTranspose1d(2, 3, 2, stride=2)
        self.factor = nn.Parameter(torch.randn(4, 3))
        self.mean = nn.Parameter(torch.tensor([100.0, -7.0]))
        self.scale = nn.Parameter(torch.tensor([20.0, 0.3]))
        self._forward = forward

    def hidden(self, x: Tensor) -> Tensor:
        return torch.tanh(self.body(x))

    def dropped(self, x: Tensor) -> Tensor:
        return self.drop(self.hidden(x))

    def rate(self, x: Tensor, p: float) -> Tensor:
        return F.dropout(x, p, self.training)

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def make(forward: Forward) -> tuple[Net, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(11)
        return Net(forward).double().eval(), torch.randn(ROWS, 4, dtype=torch.float64)


def let(value: Tensor, use: Callable[[Tensor], Tensor]) -> Tensor:
    """A value that is used more than once."""
    return use(value)


def _folded(net: Net, x: Tensor) -> Tensor:
    """Rows and a second axis folded together before the layer, as a time axis often is."""
    h = net.dropped(x).reshape(-1, 2, 4).transpose(1, 2).reshape(-1, 2)
    return net.two(h).reshape(x.shape[0], 4, 2)


def _denormalised(net: Net, x: Tensor) -> Tensor:
    """As `mcdrop.demo.diabetes` does it: halves of the output, each in its own units."""
    y = net.out(net.dropped(x))
    mean, other = y[:, :1], y[:, 1:]
    return torch.cat([mean * net.scale[0] + net.mean[0], other + 2.0 * net.scale[0].log()], dim=-1)


def _written_in(net: Net, x: Tensor) -> Tensor:
    h = net.hidden(x)
    net.in_place(h[:, 2:5])
    return net.out(h)


WHOLE: dict[str, Forward] = {
    "linear": lambda n, x: n.out(n.dropped(x)),
    "in_place": lambda n, x: n.out(n.in_place(n.hidden(x))),
    "in_place_slice": _written_in,
    "no_layer_at_all": lambda n, x: n.dropped(x) * 3.0 - 1.0,
    "de_standardised": lambda n, x: n.out(n.dropped(x)) * n.scale + n.mean,
    "de_standardised_halves": _denormalised,
    "subtracted": lambda n, x: (
        (5 - n.out(n.dropped(x))) / n.scale - torch.sub(x[:, :2], n.late(x[:, 2:]), alpha=3)
    ),
    "negated": lambda n, x: -n.out(n.dropped(x)),
    "residual": lambda n, x: n.hidden(x) + n.same(n.dropped(x)),
    "residual_before_the_layer": lambda n, x: n.out(n.hidden(x) + 0.5 * n.dropped(x)),
    "scaled_before_the_layer": lambda n, x: n.out(n.dropped(x) * torch.exp(n.body(x)) + 1),
    "squeezed": lambda n, x: n.one(n.dropped(x)).squeeze(-1),
    "flattened": lambda n, x: n.out(n.drop(n.hidden(x).reshape(-1, 2, 4)).flatten(1)),
    "folded": _folded,
    "selected": lambda n, x: n.two(n.dropped(x).view(-1, 4, 2)[:, 1]),
    "split": lambda n, x: n.two(torch.cat(n.dropped(x).chunk(4, -1)[1:2], 0)),
    "stacked": lambda n, x: torch.stack(n.out(n.dropped(x)).unbind(1)[::-1], 1),
    "two_heads_of_one_dropout": lambda n, x: let(
        n.dropped(x), lambda h: torch.cat([n.out(h), n.same(h)[:, :3]], -1)
    ),
    "widened_by_a_constant": lambda n, x: n.one(n.dropped(x)) + x,
    "widened_by_a_factor": lambda n, x: n.one(n.dropped(x)) * x,
    "copied_to_a_wider_place": lambda n, x: torch.zeros_like(x).copy_(n.drop(x[:, :1])) * 2,
    "expanded_after_the_layer": lambda n, x: n.out(n.dropped(x))[:, None].expand(-1, 3, -1) + 1,
    "conv": lambda n, x: n.conv(n.drop(n.hidden(x).reshape(-1, 2, 4))),
    "conv_same_grouped": lambda n, x: n.padded(n.drop(n.hidden(x).reshape(-1, 2, 4))),
    "conv2d": lambda n, x: n.plane(n.drop(n.hidden(x).reshape(-1, 2, 4, 1))),
    "conv_transposed": lambda n, x: n.up(n.drop(n.hidden(x).reshape(-1, 2, 4))),
    "matmul": lambda n, x: n.drop(n.hidden(x).reshape(-1, 2, 4)) @ n.factor,
    "matmul_from_the_left": lambda n, x: (
        torch.softmax(x.reshape(-1, 2, 2), -1) @ n.drop(n.hidden(x).reshape(-1, 2, 4))
    ),
    "bmm": lambda n, x: torch.bmm(n.drop(n.hidden(x).reshape(-1, 2, 4)), x[:, :, None]),
    "addmm": lambda n, x: torch.addmm(n.mean, n.dropped(x), n.out.weight.T, alpha=2.0, beta=0.5),
    "mean": lambda n, x: n.dropped(x).mean(-1, keepdim=True),
    "sum": lambda n, x: n.dropped(x).sum(-1, keepdim=True) * 0.1,
    "pooled_then_linear": lambda n, x: n.two(n.drop(n.hidden(x).reshape(-1, 4, 2)).mean(1)),
    "two_branches": lambda n, x: n.out(n.dropped(x)) - 2 * n.two(n.late(x[:, 2:])),
    "two_branches_before_the_layer": lambda n, x: n.two(n.drop(x[:, :2]) + n.late(x[:, 2:])),
    "two_sites_joined": lambda n, x: F.linear(
        torch.cat([n.drop(x), x, n.late(x)], -1),
        torch.cat([n.factor.T, n.factor.T, n.factor.T], -1),
    ),
    "size_read": lambda n, x: let(
        n.dropped(x), lambda h: n.out(h).reshape(h.shape[0], -1) + torch.ones_like(h)[:, :2]
    ),
    "all_dropped": lambda n, x: n.out(n.all(n.hidden(x))) + n.two(n.drop(x[:, :2])),
    "weights_dropped": lambda n, x: F.linear(x, n.rate(n.factor.T[:2], 0.3), n.mean),
}
# With the sites that must be left.
PARTS: dict[str, tuple[Forward, tuple[str, ...]]] = {
    "two_layers": (lambda n, x: n.end(n.late(torch.relu(n.again(n.drop(n.small(x)))))), ("drop",)),
    "two_linear_layers": (lambda n, x: n.end(n.late(n.again(n.drop(n.small(x))))), ("drop",)),
    "dropped_twice": (lambda n, x: n.end(n.late(n.drop(n.small(x)))), ("drop",)),
    "branch_through_relu": (
        lambda n, x: n.two(n.late(x[:, :2])) + n.act(n.two(n.drop(x[:, 2:]))),
        ("drop",),
    ),
    "sampled_factor": (
        lambda n, x: n.end(n.late(n.small(x))) * torch.exp(n.drop(x[:, :2])),
        ("drop",),
    ),
    "product_of_two": (lambda n, x: n.drop(x) * n.late(x[:, :1]), ("drop",)),
    "sampled_matrix": (
        lambda n, x: (
            torch.softmax(n.drop(x).reshape(-1, 2, 2), -1) @ n.late(n.hidden(x)).reshape(-1, 2, 4)
        ),
        ("drop",),
    ),
    "mean_of_a_sampled_value": (
        lambda n, x: n.late(n.act(n.small(n.drop(x)))).reshape(-1, 3, 2).mean(1),
        ("drop",),
    ),
}
# With the reason.
REFUSED: dict[str, tuple[Forward, str]] = {
    "relu": (lambda n, x: n.act(n.out(n.dropped(x))), r"relu\.default \(in 'act'\), which is not"),
    "softmax": (lambda n, x: torch.softmax(n.out(n.dropped(x)), -1), r"softmax.*not affine"),
    "two_layers": (lambda n, x: n.out(n.same(n.dropped(x))), r"aten\.linear.*'out'.*share dropped"),
    "sum_after_the_layer": (lambda n, x: n.out(n.dropped(x)).sum(-1, True), r"aten\.sum.*share"),
    "mean_after_the_layer": (lambda n, x: n.out(n.dropped(x)).mean(-1, True), r"aten\.mean.*share"),
    "conv_then_sum": (
        lambda n, x: n.conv(n.drop(n.hidden(x).reshape(-1, 2, 4))).sum(-1),
        r"aten\.sum.*share",
    ),
    "channels": (
        lambda n, x: n.out(n.channels(n.hidden(x).reshape(-1, 2, 4)).flatten(1)),
        r"'channels', is of kind 'feature_dropout'",
    ),
    "expanded_before": (
        lambda n, x: n.out(n.drop(x[:, :, None]).expand(-1, -1, 2).flatten(1)),
        r"aten\.linear.*share dropped",
    ),
    "widened_before": (lambda n, x: n.two(n.drop(x[:, :1]) + x[:, :2]), r"aten\.linear.*share"),
    "widened_by_a_factor_before": (
        lambda n, x: n.two(n.drop(x[:, :1]) * x[:, :2]),
        r"aten\.linear.*share",
    ),
    "copied_wider_before": (
        lambda n, x: n.two(torch.zeros_like(x[:, :2]).copy_(n.drop(x[:, :1]))),
        r"aten\.linear.*share dropped",
    ),
    "used_twice_and_joined": (
        lambda n, x: let(n.drop(x), lambda h: n.out(torch.cat([h, h], -1))),
        r"aten\.linear.*share",
    ),
    "taken_twice": (lambda n, x: n.two(n.drop(x)[:, [0, 0]]), r"aten\.linear.*share dropped"),
    "both_branches": (
        lambda n, x: let(n.dropped(x), lambda h: n.out(h) + n.same(h)[:, :2]),
        r"aten\.add.*both operands",
    ),
    "added_to_itself": (
        lambda n, x: let(n.dropped(x), lambda h: h + h),
        r"aten\.add.*both operands",
    ),
    "squared": (lambda n, x: let(n.dropped(x), lambda h: h * h), r"aten\.mul.*not affine"),
    "square_of_a_matrix": (
        lambda n, x: let(n.drop(n.hidden(x).reshape(-1, 2, 4)), lambda h: h @ h.transpose(1, 2)),
        r"aten\.matmul.*not affine",
    ),
    "divisor": (lambda n, x: 1.0 / (2 + n.dropped(x)), r"aten\.(reciprocal|div).*not affine"),
    "rounded": (lambda n, x: n.dropped(x).to(torch.int64).double(), r"_to_copy.*not real"),
    "shape_only": (lambda n, x: x + torch.zeros_like(n.drop(x)), r"'drop', does not reach"),
}
