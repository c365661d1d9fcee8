"""What a data set is like, in a few numbers: data sets that are alike want like rates."""

from __future__ import annotations

import torch
from torch import Tensor

from mcdrop.errors import InputError


def data_features(x: Tensor, y: Tensor) -> dict[str, float]:
    """Meta-features of a data set.

    Args:
        x: inputs `[B, ...]`.
        y: labels, integers `[B]`, or numbers `[B]` or `[B, D]`.

    Returns:
        Logarithms of the numbers of rows, of inputs a row, of rows for each input, and of classes
        (1 for numbers); the entropy of the classes over its largest value, or 1.

    Raises:
        InputError: rows and targets do not match, or there are none.

    Source: a few of those of Feurer, Springenberg & Hutter 2015, "Initializing Bayesian
    hyperparameter optimization via meta-learning", table 1.

    Example:
        >>> found = data_features(torch.zeros(100, 4), torch.arange(100) % 2)
        >>> round(found["log_rows"], 2), round(found["class_entropy"], 2)
        (4.61, 1.0)
    """
    if len(x) != len(y) or not len(x):
        raise InputError(f"x and y need as many rows, and one at least; got {len(x)} and {len(y)}")
    rows, inputs = torch.tensor(len(x)).log(), torch.tensor(x[0].numel()).log()
    classes, entropy = torch.tensor(1.0), torch.tensor(1.0)
    if not y.is_floating_point():
        shares = y.unique(return_counts=True)[1] / len(y)
        classes = torch.tensor(float(len(shares)))
        if len(shares) > 1:
            entropy = torch.special.entr(shares).sum() / classes.log()
    return {
        "log_rows": rows.item(),
        "log_inputs": inputs.item(),
        "log_rows_per_input": (rows - inputs).item(),
        "log_classes": classes.log().item(),
        "class_entropy": entropy.item(),
    }
