"""Bootstrap intervals hold the truth as often as they say."""

from __future__ import annotations

import math

import pytest
import torch

from mcdrop.evaluation.resampling import (
    GROUPS,
    REPLICATES,
    Sums,
    interval,
    ranked_deviation,
    wilson,
)

TRIALS = 400


def test_intervals_of_a_mean_hold_it_in_95_of_100_cases() -> None:
    """400 trials of true coverage near 0.95: standard error 0.011, four of them each way."""
    generator = torch.Generator().manual_seed(0)
    held = 0
    for trial in range(TRIALS):
        values = torch.rand(500, generator=generator, dtype=torch.float64) ** 2
        sums = Sums()
        for rows in torch.arange(500).split(77):
            sums.add(rows, {"cases": torch.ones(len(rows)), "value": values[rows]})
        again = sums.replicates(trial)
        deviation = (again["value"] / again["cases"]).std().item()
        low, high = interval(values.mean().item(), deviation)
        held += low <= 1.0 / 3.0 <= high
    assert 0.905 < held / TRIALS < 0.99


def test_rows_are_drawn_and_not_cases() -> None:
    """Cases of a row that are all alike tell no more than one of them."""
    values = torch.randn(300, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alone, many = Sums(), Sums()
    rows = torch.arange(300)
    alone.add(rows, {"cases": torch.ones(300), "value": values})
    rows = rows.repeat_interleave(50)
    many.add(rows, {"cases": torch.ones(15_000), "value": values.repeat_interleave(50)})
    spread = [(s.replicates()["value"] / s.replicates()["cases"]).std() for s in (alone, many)]
    assert spread[0].item() == pytest.approx(spread[1].item(), rel=1e-9)
    assert spread[0].item() == pytest.approx(values.std().item() / math.sqrt(300), rel=0.2)


def test_sums_are_sums() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(1000, 3, generator=generator, dtype=torch.float64)
    place = torch.randint(7, (1000,), generator=generator)
    sums = Sums()
    for rows in torch.arange(1000).split(300):
        sums.add(rows, {"value": values[rows]})
        sums.count(rows, "binned", place[rows], 7, values[rows, 0])
    totals = sums.totals()
    assert totals["value"].tolist() == pytest.approx(values.sum(0).tolist())
    expected = [values[place == bin_, 0].sum().item() for bin_ in range(7)]
    assert totals["binned"].tolist() == pytest.approx(expected)
    again = sums.replicates()
    assert again["value"].shape == (REPLICATES, 3)
    assert again["binned"].shape == (REPLICATES, 7)
    assert torch.equal(again["value"], sums.replicates()["value"])


@pytest.mark.parametrize("rows", [1, 2, 50, GROUPS, 5000])
def test_the_spread_is_known_though_rows_are_sorted(rows: int) -> None:
    sums = Sums()
    values = torch.arange(rows, dtype=torch.float64)
    sums.add(torch.arange(rows), {"cases": torch.ones(rows), "value": values})
    again = sums.replicates()
    mean = again["value"] / again["cases"]
    assert mean.isfinite().all()
    if rows > 1:
        expected = values.std(correction=0).item() / math.sqrt(rows)
        # from at most 128 groups, known to 6% at best; of two rows from two, if not one
        assert mean.std().item() == pytest.approx(expected, rel=0.25 if rows > 2 else 1.0)


def test_a_ranked_figure_of_many_cases_is_told_from_some_of_them() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(100_000, 1, generator=generator, dtype=torch.float64)
    found = ranked_deviation(torch.median, (values,))
    # the median's standard error, sqrt(pi / 2 / n); 100 replicates tell it to 7%
    assert found == pytest.approx(math.sqrt(math.pi / 2 / 100_000), rel=0.3)


def test_what_has_no_figure_has_no_interval() -> None:
    assert interval(math.nan, 1.0) == (None, None)
    assert interval(1.0, math.nan) == (None, None)
    assert interval(0.01, 0.1, 0.0, 1.0) == (0.0, pytest.approx(0.01 + 0.1959964))
    assert wilson(0, 0) == (None, None)
    low, high = wilson(10, 10)
    assert high == 1.0
    assert low == pytest.approx(0.7225, abs=1e-4)
    assert math.isnan(ranked_deviation(lambda _: torch.tensor(math.nan), (torch.ones(9, 1),)))
