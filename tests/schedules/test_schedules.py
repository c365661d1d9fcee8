"""Rates over steps: exact where they begin and end, and the same after a state was loaded."""

import copy
import itertools
import json
import math

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

import mcdrop
from mcdrop import InputError
from mcdrop.schedules import (
    CosineRate,
    CurriculumRate,
    DecreasingRate,
    ExponentialRate,
    LinearRate,
    PlateauRate,
    StepRate,
)

# how each is made, and what its rate is at which steps
TIMED = {
    "linear": (lambda m: LinearRate(m, 0.5, 0.1, steps=10), {0: 0.5, 5: 0.3, 10: 0.1, 99: 0.1}),
    "linear up": (lambda m: LinearRate(m, 0.0, 0.4, steps=4), {0: 0.0, 1: 0.1, 2: 0.2, 4: 0.4}),
    "cosine": (
        lambda m: CosineRate(m, 0.5, 0.1, steps=10),
        {0: 0.5, 5: 0.3, 10: 0.1, 11: 0.1, 2: 0.3 + 0.2 * math.cos(math.pi / 5)},
    ),
    "exponential": (
        lambda m: ExponentialRate(m, 0.8, 0.5, lowest=0.15),
        {0: 0.8, 1: 0.4, 2: 0.2, 3: 0.15, 10_000: 0.15},
    ),
    "exponential up": (
        lambda m: ExponentialRate(m, 0.1, 2.0),
        {0: 0.1, 1: 0.2, 3: 0.8, 4: 0.9, 10_000: 0.9},
    ),
    "step": (
        lambda m: StepRate(m, 0.4, 0.5, every=3),
        {0: 0.4, 2: 0.4, 3: 0.2, 5: 0.2, 6: 0.1},
    ),
    "curriculum": (
        lambda m: CurriculumRate(m, 0.4, gamma=0.1),
        {0: 0.0, 10: 1 - (0.4 * math.exp(-1) + 0.6) + 0.0, 100_000: 0.4},
    ),
    "decreasing": (
        lambda m: DecreasingRate(m, 0.6, 0.2, gamma=0.1),
        {0: 0.6, 10: 0.2 + 0.4 * math.exp(-1), 100_000: 0.2},
    ),
}
EXACT = {"linear": (0, 10, 99), "cosine": (0, 10, 11), "curriculum": (0, 100_000)}


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.9), nn.Linear(16, 3))


@pytest.mark.parametrize("name", TIMED)
def test_rates_at_the_ends_and_in_the_middle(name):
    make, expected = TIMED[name]
    model = net()
    schedule = make(model)
    for step in range(100):
        assert schedule.last_step == step
        assert model[2].p == schedule.rate == schedule.rate_at(step)
        if step in expected:
            assert schedule.rate == pytest.approx(expected[step], abs=1e-15)
        schedule.step()
    for step, rate in expected.items():
        assert schedule.rate_at(step) == pytest.approx(rate, abs=1e-15)
    for step in EXACT.get(name, ()):
        assert schedule.rate_at(step) == expected[step]


@pytest.mark.parametrize("name", TIMED)
def test_rates_stay_between_their_ends(name):
    schedule = TIMED[name][0](net())
    rates = [schedule.rate_at(step) for step in range(2000)]
    assert all(0.0 <= rate <= 0.9 for rate in rates)
    steps = [b - a for a, b in itertools.pairwise(rates)]
    assert all(s <= 1e-16 for s in steps) or all(s >= -1e-16 for s in steps)


def test_curriculum_is_the_retain_probability_of_the_paper():
    retain, gamma = 0.7, 0.03
    schedule = CurriculumRate(net(), 1 - retain, gamma=gamma)
    for step in range(200):
        theta = (1 - retain) * math.exp(-gamma * step) + retain
        assert 1 - schedule.rate_at(step) == pytest.approx(theta, abs=1e-15)


@pytest.mark.parametrize("name", TIMED)
def test_a_state_in_the_middle_goes_on_as_it_would_have(name):
    make, _ = TIMED[name]
    first = make(net())
    for _ in range(4):
        first.step()
    state = json.loads(json.dumps(first.state_dict()))  # plain data
    model = net()
    second = make(model)
    second.load_state_dict(state)
    assert model[2].p == first.rate
    for _ in range(9):
        assert (second.rate, second.last_step) == (first.rate, first.last_step)
        first.step()
        second.step()
        assert model[2].p == second.rate


class Oracle:
    """torch's own scheduler, of a number that stands for the rate."""

    def __init__(self, start, **arguments):
        self.optimizer = torch.optim.SGD([torch.zeros(1)], lr=start)
        self.scheduler = ReduceLROnPlateau(self.optimizer, eps=0.0, **arguments)

    def step(self, metric):
        self.scheduler.step(metric)
        return self.optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize(("patience", "cooldown"), [(0, 0), (2, 0), (1, 3)])
def test_a_plateau_is_what_torch_says_it_is(mode, threshold_mode, patience, cooldown):
    same = {
        "mode": mode, "threshold_mode": threshold_mode, "patience": patience,
        "cooldown": cooldown, "threshold": 0.05, "factor": 0.8,
    }  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    model = net()
    ours, torchs = PlateauRate(model, 0.9, lowest=0.02, **same), Oracle(0.9, min_lr=0.02, **same)
    changes = 0
    for step in range(120):
        metric = math.exp(-step / 30) + 0.1 * torch.randn((), generator=generator).item()
        metric = math.nan if step % 17 == 11 else metric if mode == "min" else -metric
        before = ours.rate
        ours.step(metric)
        assert ours.rate == torchs.step(metric) == model[2].p
        changes += ours.rate != before
    assert changes >= 3


def test_a_rate_rises_on_a_plateau_up_to_its_bound():
    schedule = PlateauRate(net(), 0.2, 2.0, mode="max", patience=1, highest=0.5)
    seen = []
    for metric in (0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.7):
        schedule.step(torch.tensor([metric], requires_grad=True))
        seen.append(schedule.rate)
    assert seen == [0.2, 0.2, 0.2, 0.4, 0.4, 0.5, 0.5]
    assert schedule.last_step == 7


def test_a_plateau_goes_on_from_a_state():
    def made():
        return PlateauRate(net(), 0.8, 0.5, patience=2, cooldown=2)

    metrics = [1.0, 0.9, 0.95, 0.95, 0.95, 0.95, 0.85, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]
    for cut in range(len(metrics)):
        first, second = made(), made()
        for metric in metrics[:cut]:
            first.step(metric)
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        for metric in metrics[cut:]:
            first.step(metric)
            second.step(metric)
            assert first.state_dict() == second.state_dict()
        assert first.rate < 0.3


def test_the_rate_in_force_at_capture_is_what_is_sampled():
    torch.manual_seed(0)
    model, x = net(), torch.randn(8, 4)
    schedule = LinearRate(model, 0.5, 0.1, steps=4)
    schedule.step()
    mc = mcdrop.MCDropout(model, x[:1], task="classification")
    schedule.step()  # what was captured does not change any more
    later = mcdrop.MCDropout(model, x[:1], task="classification")
    assert [site.p for site in mc.program.sites] == [pytest.approx(0.4)]
    assert [site.p for site in later.program.sites] == [pytest.approx(0.3)]
    fixed = copy.deepcopy(model)
    fixed[2] = nn.Dropout(0.5 * 0.75 + 0.1 * 0.25)
    expected = mcdrop.MCDropout(fixed, x[:1], task="classification").predict(x, samples=32)
    got = mc.predict(x, samples=32)
    torch.testing.assert_close(got.mean, expected.mean, rtol=0, atol=0)
    assert not torch.equal(later.predict(x, samples=32).mean, got.mean)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda m: LinearRate(m, 1.0, 0.1, steps=3), "start, the probability to drop"),
        (lambda m: LinearRate(m, 0.1, -0.1, steps=3), "end, the probability to drop"),
        (lambda m: LinearRate(m, 0.1, math.nan, steps=3), "end, the probability to drop"),
        (lambda m: CosineRate(m, 0.1, 0.2, steps=0), "steps must be an integer, at least 1"),
        (lambda m: CosineRate(m, 0.1, 0.2, steps=2.5), "got 2.5"),
        (lambda m: ExponentialRate(m, 0.0, 2.0), "start must be above 0"),
        (lambda m: ExponentialRate(m, 0.1, 1.0), "factor must be below 1"),
        (lambda m: ExponentialRate(m, 0.1, -2.0), "factor must be a number above 0"),
        (lambda m: ExponentialRate(m, 0.1, 0.5, lowest=0.2), "start=0.1, lowest=0.2"),
        (lambda m: StepRate(m, 0.95, 0.5, every=2), "highest=0.9"),
        (lambda m: StepRate(m, 0.5, 0.5, every=0), "every must be an integer"),
        (lambda m: CurriculumRate(m, 0.5, gamma=0.0), "gamma must be a number above 0"),
        (lambda m: DecreasingRate(m, 0.1, 0.5, gamma=0.1), "take CurriculumRate"),
        (lambda m: PlateauRate(m, 0.1, 2.0, mode="low"), "mode must be one of 'min', 'max'"),
        (lambda m: PlateauRate(m, 0.1, 2.0, patience=-1), "patience must be an integer"),
        (lambda m: PlateauRate(m, 0.1, 2.0, threshold=-1.0), "threshold must be a number"),
        (lambda m: PlateauRate(m, 0.1, 2.0, threshold="x"), "threshold must be a number"),
    ],
)
def test_arguments_that_do_not_fit_are_named_and_change_nothing(make, words):
    model = net()
    with pytest.raises(InputError, match=words):
        make(model)
    assert model[2].p == 0.9


@pytest.mark.parametrize("metric", ["low", None, True, torch.zeros(2)])
def test_a_metric_is_a_number(metric):
    schedule = PlateauRate(net(), 0.1, 2.0)
    with pytest.raises(InputError, match="the metric of step"):
        schedule.step(metric)
    assert schedule.last_step == 0


@pytest.mark.parametrize(
    "state",
    [
        {},
        None,
        {"last_step": 1},
        {"schedule": "CosineRate", "last_step": 1, "rate": 0.5},
        {"schedule": "LinearRate", "last_step": -1, "rate": 0.5},
        {"schedule": "LinearRate", "last_step": 1, "rate": 1.5},
        PlateauRate(net(), 0.1, 2.0).state_dict(),
    ],
)
def test_another_state_is_refused_and_changes_nothing(state):
    model = net()
    schedule = LinearRate(model, 0.5, 0.1, steps=4)
    with pytest.raises(InputError):
        schedule.load_state_dict(state)
    assert (schedule.rate, schedule.last_step, model[2].p) == (0.5, 0, 0.5)
