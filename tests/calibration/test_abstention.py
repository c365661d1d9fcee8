"""Abstention: thresholds, what they cover, and what new cases make of them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import mcdrop
from mcdrop.calibration import Abstention


def _cases(number: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Uncertainties, and losses that are as probable as they say."""
    generator = torch.Generator().manual_seed(seed)
    uncertainty = torch.rand(number, generator=generator)
    return uncertainty, (torch.rand(number, generator=generator) < uncertainty).float()


@pytest.mark.parametrize("coverage", [0.01, 0.5, 0.9, 1.0])
def test_new_cases_are_covered_as_held_out_ones(coverage: float) -> None:
    """Of 5,000 and 5,000 cases: a standard error of 1% at most; five."""
    uncertainty, loss = _cases(5000)
    policy = Abstention.at_coverage(uncertainty, coverage, loss)
    assert policy.coverage == pytest.approx(coverage, abs=1 / 5000)
    fresh, losses = _cases(5000, 1)
    answered = ~policy(fresh)
    assert answered.float().mean().item() == pytest.approx(coverage, abs=0.05)
    if coverage >= 0.5:
        assert losses[answered].mean().item() == pytest.approx(policy.risk, abs=0.05)
    assert math.isnan(Abstention.at_coverage(uncertainty, coverage).risk)


def test_the_threshold_of_a_risk_answers_most() -> None:
    uncertainty, loss = _cases(2000)
    policy = Abstention.at_risk(uncertainty, loss, risk=0.2)
    assert policy.risk <= 0.2
    further = uncertainty[uncertainty > policy.abstain_above].min()
    assert loss[uncertainty <= further].mean() > 0.2
    assert policy.coverage == (uncertainty <= policy.abstain_above).double().mean().item()


def test_equal_uncertainties_are_answered_together() -> None:
    uncertainty = torch.tensor([0.1, 0.2, 0.2, 0.2, 0.9])
    assert Abstention.at_coverage(uncertainty, 0.4).coverage == 0.8
    loss = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0])
    assert Abstention.at_risk(uncertainty, loss, 0.1).coverage == 0.2


def test_what_is_not_known_is_not_answered() -> None:
    assert Abstention(0.5, 0.9)(torch.tensor([torch.nan, 0.4])).tolist() == [True, False]


def test_bad_arguments_are_told_apart() -> None:
    uncertainty = torch.tensor([0.1, 0.2])
    with pytest.raises(mcdrop.InputError, match="above 0 and is at most 1"):
        Abstention.at_coverage(uncertainty, 0.0)
    with pytest.raises(mcdrop.InputError, match=r"no threshold has a risk of at most 0\.5"):
        Abstention.at_risk(uncertainty, torch.ones(2), 0.5)
    with pytest.raises(mcdrop.InputError, match="NaN"):
        Abstention.at_coverage(torch.tensor([torch.nan]), 0.5)
    with pytest.raises(mcdrop.InputError, match="NaN"):
        Abstention.at_coverage(uncertainty, 0.5, torch.tensor([0.0, torch.nan]))
    with pytest.raises(mcdrop.InputError, match=r"got \[2\] and \[3\]"):
        Abstention.at_coverage(uncertainty, 0.5, torch.zeros(3))
    with pytest.raises(mcdrop.InputError, match=r"got \[2\] and \[2, 1\]"):
        Abstention.at_coverage(uncertainty, 0.5, torch.zeros(2, 1))


@pytest.mark.parametrize("fields", [(math.nan, 0.5), (0.1, -0.1), (0.1, 1.5)])
def test_fields_that_no_fit_made_are_refused(fields: tuple[float, float]) -> None:
    with pytest.raises(mcdrop.InputError, match="a threshold that is a number and a coverage"):
        Abstention(*fields)
