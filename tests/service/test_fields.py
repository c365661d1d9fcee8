import pytest
import torch
from torch import nn

import mcdrop
from service.fields import field_specs

TOKENS = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 5))

PIXELS = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Dropout2d(0.5), nn.Conv2d(4, 3, 1))


def dense(outputs):
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, outputs))


@pytest.mark.parametrize(
    ("model", "example", "task"),
    [
        (dense(3), torch.randn(2, 4), "classification"),
        (TOKENS, torch.randn(2, 6, 4), mcdrop.tasks.Classification(dim=-1)),
        (PIXELS, torch.randn(2, 1, 5, 4), "classification"),
        (dense(1), torch.randn(2, 4), "binary"),
        (dense(4), torch.randn(2, 4), "multilabel"),
        (dense(2), torch.randn(2, 4), "regression"),
        (dense(6), torch.randn(2, 4), "gaussian"),
        (dense(3).double(), torch.randn(2, 4).double(), "classification"),
    ],
    ids=["classes", "tokens", "pixels", "binary", "multilabel", "regression", "gaussian", "double"],
)
def test_fields_are_known_before_a_prediction_is_made(tmp_path, model, example, task):
    path = tmp_path / "m" / "1"
    mcdrop.MCDropout(model, example_inputs=(example,), task=task).save(path, name="m")
    loaded = mcdrop.load(path)
    fields = loaded.predict(torch.cat([example, example[:1]]), samples=4, seed=0).fields()
    described = field_specs(loaded.manifest)
    assert [field.name for field in described] == list(fields)
    for field in described:
        got = fields[field.name]
        served = getattr(torch, field.dtype)
        assert torch.promote_types(got.dtype, served) == served, field
        assert [3 if size is None else size for size in field.shape] == list(got.shape), field
        assert field.meaning


@pytest.mark.parametrize("task", ["classification", "regression", "gaussian"])
def test_the_meaning_says_what_is_null_for_a_single_sample(tmp_path, task):
    example = torch.randn(2, 4)
    path = tmp_path / "m" / "1"
    mcdrop.MCDropout(dense(2), example_inputs=(example,), task=task).save(path, name="m")
    loaded = mcdrop.load(path)
    fields = loaded.predict(example, samples=1, seed=0).fields()
    for field in field_specs(loaded.manifest):
        undefined = not torch.isfinite(fields[field.name]).all()
        assert undefined == ("null for a single sample" in field.meaning), field.name
