"""Spreads of figures that put cases in order are those of data drawn again and again."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mcdrop.evaluation import weighted
from mcdrop.evaluation.strata import ranked_deviation
from mcdrop.evaluation.weighted import OfWeights
from mcdrop.metrics import functional as f
from mcdrop.metrics.functional.reliability import adaptive_error


def _sides(of: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda score, side: of(score[side == 0], score[side == 1])


PAIRS: dict[str, tuple[Callable[..., OfWeights], Callable[..., Tensor]]] = {
    "auroc": (weighted.auroc, _sides(f.detection_auroc)),
    "ap": (weighted.average_precision, _sides(f.detection_average_precision)),
    "fpr": (weighted.false_positive_rate, _sides(f.false_positive_rate)),
    "aurc": (weighted.risk_area, f.area_under_risk_coverage),
    "eaurc": (weighted.excess_risk_area, f.excess_area_under_risk_coverage),
    "augrc": (weighted.generalized_risk_area, f.area_under_generalized_risk_coverage),
    "ause": (weighted.sparsification_error, f.area_under_sparsification_error),
}
THREE = {
    "ence": (weighted.normalized_error, f.expected_normalized_calibration_error),
    "uce": (weighted.uncertainty_error, f.uncertainty_calibration_error),
}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", PAIRS)
def test_weights_are_numbers_of_cases(name: str, ties: bool) -> None:
    """With weights of 1 the figure is the metric's; with one of 3 it is that of three cases."""
    of, metric = PAIRS[name]
    generator = torch.Generator().manual_seed(0)
    score = torch.rand(200, generator=generator, dtype=torch.float64)
    score = (12 * score).floor() if ties else score
    side = torch.rand(200, generator=generator, dtype=torch.float64).lt(0.2).double()
    weights = torch.randint(1, 4, (200,), generator=generator)
    found = of(score, side)(torch.stack((torch.ones(200).double(), weights.double())))
    assert found[0].item() == pytest.approx(metric(score, side).item(), abs=1e-6)
    if name in ("auroc", "ap", "fpr"):  # areas of risks count equal cases one after the other
        many = metric(score.repeat_interleave(weights), side.repeat_interleave(weights))
        assert found[1].item() == pytest.approx(many.item(), abs=1e-6)


@pytest.mark.parametrize("name", THREE)
def test_weighted_deviations_are_those_of_the_metrics(name: str) -> None:
    of, metric = THREE[name]
    generator = torch.Generator().manual_seed(0)
    mean, target, std = torch.randn(3, 200, generator=generator, dtype=torch.float64)
    std = std.abs() + 0.1
    for deviation in (std, (5 * std).ceil() / 5):
        found = of(mean, deviation, target)(torch.ones(1, 200).double())
        assert found.item() == pytest.approx(metric(mean, deviation, target).item(), rel=1e-6)


def test_weighted_adaptive_error_is_that_of_the_metric() -> None:
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(200, generator=generator, dtype=torch.float64)
    correct = torch.rand(200, generator=generator, dtype=torch.float64).lt(confidence).double()
    found = weighted.adaptive_error(confidence, correct)(torch.ones(1, 200).double())
    assert found.item() == pytest.approx(adaptive_error(confidence, correct, 15).item())


def _drawn(name: str, few: int, many: int, seed: int) -> tuple[Tensor, Tensor]:
    """Scores of two sides; of areas of risk it is left to chance how many are wrong."""
    generator = torch.Generator().manual_seed(seed)
    if name in ("aurc", "eaurc", "augrc"):
        chance = torch.tensor(few / (few + many))
        whole = few + many
        few = int(torch.binomial(torch.tensor(float(whole)), chance, generator=generator))
        many = whole - few
    inside = torch.randn(many, generator=generator, dtype=torch.float64)
    outside = torch.randn(few, generator=generator, dtype=torch.float64) + 1.0
    side = torch.cat((torch.zeros(many), torch.ones(few))).double()
    return torch.cat((inside, outside)), side


@pytest.mark.parametrize("few", [50, 30_000])
@pytest.mark.parametrize("name", ["auroc", "ap", "fpr", "aurc", "eaurc", "augrc"])
def test_the_spread_is_that_of_data_drawn_again(name: str, few: int) -> None:
    """Also where there are 50 cases of one side among 60,000, and where both sides are thinned.

    The truth is from 60 draws, known to 9%; a spread from 100 replicates to 7%, and the one that 50
    cases give spreads by some 15% itself, of which the median of five is taken. Together 15% or
    less: 45% are three standard errors, and of twelve tests one in 30 runs would fail with other
    seeds.
    """
    many = 60_000
    of, _ = PAIRS[name]
    ones = torch.ones(1, few + many, dtype=torch.float64)
    truth = [of(*_drawn(name, few, many, seed))(ones).item() for seed in range(60)]
    spread = torch.tensor(truth, dtype=torch.float64).std().item()
    both = name in ("auroc", "ap", "fpr")
    found = []
    for seed in range(5 if few == 50 else 1):
        columns = tuple(column[:, None] for column in _drawn(name, few, many, 100 + seed))
        found.append(ranked_deviation(of, columns, columns[1], fixed=both, both=both))
    assert sorted(found)[len(found) // 2] == pytest.approx(spread, rel=0.45)


def test_cases_of_a_row_that_are_alike_tell_no_more_than_one() -> None:
    score, side = _drawn("auroc", 100, 300, 0)
    alone = tuple(column[:, None] for column in (score, side))
    wide = tuple(column.repeat(1, 30) for column in alone)
    found = [
        ranked_deviation(weighted.auroc, columns, columns[1], both=True)
        for columns in (alone, wide)
    ]
    assert found[0] == pytest.approx(found[1], rel=0.3)  # each known to 7%


def test_a_row_of_many_cases_may_be_right_and_wrong() -> None:
    """The spread of images whose pixels differ, against images drawn again."""

    def drawn(seed: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        of_row = torch.randn(60, 1, generator=generator, dtype=torch.float64)
        wrong = torch.rand(60, 500, generator=generator, dtype=torch.float64).lt(0.1).double()
        pixel = torch.randn(60, 500, generator=generator, dtype=torch.float64)
        return of_row * wrong + pixel + wrong, wrong

    truth = []
    for seed in range(100):
        columns = [column.flatten() for column in drawn(seed)]
        truth.append(weighted.auroc(*columns)(torch.ones(1, 30_000).double()).item())
    columns = drawn(1000)
    found = ranked_deviation(weighted.auroc, columns, columns[1], both=True)
    # known to 7% by 100 draws, to 7% by 100 replicates, and of 60 rows to 10%
    assert found == pytest.approx(torch.tensor(truth).double().std().item(), rel=0.4)


def test_too_few_cases_have_no_spread() -> None:
    score, side = _drawn("auroc", 9, 300, 0)
    columns = (score[:, None], side[:, None])
    assert math.isnan(ranked_deviation(weighted.auroc, columns, columns[1], both=True))
    few = (torch.arange(9.0)[:, None],) * 2
    assert math.isnan(ranked_deviation(weighted.risk_area, few))
