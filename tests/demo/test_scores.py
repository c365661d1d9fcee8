import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

from mcdrop.demo import scores
from mcdrop.errors import InputError
from mcdrop.prediction import ClassificationPrediction, RegressionPrediction


def classification(probs: torch.Tensor) -> ClassificationPrediction:
    score = torch.special.entr(probs).sum(-1)
    return ClassificationPrediction(
        probs, probs, probs, torch.ones(len(probs)), score, score, 0.5 * score, score
    )


def regression(mean: torch.Tensor, variance: torch.Tensor) -> RegressionPrediction:
    half = 0.5 * variance
    return RegressionPrediction(mean, variance, mean, torch.ones(len(mean)), half, half)


@pytest.fixture
def probs() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (3 * torch.randn(200, 4, generator=generator)).softmax(-1)


@pytest.fixture
def classes() -> torch.Tensor:
    return torch.randint(4, (200,), generator=torch.Generator().manual_seed(1))


def test_classification_scores_agree_with_scikit_learn(probs, classes):
    found = scores.classification(classification(probs), classes)
    truth, p = classes.numpy(), probs.double().numpy()
    assert found["test_accuracy"] == accuracy_score(truth, p.argmax(1))
    assert found["test_nll"] == pytest.approx(
        log_loss(truth, p / p.sum(1, keepdims=True)), rel=1e-6
    )
    assert found["test_brier"] == pytest.approx(((p - np.eye(4)[truth]) ** 2).sum(1).mean())


def test_calibration_error_agrees_with_a_loop_over_bins(probs, classes):
    confidence, answer = probs.max(-1)
    right = (answer == classes).numpy()
    expected = 0.0
    for i in range(15):
        inside = (confidence.numpy() > i / 15) & (confidence.numpy() <= (i + 1) / 15)
        if inside.any():
            gap = right[inside].mean() - confidence.numpy()[inside].astype(float).mean()
            expected += inside.mean() * abs(gap)
    found = scores.expected_calibration_error(confidence, torch.from_numpy(right))
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_entropy_is_told_apart_by_right_and_wrong(probs, classes):
    found = scores.classification(classification(probs), classes)
    entropy = torch.special.entr(probs).sum(-1)
    right = probs.argmax(-1) == classes
    assert found["test_entropy_right"] == pytest.approx(entropy[right].mean().item())
    assert found["test_entropy_wrong"] == pytest.approx(entropy[~right].mean().item())
    assert found["test_mutual_information_wrong"] == pytest.approx(
        0.5 * entropy[~right].mean().item()
    )


def test_a_model_that_is_never_wrong_has_no_entropy_of_its_errors(probs):
    found = scores.classification(classification(probs), probs.argmax(-1))
    assert found["test_accuracy"] == 1.0
    assert "test_entropy_wrong" not in found
    assert all(np.isfinite(list(found.values())))


def test_probability_zero_of_the_truth_stays_finite():
    probs = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = scores.classification(classification(probs), torch.tensor([1, 1]))
    assert np.isfinite(found["test_nll"])


def test_regression_scores_agree_with_the_normal_density():
    generator = torch.Generator().manual_seed(0)
    mean, variance = torch.zeros(5000, 1), torch.full((5000, 1), 4.0)
    targets = 2.0 * torch.randn(5000, 1, generator=generator)
    found = scores.regression(regression(mean, variance), targets)
    normal = torch.distributions.Normal(mean.double(), 2.0)
    assert found["test_nll"] == pytest.approx(-normal.log_prob(targets).mean().item(), rel=1e-6)
    assert found["test_rmse"] == pytest.approx(targets.square().mean().sqrt().item(), rel=1e-6)
    # 5000 draws: standard error 0.0042, so 4 of them; fixed seed
    assert found["test_coverage_90"] == pytest.approx(0.9, abs=0.017)
    assert found["test_interval_width_90"] == pytest.approx(2 * 1.6449 * 2.0, rel=1e-4)


def test_the_wrong_kind_of_prediction_is_refused(probs, classes):
    with pytest.raises(InputError, match="expected a regression"):
        scores.regression(classification(probs), classes)
    with pytest.raises(InputError, match="expected a classification"):
        scores.classification(regression(probs, probs), classes)
