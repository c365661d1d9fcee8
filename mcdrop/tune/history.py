"""The history of rate searches: what scored how well on which data, in a file that grows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcdrop.errors import InputError


@dataclass(frozen=True, slots=True)
class Entry:
    """One set of rates that was tried.

    Attributes:
        data: name of the data set.
        features: what the data set is like; see `data_features`.
        rates: by name.
        score: on held-out rows; less is better.
    """

    data: str
    features: Mapping[str, float]
    rates: Mapping[str, float]
    score: float


class History:
    """Entries in a file, a line of JSON for each; one that is not there yet is empty.

    Args:
        path: of the file.

    Example:
        >>> import tempfile
        >>> history = History(Path(tempfile.mkdtemp()) / "rates.jsonl")
        >>> history.add(Entry("wine", {"log_rows": 7.4}, {"hidden": 0.3}, 0.91))
        >>> history.entries()[0].rates
        {'hidden': 0.3}
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def add(self, entry: Entry) -> None:
        """Write an entry behind the others."""
        fields = {
            "data": entry.data,
            "features": dict(entry.features),
            "rates": dict(entry.rates),
            "score": entry.score,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(fields, allow_nan=False) + "\n")

    def entries(self) -> list[Entry]:
        """All entries, the oldest first.

        Raises:
            InputError: a line is no entry; the message says which.
        """
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return [self._entry(number, line) for number, line in enumerate(lines, 1) if line.strip()]

    def suggestions(
        self, data: str, features: Mapping[str, float], names: Sequence[str]
    ) -> list[dict[str, float]]:
        """Rates that did best on other data sets, those of the most similar one first.

        Data sets take turns: the best rates of each, then the second best of each.

        Args:
            data: name of the new data set; entries of its own are left out.
            features: what it is like.
            names: of the rates; entries with others are left out.
        """
        by_data: dict[str, list[Entry]] = {}
        for entry in self.entries():
            if entry.data != data and set(entry.rates) == set(names):
                by_data.setdefault(entry.data, []).append(entry)
        known = [entries[-1].features for entries in by_data.values()]
        near = sorted(
            by_data.values(), key=lambda entries: _distance(features, entries[-1].features, known)
        )
        ranked = [sorted(entries, key=lambda entry: entry.score) for entries in near]
        found: list[dict[str, float]] = []
        for rank in range(max(map(len, ranked), default=0)):
            for entries in ranked:
                if rank < len(entries) and (rates := dict(entries[rank].rates)) not in found:
                    found.append(rates)
        return found

    def _entry(self, number: int, line: str) -> Entry:
        try:
            fields = json.loads(line)
            entry = Entry(
                str(fields["data"]),
                _numbers(fields["features"]),
                _numbers(fields["rates"]),
                float(fields["score"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(
                f"line {number} of {self.path} is no entry of a history: expected a JSON object "
                f"with data, features, rates and score, got {line[:60]!r}; mend or remove the line"
            ) from None
        return entry


def _numbers(fields: Any) -> dict[str, float]:
    return {str(name): float(value) for name, value in fields.items()}


def _distance(
    one: Mapping[str, float], other: Mapping[str, float], known: Sequence[Mapping[str, float]]
) -> float:
    """Mean absolute difference of the features that both have, each by its range."""
    shared = sorted(set(one) & set(other))
    if not shared:
        return math.inf
    total = 0.0
    for name in shared:
        values = [one[name], *(features[name] for features in known if name in features)]
        span = max(values) - min(values)
        total += abs(one[name] - other[name]) / span if span else 0.0
    return total / len(shared)
