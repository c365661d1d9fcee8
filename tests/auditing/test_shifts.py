"""The variance shift at BatchNorms, against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop.auditing import shifts

P = 0.3


def gaussian(rows: int, mean: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, 1, generator=generator) + mean


def in_front(p: float = P, width: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Dropout(p), nn.BatchNorm1d(width), nn.Linear(width, 2)).eval()


def audited(module: nn.Module, x: Tensor, **kwargs: object) -> mcdrop.Audit:
    return mcdrop.audit(module, x[:2], rows=x, **kwargs)


@pytest.mark.parametrize("mean", [0.0, 1.0, 3.0])
def test_the_shift_in_front_of_a_batch_norm_is_that_of_the_closed_form(mean: float) -> None:
    x = gaussian(400, mean)
    (shift,) = audited(in_front(), x).shifts
    assert (shift.norm, shift.sites, shift.channels) == ("1", ("0",), 1)
    first, second = x.double().mean(), x.double().square().mean()
    expected = (second / (1 - P) - first**2) / (second - first**2)
    # five standard errors, which balanced samples make smaller yet: one seed in 1.7 million
    assert shift.ratio == pytest.approx(float(expected), abs=5 * shift.standard_error)
    assert 0 < shift.standard_error < 0.03
    # of all rows there are: Var x = 1, E x² = 1 + mean²; the sample variance of 400 has an error
    # of 7%, and of the ratio's excess that is three times as much at most
    assert float(expected) == pytest.approx(((1 + mean**2) / (1 - P) - mean**2), rel=0.25)


def test_the_standard_error_is_an_upper_one() -> None:
    """Of 40 seeds the ratios scatter no more than is said.

    Were the error exact, a sample standard deviation of 40 would be 1.4 times too large in one
    of 5000 tries (chi-squared with 39 degrees of freedom above 76).
    """
    x = gaussian(50)
    program = mcdrop.capture(in_front(), x)
    found = shifts.behind_sites(program)
    made = [shifts.measured(program, {"input": x}, found, 16, seed)[0] for seed in range(40)]
    scatter = torch.tensor([one.ratio for one in made]).std()
    assert float(scatter) < 1.4 * sum(one.standard_error for one in made) / 40


def test_a_shift_is_warned_of_and_none_is_not() -> None:
    x = gaussian(200)
    (warning,) = (f for f in audited(in_front(), x).findings if f.check == "batch_norm")
    assert (warning.level, warning.site) == ("warning", "0")
    assert "times that without (on 200 rows)" in warning.message
    small = audited(in_front(0.01), x)
    assert small.shifts[0].ratio == pytest.approx(1.02, abs=0.02)
    assert [f for f in small.findings if f.check == "batch_norm"] == []


def test_sites_reach_a_batch_norm_through_whatever_lies_between() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),  # nothing random in front
        nn.Dropout2d(0.4),
        nn.ReLU(),
        nn.Conv2d(4, 3, 3),
        nn.BatchNorm2d(3),
        nn.Flatten(),
        nn.Dropout(0.5),  # behind the last one
        nn.Linear(12, 2),
    ).eval()
    report = audited(net, torch.rand(40, 1, 6, 6))
    assert [(shift.norm, shift.sites, shift.channels) for shift in report.shifts] == [
        ("5", ("2",), 3)
    ]
    assert report.shifts[0].lowest > 1.1


def test_the_channels_ratio_is_that_of_a_naive_loop() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.5), nn.Linear(5, 4), nn.BatchNorm1d(4)).eval()
    x = torch.randn(60, 3)
    (shift,) = audited(net, x, samples=256).shifts
    with torch.no_grad():
        h = net[0](x)
        off = net[2](h).var(0, correction=0)
        drops = torch.nn.functional.dropout(h.expand(4000, -1, -1), 0.5)
        on = net[2](drops).flatten(0, 1).var(0, correction=0)
    ratios = on / off
    # both by sampling: 4000 x 60 here, 256 x 60 there, of which four errors are left room
    room = 4 * shift.standard_error + 0.02
    assert shift.ratio == pytest.approx(float(ratios.quantile(0.5)), abs=room)
    assert shift.highest == pytest.approx(float(ratios.max()), rel=0.1)


def test_rows_that_do_not_vary_are_told_and_not_measured() -> None:
    report = mcdrop.audit(in_front(width=3), torch.ones(1, 3))
    assert report.shifts[0].ratio is None
    (finding,) = (f for f in report.findings if f.check == "batch_norm")
    assert finding.level == "info"
    assert "does not vary over these rows" in finding.message


def test_rows_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x = gaussian(65)
    (in_parts,) = audited(in_front(), x).shifts
    monkeypatch.setattr(shifts, "ROWS", 1000)
    (at_once,) = audited(in_front(), x).shifts
    assert in_parts.ratio == pytest.approx(at_once.ratio, rel=1e-6)
    assert [len(rows) for rows, _ in shifts.parts({"x": torch.zeros(1001, 1)})] == [500, 501]


def test_a_batch_norm_that_runs_twice_is_two() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.norm = nn.Dropout(0.5), nn.BatchNorm1d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(torch.tanh(self.norm(self.drop(x))))

    report = audited(Twice().eval(), torch.randn(40, 2))
    names = [shift.norm for shift in report.shifts]
    assert len(set(names)) == 2
    assert all(name.startswith("norm:") for name in names)
    assert report.shifts[0].ratio > 1.5
