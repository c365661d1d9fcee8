"""Sites: the places where randomness enters a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "dropout",
    "feature_dropout",
    "alpha_dropout",
    "feature_alpha_dropout",
    "attention",
    "rnn",
    "bernoulli",
    "uniform",
    "normal",
    "exponential",
    # techniques whose layers say so, see `mcdrop.program.drawn`
    "gaussian",
    "variational",
    "adaptive",
    "concrete",
    "drop_block",
    "importance",
    "attention_drop",
    "meta",
]


@dataclass(frozen=True, slots=True)
class Law:
    """Distribution of a mask's elements, drawn from uniform words.

    - `"bernoulli"`: `scale` with probability `1 - p`, else 0;
    - `"uniform"`: on [0, 1);
    - `"normal"`: mean 0, variance 1.
    """

    kind: Literal["bernoulli", "uniform", "normal"]
    p: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class BatchLayout:
    """Where the rows sit in a site's tensor: axis `dim` has size `outer * B * inner`.

    `outer` is 1 where the batch varies slowest (`[B·heads, T, T]`); `None` where it varies fastest
    (`[T·B, D]`), so that `inner` is 1. `folded` tells that the axis holds more than the batch.
    """

    dim: int
    outer: int | None = 1
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """One place where randomness enters.

    Attributes:
        name: module path, with the kind behind it where the path alone does not tell.
        kind: the operation that is random.
        p: probability to drop; `None` where the noise is not a drop-out.
        shape: shape of the mask, the batch taken out of it (a batch axis of its own becomes 1);
            `None` for an axis that is free.
        law: distribution of the mask's elements.
        node: name of the random node in the captured graph.
        layer: for `"rnn"`, the layer whose output is dropped.
        layout: where the rows are; `None` where all rows share the tensor (a dropped weight).
        index: position in order of execution; the site's key in the mask stream.
        enabled: `False` where the caller's selection left it out: it is then off.
        threshold: for noise written out by hand, the node that compares it with the rate.
    """

    name: str
    kind: Kind
    p: float | None
    shape: tuple[int | None, ...]
    law: Law
    node: str
    index: int
    layer: int = 0
    layout: BatchLayout | None = None
    enabled: bool = True
    threshold: str | None = None

    @property
    def mask(self) -> str:
        """Name of the mask's value in a lowered graph."""
        return f"mask:{self.index}"
