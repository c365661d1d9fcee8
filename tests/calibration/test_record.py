"""Calibrations of a model: fitted, applied by `predict`, carried by an artifact."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import mcdrop
from mcdrop import calibration as c
from mcdrop.calibration import codec
from mcdrop.calibration.conformal_scores import ConformalScores
from mcdrop.calibration.methods import CLASS_METHODS, INTERVAL_SCORES, NUMBER_METHODS, SET_SCORES
from mcdrop.prediction import ClassificationPrediction

ROWS = 300


@pytest.fixture(scope="module")
def sure() -> tuple[mcdrop.MCDropout, Tensor, Tensor]:
    """A classifier of four classes that is too sure, held-out rows, and their labels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 4))
        x = torch.randn(ROWS, 5)
        labels = torch.multinomial(net.eval()(x).mul(6.0).softmax(1), 1)[:, 0]
        with torch.no_grad():
            net[3].weight.mul_(24.0)
    return mcdrop.MCDropout(net, x[:4], task="classification", engine="loop"), x, labels


@pytest.fixture(scope="module")
def narrow() -> tuple[mcdrop.MCDropout, Tensor, Tensor]:
    """A regression with two outputs whose noise is underestimated, rows, and targets."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 2))
        x = torch.randn(ROWS, 5)
        targets = net.eval()(x).detach() + torch.randn(ROWS, 2)
    task = mcdrop.tasks.Regression(noise_variance=0.01)
    return mcdrop.MCDropout(net, x[:4], task=task, engine="loop"), x, targets


def _brier(mc: mcdrop.MCDropout, x: Tensor, labels: Tensor) -> float:
    probs = mc.predict(x).mean
    return mcdrop.metrics.functional.brier_score(probs=probs, labels=labels).item()


@pytest.mark.parametrize("method", CLASS_METHODS[1:])
def test_classes_are_recalibrated_and_the_artifact_carries_it(
    method: str, sure: tuple[mcdrop.MCDropout, Tensor, Tensor], tmp_path: Path
) -> None:
    mc, x, labels = sure
    mc.calibration = None
    bare = mc.predict(x)
    before = _brier(mc, x, labels)
    fitted = mc.calibrate(x, labels, method=method, conformal="aps")
    try:
        assert fitted.cases == ROWS
        after = mc.predict(x)
        assert torch.allclose(after.mean.sum(1), torch.ones(ROWS), atol=1e-5)
        assert _brier(mc, x, labels) < before - 0.001
        entropy = torch.special.entr(after.mean).sum(1)
        assert torch.allclose(after.entropy, entropy, atol=1e-5)
        assert torch.equal(after.samples, bare.samples)
        path = mc.save(tmp_path / "m", name="m")
        again = mcdrop.load(path, engine="loop")
        assert again.calibration == fitted
        assert torch.allclose(again.predict(x).mean, after.mean, atol=1e-6)
        *_, last = again.stream(x)
        assert torch.allclose(last.mean, after.mean, atol=1e-6)
        held = fitted.conformal_sets(after, 0.8)
        assert held.shape == (ROWS, 4)
        assert held.gather(1, labels[:, None]).float().mean() > 0.75
    finally:
        mc.calibration = None
    assert torch.equal(mc.predict(x).mean, bare.mean)


def test_a_temperature_inside_is_that_of_the_samples(
    sure: tuple[mcdrop.MCDropout, Tensor, Tensor],
) -> None:
    mc, x, labels = sure
    fitted = mc.calibrate(x, labels, method="sample_temperature", samples=32)
    try:
        assert isinstance(fitted.scaling, c.SampleTemperature)
        found = mc.predict(x, samples=32)
        assert isinstance(found, ClassificationPrediction)
        samples = (mc.sample(x, samples=32) / fitted.temperature).softmax(-1)
        assert torch.allclose(found.mean, samples.mean(0), atol=1e-6)
        expected = torch.special.entr(samples).sum(-1).mean(0)
        assert torch.allclose(found.expected_entropy, expected, atol=1e-5)
        total = found.expected_entropy + found.mutual_information
        assert torch.allclose(total, found.entropy, atol=1e-5)
    finally:
        mc.calibration = None


def test_an_outside_calibration_leaves_what_the_samples_say(
    sure: tuple[mcdrop.MCDropout, Tensor, Tensor],
) -> None:
    mc, x, labels = sure
    bare = mc.predict(x)
    mc.calibrate(x, labels, method="temperature")
    try:
        found = mc.predict(x)
    finally:
        mc.calibration = None
    assert isinstance(bare, ClassificationPrediction)
    assert isinstance(found, ClassificationPrediction)
    for name in ("variance", "standard_error", "expected_entropy", "mutual_information"):
        assert torch.equal(getattr(found, name), getattr(bare, name))
    assert not torch.allclose(found.mean, bare.mean, atol=0.01)


@pytest.mark.parametrize("output", ["logits", "log_probs", "probs"])
def test_a_temperature_inside_reads_what_the_model_gives(output: str) -> None:
    link = {"logits": nn.Identity(), "log_probs": nn.LogSoftmax(1), "probs": nn.Softmax(1)}
    torch.manual_seed(2)
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3), link[output])
    task = mcdrop.tasks.Classification(output=output)
    x = torch.randn(200, 3)
    labels = net.eval()(x).argmax(1)
    labels[:60] = torch.randint(3, (60,))
    mc = mcdrop.MCDropout(net, x[:2], task=task, engine="loop")
    mc.calibration = c.Calibration(mc.task, scaling=c.SampleTemperature(2.5))
    raw = mc.sample(x, samples=16)
    logits = raw.log() if output == "probs" else raw
    expected = (logits / 2.5).softmax(-1).mean(0)
    assert torch.allclose(mc.predict(x, samples=16).mean, expected, atol=1e-6)
    mc.calibration = None
    fitted = mc.calibrate(x, labels, method="sample_temperature", conformal="none", samples=16)
    assert fitted.temperature < 1.0  # untrained: not sure enough


@pytest.mark.parametrize("kind", ["binary", "multilabel"])
@pytest.mark.parametrize("output", ["logits", "probs"])
@pytest.mark.parametrize("method", CLASS_METHODS[1:])
def test_yes_or_no_is_recalibrated(kind: str, output: str, method: str) -> None:
    torch.manual_seed(3)
    outputs = 1 if kind == "binary" else 3
    net = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, outputs))
    x = torch.randn(400, 3)
    labels = torch.bernoulli(net.eval()(x).mul(6.0).sigmoid()).long()
    with torch.no_grad():
        net[3].weight.mul_(30.0)
    if output == "probs":
        net.append(nn.Sigmoid())
    task = {"binary": mcdrop.tasks.Binary, "multilabel": mcdrop.tasks.Multilabel}[kind]
    mc = mcdrop.MCDropout(net, x[:2], task=task(output=output), engine="loop")
    before = mc.predict(x)
    brier = mcdrop.metrics.functional.brier_score
    mc.calibrate(x, labels, method=method)
    after = mc.predict(x)
    assert after.mean.shape == (400, outputs)
    assert brier(probs=after.mean, labels=labels) < brier(probs=before.mean, labels=labels)


def test_pixels_are_cases_of_their_own() -> None:
    torch.manual_seed(4)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Dropout2d(), nn.Conv2d(8, 3, 1)
    )
    x = torch.randn(30, 1, 5, 4)
    labels = torch.multinomial(net.eval()(x).movedim(1, -1).reshape(-1, 3).softmax(1), 1).reshape(
        30, 5, 4
    )
    mc = mcdrop.MCDropout(net, x[:2], task="classification", engine="loop")
    for method in ("sample_temperature", "temperature"):
        fitted = mc.calibrate(x, labels, method=method)
        found = mc.predict(x)
        assert fitted.cases == 600
        assert found.mean.shape == (30, 3, 5, 4)
        assert torch.allclose(found.mean.sum(1), torch.ones(30, 5, 4), atol=1e-5)
        assert fitted.conformal_sets(found, 0.9).shape == (30, 3, 5, 4)


@pytest.mark.parametrize("method", NUMBER_METHODS)
@pytest.mark.parametrize("conformal", INTERVAL_SCORES)
def test_numbers_are_recalibrated_and_the_artifact_carries_it(
    method: str,
    conformal: str,
    narrow: tuple[mcdrop.MCDropout, Tensor, Tensor],
    tmp_path: Path,
) -> None:
    mc, x, targets = narrow
    fitted = mc.calibrate(x, targets, method=method, conformal=conformal)
    try:
        found = mc.predict(x)
        lower, upper = fitted.interval(found, 0.9)
        covered = ((lower <= targets) & (targets <= upper)).double().mean()
        if (method, conformal) != ("none", "none"):
            assert 0.86 < covered < 0.94  # of the rows that it was fitted on
        assert torch.allclose(found.variance, found.epistemic + found.aleatoric, rtol=1e-5)
        path = mc.save(tmp_path / "m", name="m")
        assert mcdrop.load(path).calibration == fitted
    finally:
        mc.calibration = None


@pytest.mark.parametrize("method", ["deviation", "quantiles"])
@pytest.mark.parametrize("conformal", INTERVAL_SCORES)
def test_outputs_in_units_of_their_own_are_calibrated_on_their_own(
    method: str, conformal: str
) -> None:
    """Of 2,000 fresh rows each output's intervals cover 90% within 4%.

    Coverage has a standard deviation of 1.0% (400 rows or more for the scores, 2,000 to test): 4
    of them, a false alarm in 16,000 for each of 24 figures.
    """
    torch.manual_seed(7)
    net = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
    x = torch.randn(2_800, 3)
    noise = torch.randn(2_800, 3) * torch.tensor([1.0, 10.0, 1000.0])
    targets = net.eval()(x).detach() + noise
    task = mcdrop.tasks.Regression(noise_variance=1.0)
    mc = mcdrop.MCDropout(net, x[:4], task=task, engine="batched")
    fitted = mc.calibrate(x[:800], targets[:800], method=method, conformal=conformal)
    lower, upper = mc.interval(mc.predict(x[800:]), 0.9)
    covered = ((lower <= targets[800:]) & (targets[800:] <= upper)).double().mean(0)
    assert bool(((covered - 0.9).abs() < 0.04).all())
    assert fitted.moves_quantiles == (method == "quantiles")
    assert fitted.fitted_level == (0.9 if conformal == "cqr" else None)
    with pytest.raises(mcdrop.InputError, match="fitted for 3 outputs"):
        fitted.apply(mcdrop.RegressionPrediction(*[torch.ones(4, 2)] * 3, *[torch.ones(4, 2)] * 3))


def test_a_prediction_has_the_interval_of_its_models_calibration(
    narrow: tuple[mcdrop.MCDropout, Tensor, Tensor],
) -> None:
    mc, x, targets = narrow
    bare = mc.predict(x)
    assert torch.equal(mc.interval(bare, 0.8)[0], bare.interval(0.8)[0])
    fitted = mc.calibrate(x, targets)
    try:
        found = mc.predict(x)
        assert torch.equal(mc.interval(found)[1], fitted.interval(found, 0.9)[1])
        assert not torch.allclose(mc.interval(found)[1], found.interval(0.9)[1])
    finally:
        mc.calibration = None


def test_few_cases_that_are_all_right_do_not_turn_samples_into_votes() -> None:
    """Without a prior the temperature would be as low as it is sought: exp(-5)."""
    torch.manual_seed(2)
    labels = torch.arange(30) % 3
    raw = 2.0 * torch.randn(16, 30, 3) + 8.0 * nn.functional.one_hot(labels, 3)
    scaling = c.SampleTemperature.fit(logits=raw, labels=labels)
    assert 0.2 < scaling.temperature < 1.0
    many = c.SampleTemperature.fit(
        logits=raw.repeat(1, 200, 1), labels=labels.repeat(200)
    ).temperature
    assert many < scaling.temperature  # which gives way to cases


def test_rows_are_sampled_once_with_progress_and_targets_looked_at_first(
    sure: tuple[mcdrop.MCDropout, Tensor, Tensor], narrow: tuple[mcdrop.MCDropout, Tensor, Tensor]
) -> None:
    seen: list[tuple[int, int]] = []
    for mc, x, targets in (sure, narrow):
        mc.calibrate(x, targets, samples=32, progress=lambda *at: seen.append(at))
        mc.calibration = None
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
        assert seen[-1] == (ROWS * 32, ROWS * 32)
        seen.clear()
        with pytest.raises(mcdrop.InputError, match=r"targets|labels"):
            mc.calibrate(x, torch.stack([targets] * 3, 1), progress=lambda *at: seen.append(at))
        assert not seen


def test_of_many_pixels_some_tell_the_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(4)
    net = nn.Sequential(nn.Conv2d(1, 8, 1), nn.ReLU(), nn.Dropout2d(0.3), nn.Conv2d(8, 3, 1))
    x = torch.randn(40, 1, 8, 8)
    scores = net.eval()(x).movedim(1, -1)
    labels = torch.multinomial(scores.reshape(-1, 3).softmax(1), 1).reshape(40, 8, 8)
    mc = mcdrop.MCDropout(net, x[:2], task="classification", engine="batched")
    whole = mc.calibrate(x, labels, samples=16).temperature
    monkeypatch.setattr("mcdrop.recalibrate._LOGITS", 16 * 3 * 20 * 30)  # 30 of 64 pixels
    some = mc.calibrate(x, labels, samples=16)
    assert some.temperature != whole
    assert abs(math.log(some.temperature / whole)) < 0.5
    assert some.cases == 40 * 64


def test_a_factor_scales_every_variance(narrow: tuple[mcdrop.MCDropout, Tensor, Tensor]) -> None:
    mc, x, _ = narrow
    bare = mc.predict(x)
    mc.calibration = c.Calibration(mc.task, scaling=c.DeviationScaling(3.0))
    try:
        found = mc.predict(x)
    finally:
        mc.calibration = None
    for name in ("variance", "epistemic", "aleatoric"):
        assert torch.allclose(getattr(found, name), 9.0 * getattr(bare, name), rtol=1e-6)
    assert torch.equal(found.mean, bare.mean)


@pytest.mark.parametrize(("method", "conformal"), [("deviation", "none"), ("none", "scaled")])
def test_numbers_without_spread_are_refused_with_what_to_do(method: str, conformal: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(2, 8), nn.Dropout(), nn.ReLU(), nn.Linear(8, 1), nn.ReLU())
        x, y = torch.randn(40, 2), torch.randn(40, 1)
    mc = mcdrop.MCDropout(net, x, task="regression", engine="loop")
    dead = int((mc.predict(x).variance == 0).sum())
    assert 0 < dead < len(x)
    with pytest.raises(mcdrop.InputError, match=rf"0 for {dead} of 40 held-out.*noise_variance"):
        mc.calibrate(x, y, method=method, conformal=conformal)
    assert mc.calibration is None
    assert mc.calibrate(x, y, method="none", conformal="absolute").intervals is not None


@pytest.mark.parametrize("method", ["temperature", "isotonic", "sample_temperature"])
def test_sets_hold_over_resplits_though_a_scaling_was_fitted_too(method: str) -> None:
    """Coverage over 200 resplits within binomial bounds, at a false-alarm rate of 1e-6.

    Half of the 300 held-out rows are for the scores: coverage is 136/151 on average, of 300 fresh
    rows with the variance of a beta-binomial law.
    """
    found = []
    task = mcdrop.tasks.Classification()
    for split in range(200):
        generator = torch.Generator().manual_seed(split)
        logits = torch.randn(600, 5, generator=generator, dtype=torch.float64)
        labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
        probs, raw = (3.0 * logits).softmax(1), None
        if method == "sample_temperature":
            raw = 3.0 * (logits + 0.5 * torch.randn(4, *logits.shape, generator=generator))
            probs = raw.softmax(-1).mean(0)
        prediction = _prediction(probs)
        fitted = c.fit_calibration(
            task,
            prediction.rows(torch.arange(300)),
            labels[:300],
            method=method,
            raw=None if raw is None else raw[:, :300],
            seed=split,
        )
        assert fitted.sets is not None
        rule = dataclasses.replace(fitted.sets, allow_empty=True)
        fitted = dataclasses.replace(fitted, sets=rule)
        rest = fitted.apply(prediction.rows(torch.arange(300, 600)))
        if raw is not None:  # `predict` has the temperature at work in each sample
            rest = _prediction((raw[:, 300:] / fitted.temperature).softmax(-1).mean(0))
        held = fitted.conformal_sets(rest, 0.9)
        found.append(held.gather(1, labels[300:, None]).double().mean())
    a, b = 136, 15
    spread = a * b * (a + b + 300) / ((a + b) ** 2 * (a + b + 1) * 300)
    gap = torch.stack(found).mean().item() - a / (a + b)
    # isotonic steps tie scores, which can only cover more
    assert gap > -4.9 * math.sqrt(spread / 200)
    assert gap < (0.06 if method == "isotonic" else 4.9 * math.sqrt(spread / 200))


def _prediction(probs: Tensor) -> ClassificationPrediction:
    entropy = torch.special.entr(probs).sum(1)
    zero = torch.zeros_like(entropy)
    return ClassificationPrediction(
        probs, torch.zeros_like(probs), torch.zeros_like(probs), zero, entropy, entropy, zero, zero
    )


def test_calibrations_fit_the_task() -> None:
    numbers, classes = mcdrop.tasks.Regression(), mcdrop.tasks.Classification()
    with pytest.raises(mcdrop.InputError, match="Temperature does not calibrate"):
        c.Calibration(numbers, scaling=c.Temperature(2.0))
    with pytest.raises(mcdrop.InputError, match="DeviationScaling does not calibrate"):
        c.Calibration(classes, scaling=c.DeviationScaling(2.0))
    scores = ConformalScores.of(torch.rand(30))
    with pytest.raises(mcdrop.InputError, match="sets are for classification"):
        c.Calibration(numbers, sets=c.SetRule(scores, 3))
    with pytest.raises(mcdrop.InputError, match="intervals are for numbers"):
        c.Calibration(classes, intervals=c.IntervalRule(scores))


def test_what_was_not_fitted_raises(
    sure: tuple[mcdrop.MCDropout, Tensor, Tensor], narrow: tuple[mcdrop.MCDropout, Tensor, Tensor]
) -> None:
    mc, x, labels = sure
    bare = c.Calibration(mc.task)
    with pytest.raises(mcdrop.InputError, match="no conformal sets were fitted"):
        bare.conformal_sets(mc.predict(x))
    with pytest.raises(mcdrop.InputError, match="what abstaining costs was not measured"):
        bare.abstention(0.5)
    with pytest.raises(mcdrop.InputError, match="classes have conformal_sets"):
        bare.interval(mc.predict(x))
    with pytest.raises(mcdrop.InputError, match="the model's task is"):
        mc.calibration = c.Calibration(mcdrop.tasks.Regression())
    kept = mc.calibrate(x, labels, method="temperature")
    try:
        with pytest.raises(mcdrop.InputError, match="at least 20 held-out rows"):
            mc.calibrate(x[:10], labels[:10])
        with pytest.raises(mcdrop.InputError, match="labels must be integers"):
            mc.calibrate(x, labels.float())
        with pytest.raises(mcdrop.InputError, match="method for a classification model"):
            mc.calibrate(x, labels, method="deviation")
        assert mc.calibration == kept  # an attempt that fails loses nothing
    finally:
        mc.calibration = None
    numbers, x, targets = narrow
    with pytest.raises(mcdrop.InputError, match=r"targets of shape \[300, 2\]"):
        numbers.calibrate(x, targets[:, :1])
    quantiles = c.ConformalQuantiles(0.5, 0.9)
    cqr = c.Calibration(numbers.task, intervals=quantiles)
    with pytest.raises(mcdrop.InputError, match=r"fitted for the level 0\.9; got 0\.5"):
        cqr.interval(numbers.predict(x), 0.5)


@pytest.mark.parametrize("conformal", SET_SCORES[1:])
def test_rules_give_the_sets_of_each_level(conformal: str) -> None:
    generator = torch.Generator().manual_seed(0)
    probs = torch.rand(500, 4, generator=generator).softmax(1)
    labels = torch.randint(4, (500,), generator=generator)
    rule = c.SetRule.fit(probs=probs, labels=labels, score=conformal)
    for level in (0.5, 0.9, 0.99, 0.9999):
        alone = c.ConformalSets.fit(probs=probs, labels=labels, level=level, score=conformal)
        assert rule.at(level).threshold == alone.threshold
        assert torch.equal(rule.at(level)(probs), alone(probs))


def test_many_scores_are_thinned_out_on_the_safe_side() -> None:
    scores = torch.rand(100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kept = ConformalScores.of(scores)
    assert len(kept.values) <= 2000
    for level in (0.01, 0.5, 0.77, 0.9, 0.95, 0.999, 0.9999):
        exact = c.conformal_threshold(scores, level)
        assert exact <= kept.threshold(level) <= exact + 1.5e-3
    assert kept.threshold(1.0 - 1e-7) == math.inf


def test_a_selection_knows_what_each_threshold_costs() -> None:
    generator = torch.Generator().manual_seed(0)
    entropy = torch.rand(5000, generator=generator, dtype=torch.float64)
    wrong = (torch.rand(5000, generator=generator) < entropy).double()
    found = c.Selection.of("entropy", entropy, wrong)
    assert len(found.thresholds) <= 1000
    for above in (0.1, 0.5, 0.95):
        policy = found.policy(above)
        assert policy.coverage == pytest.approx((entropy <= above).double().mean().item(), abs=2e-3)
        assert policy.risk == pytest.approx(wrong[entropy <= above].mean().item(), abs=2e-2)
        assert torch.equal(policy(entropy), entropy > above)
    assert found.policy(-1.0).coverage == 0.0
    assert math.isnan(found.policy(-1.0).risk)
    with pytest.raises(mcdrop.InputError, match="finite"):
        found.policy(math.inf)


def _document(mc: mcdrop.MCDropout) -> dict[str, object]:
    assert mc.calibration is not None
    return json.loads(json.dumps(codec.encode(mc.calibration)))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"format": 2}, "format 1; got 2"),
        ({"cases": -1}, "cases are a whole number"),
        ({"more": 1}, "an object with"),
        ({"scaling": {"kind": "sets"}}, "a kind out of"),
        ({"scaling": {"kind": "deviation", "factor": 2.0}}, "does not calibrate"),
        ({"scaling": {"kind": "temperature"}}, "temperature"),
        ({"scaling": {"kind": "temperature", "temperature": -1.0}}, "temperature"),
        ({"scaling": {"kind": "temperature", "temperature": 1.0, "x": 1}}, "unknown fields"),
        ({"sets": {"kind": "sets", "scores": {}, "classes": 4}}, "scores"),
        ({"selection": [1]}, "a kind out of"),
    ],
)
def test_a_calibration_that_is_not_sound_is_refused(
    change: dict[str, object],
    complaint: str,
    sure: tuple[mcdrop.MCDropout, Tensor, Tensor],
    tmp_path: Path,
) -> None:
    mc, x, labels = sure
    mc.calibrate(x, labels, method="temperature")
    path = mc.save(tmp_path / "m", name="m")
    document = {**_document(mc), **change}
    mc.calibration = None
    _rewrite(path, json.dumps(document).encode())
    with pytest.raises(mcdrop.ArtifactError, match=complaint):
        mcdrop.load(path)


def _rewrite(path: Path, content: bytes) -> None:
    """Another calibration, with the manifest's hash of it."""
    (path / "calibration.json").write_bytes(content)
    manifest = json.loads((path / "model.json").read_text())
    manifest["files"]["calibration"] = hashlib.sha256(content).hexdigest()
    (path / "model.json").write_text(json.dumps(manifest))


def test_an_altered_calibration_is_refused(
    sure: tuple[mcdrop.MCDropout, Tensor, Tensor], tmp_path: Path
) -> None:
    mc, x, labels = sure
    mc.calibrate(x, labels, method="temperature")
    path = mc.save(tmp_path / "m", name="m")
    mc.calibration = None
    file = path / "calibration.json"
    sound = file.read_bytes()
    file.write_bytes(sound.replace(b"temperature", b"Temperature"))
    with pytest.raises(mcdrop.ArtifactError, match="SHA-256"):
        mcdrop.load(path)
    file.unlink()
    with pytest.raises(mcdrop.ArtifactError, match=r"no calibration\.json"):
        mcdrop.load(path)
    manifest = json.loads((path / "model.json").read_text())
    manifest["files"]["calibration"] = None
    (path / "model.json").write_text(json.dumps(manifest))
    assert mcdrop.load(path).calibration is None
    file.write_bytes(sound)
    with pytest.raises(mcdrop.ArtifactError, match="not declared"):
        mcdrop.load(path)
