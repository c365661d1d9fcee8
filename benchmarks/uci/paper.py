"""What Gal & Ghahramani (2016) published, from the result files of the authors' experiments.

Test RMSE of the Monte Carlo mean and test log-likelihood, mean and standard error over 20 splits,
at 100 times the epochs of a set's file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Published:
    """Means over the splits, with their standard errors."""

    rmse: float
    rmse_error: float
    log_likelihood: float
    log_likelihood_error: float


PAPER: Mapping[str, Published] = MappingProxyType(
    {
        "bostonHousing": Published(2.9036, 0.1768, -2.4019, 0.0417),
        "concrete": Published(4.8265, 0.1605, -2.9367, 0.0248),
        "energy": Published(0.5389, 0.0135, -1.2115, 0.0053),
    }
)
