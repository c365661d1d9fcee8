"""Bootstrap intervals hold the truth as often as they say."""

from __future__ import annotations

import math

import pytest
import torch

from mcdrop.evaluation.intervals import interval, spread, wilson
from mcdrop.evaluation.measures import Measure, Promised
from mcdrop.evaluation.resampled import Resampled
from mcdrop.evaluation.resampling import (
    GROUPS,
    REPLICATES,
    Sums,
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


def test_what_has_no_figure_has_no_interval() -> None:
    assert interval(math.nan, 1.0) == (None, None)
    assert interval(1.0, math.nan) == (None, None)
    assert interval(0.01, 0.1, 0.0, 1.0) == (0.0, pytest.approx(0.01 + 0.1959964))
    assert wilson(0, 0) == (None, None)
    low, high = wilson(10, 10)
    assert high == 1.0
    assert low == pytest.approx(0.7225, abs=1e-4)


def test_what_does_not_spread_is_not_known_exactly() -> None:
    """Unless it may well be the same for every case, as the width of an interval may."""
    assert interval(1.0, 0.0) == (None, None)
    assert interval(62.8, 1e-15) == (None, None)
    assert interval(3.0, 0.0, fixed=True) == (3.0, 3.0)
    few = torch.tensor([[1.0, 1.0], [2.0, 2.0]])
    assert spread(few.repeat(50, 1), torch.tensor([9, 10])).isnan().tolist() == [True, False]


def test_cases_of_a_row_count_as_their_spread_says() -> None:
    """Pixels of an image that are all right or all wrong count as one case."""
    generator = torch.Generator().manual_seed(0)
    right = torch.rand(300, generator=generator, dtype=torch.float64).lt(0.9).double()
    alike, apart = Sums(), Sums()
    rows = torch.arange(300).repeat_interleave(50)
    free = torch.rand(15_000, generator=generator, dtype=torch.float64).lt(0.9).double()
    for sums, hits in ((alike, right.repeat_interleave(50)), (apart, free)):
        ones = torch.ones(15_000, dtype=torch.float64)
        sums.add(rows, {"cases": ones, "rows": ones / 50, "correct": hits})
    found = [Resampled(sums).effective("correct", "cases")[0] for sums in (alike, apart)]
    # a spread from 128 groups is known to 6%, its square to 13%
    assert found[0] == pytest.approx(300, rel=0.4)
    assert found[1] == pytest.approx(15_000, rel=0.4)


@pytest.mark.parametrize(("sure", "rows"), [(0.99, 30), (0.99, 200), (0.8, 100), (0.6, 1000)])
def test_kept_promises_are_found_kept(sure: float, rows: int) -> None:
    """Also where chance leaves no case wrong, and the spread that is seen is nothing.

    Of 200 trials 190 should hold 0: standard error 3, and four of them each way. (Of few wrong
    answers the number is not normal: a little more or less is held.)
    """
    generator = torch.Generator().manual_seed(0)
    gap = Measure("gap", "", "calibration", "nominal", "", -1.0, 1.0)
    held = 0
    for _ in range(200):
        spread_out = torch.rand(rows, generator=generator, dtype=torch.float64)
        confidence = (sure + 0.02 * (spread_out - 0.5)).clamp_max(1.0)
        draw = torch.rand(rows, generator=generator, dtype=torch.float64)
        columns = {
            "cases": torch.ones(rows),
            "rows": torch.ones(rows),
            "confidence": confidence,
            "correct": (draw < confidence).double(),
            "doubt": confidence * (1.0 - confidence),
        }
        sums = Sums()
        sums.add(torch.arange(rows), columns)
        ((_, (low, high)),) = Promised(gap, "confidence", "correct", "doubt").all(Resampled(sums))
        assert low is not None
        assert high is not None
        held += low <= 0.0 <= high
    assert held / 200 >= 0.89
