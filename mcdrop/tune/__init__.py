"""Rate search: which rates to drop score best on held-out rows, warm-started from a history."""

from mcdrop.tune.features import data_features
from mcdrop.tune.history import Entry, History
from mcdrop.tune.search import RateSearch, RateTrial, search_rates

__all__ = ["Entry", "History", "RateSearch", "RateTrial", "data_features", "search_rates"]
