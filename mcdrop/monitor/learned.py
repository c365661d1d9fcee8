"""The rates of a model: set ones, and those that its layers learn."""

from __future__ import annotations

import torch
from torch import nn

from mcdrop.layers import SparseVariationalDropout, VariationalDropout
from mcdrop.schedules import rates


def rates_now(model: nn.Module) -> dict[str, float]:
    """By name of the layer, the rate that it drops at.

    Of layers that learn variances, the mean of the rates with these variances: p = alpha /
    (1 + alpha). A layer whose rate depends on its input (`AdaptiveDropout`) has none to tell.
    Learned rates are read from their device.

    Example:
        >>> from mcdrop.layers import VariationalDropout
        >>> net = nn.Sequential(nn.Dropout(0.25), VariationalDropout(4, 8, rows=100, p=0.2))
        >>> {name: round(rate, 3) for name, rate in rates_now(net).items()}
        {'0': 0.25, '1': 0.2}
    """
    found = {rate.name: rate.value for rate in rates(model)}
    for path, module in model.named_modules():
        if isinstance(module, VariationalDropout | SparseVariationalDropout):
            found[path or type(module).__name__] = _mean_rate(module)
    return found


def _mean_rate(layer: VariationalDropout | SparseVariationalDropout) -> float:
    with torch.no_grad():
        if isinstance(layer, VariationalDropout):
            alpha = layer.alpha()
            return float((alpha / (1.0 + alpha)).mean())
        return float(torch.sigmoid(layer.log_alpha()).mean())
