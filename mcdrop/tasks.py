"""What a model's output means: its link, its class axis, its noise.

A task turns the model's raw output (the *output entry*) into what is averaged over samples. Values
are never sniffed: whether an output holds logits or probabilities is said, not guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mcdrop.errors import InputError


class Task(BaseModel):
    """Base of all tasks.

    Attributes:
        entry: name of the model output that carries the prediction (`"logits"`, `"1"`); the first
            tensor by default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    entry: str | None = None


class Classification(Task):
    """One of C classes, with a softmax over the class axis.

    Attributes:
        dim: class axis of the output, counted with the batch axis in it: 1 for `[B, C]` and for
            segmentation `[B, C, H, W]`, -1 or 2 for token classification `[B, T, C]`.
        output: whether the model returns `"logits"`, `"log_probs"` or `"probs"`.
    """

    kind: Literal["classification"] = "classification"
    dim: int = 1
    output: Literal["logits", "log_probs", "probs"] = "logits"


class Binary(Task):
    """One yes/no answer per row (or per element): a sigmoid. `mean` is the probability of yes."""

    kind: Literal["binary"] = "binary"
    output: Literal["logits", "probs"] = "logits"


class Multilabel(Task):
    """Several independent yes/no answers: a sigmoid for each, uncertainties for each."""

    kind: Literal["multilabel"] = "multilabel"
    output: Literal["logits", "probs"] = "logits"


class Regression(Task):
    """A number or several, with a known noise variance (0: the spread over samples alone).

    Attributes:
        noise_variance: the aleatoric variance, in squared units of the output; `1 / tau` of Gal &
            Ghahramani (2016), eq. 7.
    """

    kind: Literal["regression"] = "regression"
    noise_variance: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)


class Gaussian(Task):
    """Heteroscedastic regression: the model returns a mean and a log-variance.

    With `log_variance` unset, the halves of the output entry's last axis are mean and log-variance.
    With it set, `entry` names the mean and `log_variance` the output that holds the log-variance.
    """

    kind: Literal["gaussian"] = "gaussian"
    log_variance: str | None = None


AnyTask: TypeAlias = Annotated[
    Classification | Binary | Multilabel | Regression | Gaussian, Field(discriminator="kind")
]

_ADAPTER: TypeAdapter[AnyTask] = TypeAdapter(AnyTask)
KINDS = ("classification", "binary", "multilabel", "regression", "gaussian")


def resolve(task: str | Task) -> AnyTask:
    """Turn a task's name into a task with defaults; tasks pass through.

    Raises:
        InputError: the name is not one of `KINDS`.

    Example:
        >>> resolve("binary").kind
        'binary'
    """
    if isinstance(task, Classification | Binary | Multilabel | Regression | Gaussian):
        return task
    try:
        return _ADAPTER.validate_python({"kind": task})
    except ValidationError:
        expected = ", ".join(repr(kind) for kind in KINDS)
        raise InputError(
            f"task must be one of {expected}, or an object of mcdrop.tasks; got {task!r}"
        ) from None


def entries(task: AnyTask, outputs: Sequence[str]) -> tuple[str, ...]:
    """Names of the model outputs that a task reads, out of those there are.

    Raises:
        InputError: the task names an output that the model does not have.
    """
    entry = outputs[0] if task.entry is None else task.entry
    names: tuple[str, ...] = (entry,)
    if isinstance(task, Gaussian) and task.log_variance is not None:
        names = (entry, task.log_variance)
    for name in names:
        if name not in outputs:
            known = ", ".join(map(repr, outputs))
            raise InputError(f"the model has no output {name!r}; it has {known}")
    return names


def check_outputs(task: AnyTask, shapes: Sequence[tuple[int | None, ...]]) -> None:
    """Check the shapes of the outputs that a task reads, batch axis first.

    Raises:
        InputError: the class axis is not there, or mean and log-variance cannot be told apart.
    """
    shape = list(shapes[0])
    if isinstance(task, Classification):
        if not -len(shape) < task.dim < len(shape) or task.dim == 0:
            raise InputError(
                f"the task's class axis is {task.dim}; the output {_axes(shape)} has axes 1 to "
                f"{len(shape) - 1} behind the batch"
            )
    elif isinstance(task, Gaussian) and task.log_variance is not None:
        if shape != list(shapes[1]):
            raise InputError(
                f"mean and log-variance must have one shape; got {_axes(shape)} and "
                f"{_axes(list(shapes[1]))}"
            )
    elif isinstance(task, Gaussian) and (len(shape) < 2 or (shape[-1] or 0) % 2):
        raise InputError(
            "a gaussian task with one output takes mean and log-variance as the halves of its last "
            f"axis; the output is {_axes(shape)}. Name the second output with "
            "tasks.Gaussian(entry=…, log_variance=…)"
        )


def _axes(shape: Sequence[int | None]) -> str:
    sizes = ["B", *("*" if size is None else str(size) for size in shape[1:])]
    return f"[{', '.join(sizes)}]"
