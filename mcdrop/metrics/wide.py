"""The base of all metrics here: what was accumulated stays as wide as it is."""

from __future__ import annotations

import torch
from torchmetrics import Metric


class WideMetric(Metric):
    """A metric that a module's `half()` or `set_dtype` leaves alone.

    Narrower sums would lose cases (float32 those beyond 16 million); narrower values, their order.
    """

    is_differentiable = False
    full_state_update = False

    def set_dtype(self, dst_type: str | torch.dtype) -> Metric:  # noqa: ARG002
        """Nothing changes."""
        return self
