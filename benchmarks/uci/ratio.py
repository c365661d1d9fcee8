"""What training in stacks brings: 40 nets together, against one after the other by autograd."""

from __future__ import annotations

import statistics
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.record import Record
from benchmarks.uci.stack import Stack
from benchmarks.uci.train import Recipe, squared_error, train

_NETS, _ROWS, _FEATURES, _HIDDEN, _EPOCHS, _BATCH = 40, 384, 13, 50, 10, 128
_RATES = (0.005, 0.01, 0.05, 0.1)


def measure(rounds: int = 5) -> Record:
    """Both ways turn by turn, on one thread as in a worker; medians."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        x, y = torch.randn(1, _ROWS, _FEATURES), torch.randn(1, _ROWS)
        times: dict[str, list[float]] = {"stack": [], "alone": []}
        for _ in range(rounds + 1):
            for name, way in (("stack", _stack), ("alone", _alone)):
                start = time.perf_counter()
                way(x, y)
                times[name].append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    ratios = [a / b for a, b in zip(times["alone"][1:], times["stack"][1:], strict=True)]
    return {
        "kind": "uci_ratio",
        "nets": _NETS,
        "epochs": _EPOCHS,
        **{f"{name}_s": statistics.median(taken[1:]) for name, taken in times.items()},
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
    }


def _stack(x: Tensor, y: Tensor) -> None:
    rates = sorted(_RATES * (_NETS // len(_RATES)))
    stack = Stack(rates, _FEATURES, _HIDDEN, 1, seed=0)
    decay = torch.full((_NETS,), 1e-4)
    train(stack, x, y, [0] * _NETS, Recipe(squared_error, decay, _EPOCHS, _BATCH))


def _alone(x: Tensor, y: Tensor) -> None:
    for number in range(_NETS):
        p = _RATES[number % len(_RATES)]
        net = nn.Sequential(
            *(nn.Dropout(p), nn.Linear(_FEATURES, _HIDDEN), nn.ReLU()),
            *(nn.Dropout(p), nn.Linear(_HIDDEN, 1)),
        )
        weights = [part for part in net.parameters() if part.ndim == 2]
        adam = torch.optim.Adam(net.parameters(), fused=True)
        for _ in range(_EPOCHS):
            for rows in torch.randperm(_ROWS).split(_BATCH):
                adam.zero_grad()
                loss = F.mse_loss(net(x[0, rows])[:, 0], y[0, rows])
                (loss + 1e-4 * sum(part.square().sum() for part in weights)).backward()
                adam.step()
