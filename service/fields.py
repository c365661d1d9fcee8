"""What a model answers with: the fields of its predictions, known before any prediction is made."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from mcdrop.prediction import ClassificationPrediction, RegressionPrediction
from mcdrop.program.manifest import DType, Manifest
from mcdrop.tasks import Classification, Gaussian, Regression

Shape = tuple[int | None, ...]

# a variance over samples needs two; any field is null where its value overflows its dtype
_ALONE = "null for a single sample"
_SHARED = {
    "standard_error": f"Monte Carlo standard error of the mean; {_ALONE}",
    "samples": "samples used for each row",
}
_CLASSIFICATION = _SHARED | {
    "mean": "probabilities: their mean over samples",
    "variance": f"variance of the probabilities over samples; {_ALONE}",
    "entropy": "total uncertainty in nats: entropy of the mean probabilities",
    "expected_entropy": "aleatoric uncertainty in nats: mean entropy of the samples",
    "mutual_information": "epistemic uncertainty in nats: entropy minus expected entropy",
    "variation_ratio": "share of samples that voted for another class than most did",
}
_REGRESSION = _SHARED | {
    "mean": "the predicted value: its mean over samples",
    "variance": f"predictive variance: epistemic + aleatoric; {_ALONE}",
    "epistemic": f"variance over samples of the predicted mean; {_ALONE}",
    "aleatoric": "mean of the predicted noise variance",
}


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """A field of a prediction; `None` in `shape` is a free axis, the first of them the batch."""

    name: str
    dtype: DType
    shape: Shape
    meaning: str


def field_specs(manifest: Manifest) -> tuple[FieldSpec, ...]:
    """Describe the fields that a model's predictions have, in their order.

    Example:
        >>> from mcdrop.program.manifest import Files, TensorSpec
        >>> from mcdrop.tasks import Classification
        >>> x = TensorSpec(name="x", dtype="float32", shape=(None, 8))
        >>> logits = TensorSpec(name="logits", dtype="float32", shape=(None, 3))
        >>> manifest = Manifest(name="m", task=Classification(), inputs=(x,), outputs=(logits,),
        ...                     files=Files(graph="0" * 64, weights="0" * 64))
        >>> [(field.name, field.shape) for field in field_specs(manifest)][:2]
        [('mean', (None, 3)), ('variance', (None, 3))]
    """
    regression = isinstance(manifest.task, Regression | Gaussian)
    kind = RegressionPrediction if regression else ClassificationPrediction
    meaning = _REGRESSION if regression else _CLASSIFICATION
    mean = _mean_shape(manifest)
    shapes = dict.fromkeys(("mean", "variance", "standard_error"), mean) | {"samples": (None,)}
    real: DType = "float64" if manifest.entry().dtype == "float64" else "float32"
    return tuple(
        FieldSpec(
            name=field.name,
            dtype="int64" if field.name == "samples" else real,
            shape=shapes.get(field.name) or _score_shape(manifest, mean),
            meaning=meaning[field.name],
        )
        for field in dataclasses.fields(kind)
    )


def _mean_shape(manifest: Manifest) -> Shape:
    shape = manifest.entry().shape
    if isinstance(manifest.task, Gaussian) and manifest.task.log_variance is None:
        last = shape[-1]
        return (*shape[:-1], None if last is None else last // 2)
    return shape


def _score_shape(manifest: Manifest, mean: Shape) -> Shape:
    """Without the class axis, where there is one: entropies are per prediction, not per class."""
    if not isinstance(manifest.task, Classification):
        return mean
    axis = manifest.task.dim % len(mean)
    return (*mean[:axis], *mean[axis + 1 :])
