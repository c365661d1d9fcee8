"""Drawn values: what a layer's noise makes of its input, and what stands there without any.

A trace of a layer in training mode shows only what its noise does. Where that is not the identity
once each random number takes its mean (a block mask, a relaxed mask), the layer says itself what
its value is with the site off, and what technique the site belongs to.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mcdrop.program.site import Kind

# Registered when this module is imported: torch has no other way to know an operation.
_library = torch.library.Library("mcdrop", "DEF")
_library.define("drawn(Tensor noisy, Tensor mean, Tensor noise, str kind, float? p) -> Tensor")
_library.impl("drawn", lambda noisy, *_: noisy.clone(), "CompositeExplicitAutograd")
DRAWN = "mcdrop.drawn.default"


def drawn(noisy: Tensor, mean: Tensor, noise: Tensor, kind: Kind, p: float | None = None) -> Tensor:
    """Say of a value that it was drawn: for the end of a layer's forward pass in training mode.

    Args:
        noisy: the value; what is returned.
        mean: the same value with the site off; of the same shape and type.
        noise: what `torch.rand_like`, `randn_like`, `rand` or `randn` gave; the site.
        kind: the technique.
        p: the rate that the site is to be listed with.

    Example:
        >>> x, noise = torch.ones(2), torch.full((2,), 0.5)
        >>> drawn(x * noise, x, noise, "concrete")
        tensor([0.5000, 0.5000])
    """
    if torch.compiler.is_exporting():
        value: Tensor = torch.ops.mcdrop.drawn(noisy, mean, noise, kind, p)
        return value
    return noisy
