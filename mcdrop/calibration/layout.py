"""From predictions of any shape to labelled cases: one case a row, and back."""

from __future__ import annotations

from torch import Tensor

from mcdrop.errors import InputError
from mcdrop.tasks import AnyTask, Classification


def flat_probs(task: AnyTask, probs: Tensor) -> Tensor:
    """Probabilities as cases: `[M, C]` of classes, `[M]` of yes.

    Args:
        task: says where the class axis is.
        probs: `[B, ...]`.
    """
    if isinstance(task, Classification):
        return probs.movedim(task.dim, -1).flatten(0, -2)
    return probs.flatten()


def shaped_probs(task: AnyTask, flat: Tensor, like: Tensor) -> Tensor:
    """Undo `flat_probs`: cases in the shape of `like`."""
    if isinstance(task, Classification):
        return flat.reshape(like.movedim(task.dim, -1).shape).movedim(-1, task.dim)
    return flat.reshape(like.shape)


def flat_labels(task: AnyTask, probs: Tensor, labels: Tensor) -> Tensor:
    """Labels as cases, int64 `[M]`.

    Args:
        task: of classes, binary or multilabel.
        probs: the predictions that they belong to, `[B, ...]`.
        labels: integers or booleans, `[B, ...]` without the class axis. One label a row may have an
            axis of size 1 or not, as the predictions do or do not.

    Raises:
        InputError: the shapes do not fit, or labels are no integers.
    """
    if labels.is_floating_point() or labels.is_complex():
        name = str(labels.dtype).removeprefix("torch.")
        raise InputError(f"labels must be integers or booleans; got {name}")
    wanted = list(probs.shape)
    if isinstance(task, Classification):
        del wanted[task.dim % probs.ndim]
    return _fitted("labels", labels, wanted).long().flatten()


def shaped_targets(mean: Tensor, targets: Tensor) -> Tensor:
    """Targets of numbers in the shape of their predictions.

    Raises:
        InputError: the shapes do not fit.
    """
    return _fitted("targets", targets, list(mean.shape)).to(mean.device)


def _fitted(what: str, given: Tensor, wanted: list[int]) -> Tensor:
    # [B] and [B, 1] are one column either way; nothing else is reshaped
    if [size for size in given.shape[1:] if size != 1] == [s for s in wanted[1:] if s != 1] and (
        given.ndim > 0 and len(given) == wanted[0]
    ):
        return given.reshape(wanted)
    raise InputError(f"expected {what} of shape {wanted}; got {list(given.shape)}")
