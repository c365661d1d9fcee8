"""The calibration gap, against sums written out."""

import math

import pytest
import torch

import mcdrop
from mcdrop import InputError
from mcdrop.metrics import functional
from mcdrop.monitor import confidence_gap, coverage_gap, prediction_gap


@pytest.mark.parametrize("given", ["probs", "logits"])
def test_the_gap_is_mean_confidence_less_accuracy(given):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(200, 5, generator=generator)
    labels = torch.randint(5, (200,), generator=generator)
    probs = logits.softmax(1)
    found = confidence_gap(**{given: {"probs": probs, "logits": logits}[given]}, labels=labels)
    confidence = sum(max(row) for row in probs.double().tolist()) / 200
    right = sum(
        row.index(max(row)) == y for row, y in zip(probs.tolist(), labels.tolist(), strict=True)
    )
    assert found.accuracy == right / 200
    assert found.confidence == pytest.approx(confidence, abs=1e-6)
    assert found.gap == pytest.approx(abs(confidence - right / 200), abs=1e-6)
    ece = functional.expected_calibration_error(probs=probs, labels=labels).item()
    assert found.error == pytest.approx(ece, abs=1e-6)
    assert found.gap <= found.error + 1e-12  # opposite gaps cancel in the one only


def test_binary_predictions_are_as_sure_as_of_what_they_say():
    found = confidence_gap(probs=torch.tensor([0.1, 0.8]), labels=torch.tensor([0, 0]))
    assert (round(found.confidence, 6), found.accuracy) == (0.85, 0.5)


def test_nan_is_told_and_stops_nothing():
    labels = torch.zeros(3).long()
    for lost in (math.nan, math.inf, -math.inf):
        gap = confidence_gap(logits=torch.tensor([[0.0, 1.0]] * 2 + [[lost, lost]]), labels=labels)
        assert math.isnan(gap.gap)
        assert math.isnan(gap.error)
    one = confidence_gap(probs=torch.tensor([[1.0, 0.0]] * 2 + [[math.inf, 0.0]]), labels=labels)
    assert math.isnan(one.gap)
    sure = torch.tensor([math.inf, -math.inf, -math.inf])
    assert confidence_gap(logits=sure, labels=torch.tensor([1, 0, 0])).gap == 0.0
    left_out = torch.tensor([[0.0, -math.inf]] * 3)
    assert confidence_gap(logits=left_out, labels=labels).gap == 0.0
    found = confidence_gap(logits=torch.full((3, 2), math.nan), labels=torch.zeros(3).long())
    assert all(math.isnan(value) for value in found.to_dict().values())
    zero = torch.zeros(2)
    for lower, upper, target in ((math.nan, 0, 0), (0, math.nan, 0), (0, 0, math.nan)):
        lost = coverage_gap(zero + lower, zero + upper, zero + target)
        assert math.isnan(lost.gap)
        assert lost.level == 0.9


def test_gaps_of_monte_carlo_predictions():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Dropout(), torch.nn.Linear(16, 2))
    x, labels = torch.randn(50, 3), torch.randint(2, (50,))
    p = mcdrop.MCDropout(net, x[:1], task="classification").predict(x, samples=32)
    assert prediction_gap(p, labels) == confidence_gap(probs=p.mean, labels=labels)
    r = mcdrop.MCDropout(net, x[:1], task="regression").predict(x, samples=32)
    target = torch.randn(50, 2)
    lower, upper = r.interval(0.5)
    inside = ((lower <= target) & (target <= upper)).double().mean().item()
    assert prediction_gap(r, target, level=0.5).to_dict() == {
        "gap": abs(inside - 0.5), "coverage": inside, "level": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize("level", [0.0, 1.0, "high"])
def test_a_level_is_a_share(level):
    with pytest.raises(InputError, match="strictly between 0 and 1"):
        coverage_gap(torch.zeros(1), torch.zeros(1), torch.zeros(1), level=level)


def test_intervals_that_are_reversed_are_refused():
    lower, upper = torch.tensor([0.0, 2.0, 0.0]), torch.tensor([1.0, 1.0, 1.0])
    with pytest.raises(InputError, match=r"1 of 3 are: are the two swapped"):
        coverage_gap(lower, upper, torch.zeros(3))
    assert coverage_gap(upper[:1], upper[:1], upper[:1]).coverage == 1.0  # a point is an interval
    lost = torch.tensor([math.nan, 2.0, 0.0])
    assert math.isnan(coverage_gap(lost, upper + 1, torch.zeros(3)).gap)
    monitor = mcdrop.Monitor(display="none")
    with pytest.raises(InputError, match="swapped"):
        monitor.record(0, intervals=(upper, upper - 1), targets=upper)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_one_hot_rows_are_refused_beside_a_softmax(dtype):
    generator = torch.Generator().manual_seed(0)
    probs = torch.randn(40, 7, generator=generator).softmax(1).to(dtype)
    labels = torch.randint(7, (40,), generator=generator)
    one_hot = torch.nn.functional.one_hot(labels, 7)
    for rows in (one_hot, one_hot.bool()):
        with pytest.raises(InputError, match=r"class indices.*pass labels.argmax\(1\)"):
            confidence_gap(probs=probs, labels=rows)
    pixels = probs[:, :, None].expand(-1, -1, 3), one_hot[:, :, None].expand(-1, -1, 3)
    with pytest.raises(InputError, match="class indices"):
        confidence_gap(probs=pixels[0], labels=pixels[1])
    assert confidence_gap(probs=probs, labels=one_hot.argmax(1)).accuracy < 0.5


def test_answers_of_yes_and_no_are_taken():
    several = torch.tensor([[1, 0, 1], [0, 1, 0]])
    softmax = torch.full((2, 3), 1 / 3)
    confidence_gap(probs=softmax, labels=several)  # one row has two: several labels at once
    confidence_gap(probs=torch.full((2, 3), 0.5), labels=torch.eye(3).long()[:2])  # sum to 1.5
    assert confidence_gap(probs=torch.ones(2, 1), labels=torch.ones(2, 1).long()).accuracy == 1.0
    lost = torch.full((2, 3), math.nan)
    assert math.isnan(confidence_gap(probs=lost, labels=torch.eye(3).long()[:2]).gap)


def test_what_is_no_prediction_is_refused():
    with pytest.raises(InputError, match="Pass probabilities"):
        prediction_gap(torch.zeros(2, 2), torch.zeros(2).long())
