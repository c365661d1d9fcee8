"""Each site alone: what its mean differs by, against closed forms, and what differs by chance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop.auditing.alone import _Deviations, alone
from mcdrop.auditing.report import CHANCE


class Squared(nn.Module):
    """Dropout, and a square: with it on the mean is 1 / (1 - p) times that with it off."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x).square()


def consistency(report: mcdrop.Audit) -> list[tuple[str, str | None]]:
    return [(f.level, f.site) for f in report.findings if f.check == "consistency"]


@pytest.mark.parametrize(("p", "level"), [(0.02, None), (0.1, "info"), (0.3, "warning")])
def test_the_mean_of_a_square_is_off_by_its_variance(p: float, level: str | None) -> None:
    x = torch.ones(20, 50)
    report = mcdrop.audit(Squared(p), x)
    (site,) = report.sites
    # of 64000 draws a share p drops, with an error of at most 0.0018, from which the mean has one
    # of 0.0037: four of them, one seed in 16000 (at p = 0.3; less for the smaller ones)
    assert site.difference == pytest.approx(p / (1 - p), abs=4 * 0.0037)
    # the variance of x² m / (1 - p)² at x = 1
    assert site.spread == pytest.approx((p / (1 - p) ** 3) ** 0.5, rel=0.1)
    # 1000 elements that are alike: √2 trace Σ / √(1000 S (S - 1)), whose root this is
    expected = site.spread * (2 / 1000 / 64 / 63) ** 0.25
    assert site.standard_error == pytest.approx(expected, rel=0.1)
    assert consistency(report) == ([(level, "drop")] if level else [])


def test_noise_is_no_finding() -> None:
    """A net that is linear behind its site is never off.

    By chance one seed in 400 would be if the outputs were normal: of these 40, one in ten tries.
    """
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Dropout(0.4), nn.Linear(2, 1))
    x = torch.randn(2, 3)
    program = mcdrop.capture(net, x)
    for seed in range(40):
        one = alone(program, program.sites[0], {"input": x}, 16, seed)
        assert one.matters
        assert one.difference <= CHANCE * one.standard_error


def test_chance_is_found_as_rarely_as_is_said() -> None:
    """One normal element, 16 samples: one case in 400, of 3000 more than 16 in one of 400 tries."""
    generator = torch.Generator().manual_seed(0)
    output, found = torch.ones(1, 1), 0
    for _ in range(3000):
        deviations = _Deviations(16, 1)
        deviations.begin(output)
        for sample in range(16):
            deviations.add(sample, output + torch.randn(1, 1, generator=generator))
        difference, error, _ = deviations.compared()
        found += difference > CHANCE * error
    assert found <= 16


def test_only_one_site_is_on() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.plain, self.squared = nn.Dropout(0.5), Squared(0.3)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"plain": self.plain(x), "squared": self.squared(x)}

    report = mcdrop.audit(Two(), torch.ones(20, 20))
    plain, squared = report.sites
    assert plain.bias == 0.0
    assert squared.bias == pytest.approx(3 / 7, abs=0.05)
    assert consistency(report) == [("warning", "squared.drop")]


class Idle(nn.Module):
    """A site that is multiplied away, beside one that is not."""

    def __init__(self, *, useful: bool) -> None:
        super().__init__()
        self.useful = nn.Dropout(0.5) if useful else nn.Identity()
        self.idle = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.useful(x) + 0.0 * self.idle(x)


def test_a_site_that_makes_no_difference_is_warned_of() -> None:
    report = mcdrop.audit(Idle(useful=True), torch.ones(2, 4))
    assert [site.matters for site in report.sites] == [True, False]
    assert [(f.level, f.site) for f in report.findings if f.check == "variance"] == [
        ("warning", "idle")
    ]


def test_a_model_whose_samples_are_all_the_same_fails() -> None:
    report = mcdrop.audit(Idle(useful=False), torch.ones(2, 4))
    errors = [f for f in report.findings if f.level == "error"]
    assert [(f.check, f.site) for f in errors] == [("variance", None)]
    assert "make no difference to its output" in errors[0].message


def test_a_rare_drop_is_not_taken_for_none() -> None:
    """Of 16 samples of two units hardly one drops any: a bolder rate shows that it would."""
    net = nn.Sequential(nn.Dropout(1e-4), nn.Linear(1, 1))
    report = mcdrop.audit(net, torch.ones(2, 1), samples=16)
    assert report.sites[0].spread == 0.0
    assert report.sites[0].matters is True


def test_what_drops_everything_is_told_once() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(1.0), nn.Linear(4, 2), nn.Dropout(0.5))
    report = mcdrop.audit(net, torch.ones(2, 3))
    told = [f.message for f in report.findings if f.site == "1"]
    assert told == ["drops everything (p = 1)"]
    assert report.sites[0].matters is True


def test_labels_have_no_mean_but_may_change() -> None:
    class Label(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.drop(x).argmax(1)

    (site,) = mcdrop.audit(Label(), torch.ones(4, 5)).sites
    assert site.matters is True
    assert site.difference is None
