"""The façade: what a caller passes, gets, and is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import mcdrop
from mcdrop import tasks
from tests import zoo
from tests.reference import uncertainty


@pytest.fixture(scope="module")
def classifier() -> mcdrop.MCDropout:
    return mcdrop.MCDropout(zoo.program("dropout"), task="classification")


X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


def test_the_prediction_is_the_summary_of_its_samples(classifier: mcdrop.MCDropout) -> None:
    logits = classifier.sample(X, samples=40, seed=4)
    got = classifier.predict(X, samples=40, seed=4).fields()
    probs = torch.softmax(logits.double(), -1).numpy()
    expected = {**uncertainty.classification(probs), **uncertainty.blocks(probs, 16)}
    assert set(got) == {*expected, "samples"}
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_stream_ends_where_predict_is_and_narrows(classifier: mcdrop.MCDropout) -> None:
    partials = list(classifier.stream(X, samples=100, seed=4))
    whole = classifier.predict(X, samples=100, seed=4)
    assert [p.samples[0].item() for p in partials] == [16, 32, 48, 64, 80, 96, 100]
    for name, value in whole.fields().items():
        torch.testing.assert_close(partials[-1].fields()[name], value, rtol=1e-4, atol=1e-6)
    errors = [p.standard_error.mean().item() for p in partials]
    assert errors[-1] < errors[0] / 2


def test_progress_counts_row_samples() -> None:
    seen: list[tuple[int, int]] = []
    mc = mcdrop.MCDropout(zoo.program("dropout"), task="regression", memory_budget=400)
    mc.predict(X, samples=10, progress=lambda done, total: seen.append((done, total)))
    assert len(seen) > 5
    assert seen[-1] == (50, 50)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


@pytest.mark.parametrize("name", ["two_inputs", "bert", "gpt2", "vit", "sdpa_masked"])
def test_several_inputs_and_nested_outputs(name: str) -> None:
    _, inputs = zoo.build(name)
    mc = mcdrop.MCDropout(zoo.program(name), task="regression")
    assert mc.predict(inputs, samples=8).mean.shape[0] == 3
    if isinstance(inputs, tuple):
        named = dict(zip((spec.name for spec in mc.inputs), inputs, strict=True))
        by_name = mc.sample(named, samples=4)
        assert torch.equal(by_name, mc.sample(inputs, samples=4))


def test_the_task_names_the_output() -> None:
    _, x = zoo.build("two_inputs")
    for entry, width in (("score", 1), ("parts.0", 8), ("parts.1", 8)):
        mc = mcdrop.MCDropout(zoo.program("two_inputs"), task=tasks.Regression(entry=entry))
        assert mc.predict(x, samples=4).mean.shape == (3, width)
    with pytest.raises(mcdrop.InputError, match=r"no output 'logits'; it has 'score', 'parts\.0'"):
        mcdrop.MCDropout(zoo.program("two_inputs"), task=tasks.Regression(entry="logits"))


def test_token_classification_and_segmentation_work_unchanged() -> None:
    ids = zoo.build("gpt2")[1]
    tokens = mcdrop.MCDropout(zoo.program("gpt2"), task=tasks.Classification(dim=2))
    assert tokens.predict(ids, samples=4).entropy.shape == (3, 6)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Dropout2d(0.3), nn.Conv2d(8, 5, 1))
    pixels = mcdrop.MCDropout(net, torch.zeros(1, 3, 6, 7), task="classification")
    p = pixels.predict(torch.randn(2, 3, 6, 7), samples=4)
    assert p.mean.shape == (2, 5, 6, 7)
    assert p.mutual_information.shape == (2, 6, 7)


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (torch.zeros(2, 5), r"'x' float32 \[B, 6\]; got float32 \[2, 5\]: axis 1"),
        (torch.zeros(6), r"a single row needs a batch axis, x\[None\]"),
        (torch.zeros(2, 6, dtype=torch.float64), r"convert it with x\.to\(torch\.float32\)"),
        (torch.zeros(0, 6), "at least one row"),
        (torch.full((3, 6), torch.nan), "not finite.*rows 0, 1, 2"),
        (torch.tensor([[0.0] * 6, [float("inf")] * 6]), "not finite.*row 1"),
        (torch.tensor([[3e38] * 6, [float("inf"), float("-inf")] * 3]), "not finite.*row 1"),
        ((torch.zeros(2, 6), torch.zeros(2, 6)), "got 2 tensors"),
        ({"y": torch.zeros(2, 6)}, r"expected inputs 'x'.*got \['y'\]"),
        ([[0.0] * 6], "as a tensor; got list"),
        (7, "got int"),
    ],
)
def test_bad_inputs_are_told_apart(classifier: mcdrop.MCDropout, x: object, match: str) -> None:
    for method in (classifier.predict, classifier.sample, classifier.deterministic):
        with pytest.raises(mcdrop.InputError, match=match):
            method(x)
    with pytest.raises(mcdrop.InputError, match=match):
        classifier.stream(x)


@pytest.mark.parametrize("row", [-1, 2**32, 2**62, 2**80, 1.5])
def test_a_first_row_that_has_no_masks_is_refused(
    classifier: mcdrop.MCDropout, row: object
) -> None:
    with pytest.raises(mcdrop.InputError, match="first_row must be an integer, from 0"):
        classifier.predict(X, first_row=row)


def test_a_sum_that_overflows_is_not_taken_for_a_value(classifier: mcdrop.MCDropout) -> None:
    assert classifier.predict(torch.full((3, 6), 3e38), samples=2).mean.shape == (3, 3)


def test_an_index_that_cannot_be_looked_up_is_an_input_error() -> None:
    mc = mcdrop.MCDropout(zoo.program("gpt2"), task="regression")
    with pytest.raises(mcdrop.InputError, match="integer input"):
        mc.predict(torch.full((1, 6), 40))


@pytest.mark.parametrize("samples", [0, -1, 1.5, True, "8"])
def test_bad_sample_counts_are_refused(classifier: mcdrop.MCDropout, samples: object) -> None:
    with pytest.raises(mcdrop.InputError, match="samples"):
        classifier.predict(X, samples=samples)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"task": "magic"}, "'magic'"),
        ({"task": "regression", "masks": "own"}, "masks must be one of 'shared', 'independent'"),
        ({"task": "regression", "engine": "warp"}, "engine must be one of"),
        ({"task": "regression", "sampling": "odd"}, "sampling must be one of"),
        ({"task": "regression", "device": "toaster"}, "device must be like"),
        ({"task": "regression", "memory_budget": 0}, "memory_budget"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], match: str) -> None:
    with pytest.raises(mcdrop.InputError, match=match):
        mcdrop.MCDropout(zoo.program("dropout"), **options)


def test_a_module_needs_examples_and_a_program_takes_none() -> None:
    module, x = zoo.build("dropout")
    with pytest.raises(mcdrop.InputError, match="example_inputs is needed"):
        mcdrop.MCDropout(module, task="regression")
    with pytest.raises(mcdrop.InputError, match="belong to capture"):
        mcdrop.MCDropout(zoo.program("dropout"), x, task="regression")
    with pytest.raises(mcdrop.InputError, match="needs a module"):
        mcdrop.MCDropout(zoo.program("dropout"), task="regression", engine="eager")
    eager = mcdrop.MCDropout(module, x, task="regression", engine="eager")
    with pytest.raises(mcdrop.InputError, match="no program"):
        eager.save("/nowhere", name="x")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_missing_device_is_said() -> None:
    with pytest.raises(mcdrop.InputError, match="no CUDA device"):
        mcdrop.MCDropout(zoo.program("dropout"), task="regression", device="cuda:0")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", zoo.NAMES)
def test_the_same_seed_gives_the_same_answer_on_a_gpu(name: str) -> None:
    _, inputs = zoo.build(name)
    cpu = mcdrop.MCDropout(zoo.program(name), task="regression")
    gpu = mcdrop.MCDropout(zoo.program(name), task="regression", device="cuda")
    torch.testing.assert_close(
        gpu.sample(inputs, samples=8).cpu(), cpu.sample(inputs, samples=8), rtol=1e-3, atol=1e-4
    )


def test_an_output_without_rows_in_front_is_refused() -> None:
    class Transposed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.dropout(x, 0.5, self.training).T

    with pytest.raises(mcdrop.InputError, match="axis 0 must be the batch"):
        mcdrop.MCDropout(Transposed(), torch.zeros(2, 4), task="regression")


def test_the_public_names_are_these() -> None:
    assert sorted(mcdrop.__all__) == sorted(
        [
            "ArtifactError",
            "Audit",
            "CaptureError",
            "ClassificationPrediction",
            "Finding",
            "InputError",
            "MCDropout",
            "Manifest",
            "McdropError",
            "Monitor",
            "NoStochasticSiteError",
            "Prediction",
            "Program",
            "RegressionPrediction",
            "Site",
            "__version__",
            "audit",
            "calibration",
            "capture",
            "layers",
            "load",
            "metrics",
            "monitor",
            "regularization",
            "schedules",
            "tasks",
            "tune",
        ]
    )
    assert all(hasattr(mcdrop, name) for name in mcdrop.__all__)
