"""Messages of the native API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict

from mcdrop.evaluation import Evaluation
from mcdrop.program.manifest import Defaults, DType, SiteSpec, TensorSpec
from mcdrop.tasks import AnyTask
from service.fields import Shape
from service.registry import State

MAX_SEED = 2**63 - 1


def _check_lists(inputs: object) -> object:
    # says it once, where pydantic would say it for each side of the union
    given = inputs.values() if isinstance(inputs, dict) else [inputs]
    if not all(isinstance(value, list) for value in given):
        raise ValueError("send nested lists, or an object with nested lists by input name")
    return inputs


class PredictRequest(BaseModel):
    """Rows to predict, and how."""

    model_config = ConfigDict(extra="forbid")

    inputs: Annotated[
        list[Any] | dict[str, list[Any]],
        BeforeValidator(_check_lists),
        Field(
            description="Nested lists of numbers, the first axis counting rows, in the shape that "
            "`GET /v1/models/{model}` gives. Models with several inputs take an object of such "
            "lists by input name."
        ),
    ]
    samples: Annotated[
        int | None,
        Field(ge=1, description="Monte Carlo samples; the model's own default if absent."),
    ] = None
    seed: Annotated[
        int | None,
        Field(
            ge=0,
            le=MAX_SEED,
            description="The same seed gives the same answer; the model's own default if absent.",
        ),
    ] = None
    interval: Annotated[
        float | None,
        Field(
            gt=0,
            lt=1,
            description="Regression only: the fields `lower` and `upper`, an interval that holds "
            "the truth with this probability. Conformal where the model was calibrated so "
            "(`GET …/calibration` tells), else of the predictive distribution.",
        ),
    ] = None
    sets: Annotated[
        float | None,
        Field(
            gt=0,
            lt=1,
            description="Classes of a calibrated model only: the field `set`, the classes of a "
            "conformal set that holds the right one with this probability.",
        ),
    ] = None
    abstain_above: Annotated[
        float | None,
        Field(
            allow_inf_nan=False,
            description="The field `abstain`: whether the entropy in nats (regression: the "
            "predictive standard deviation) is above this. `abstention` in the answer says what "
            "share of held-out cases would be answered, and at what risk.",
        ),
    ] = None
    outputs: Annotated[
        list[str] | None,
        Field(description="Fields to answer with, these and no others; all of them if absent."),
    ] = None
    tolerance: Annotated[
        float | None,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="A row is done when the root mean square error that its mean is expected "
            "to have (the largest over its outputs; the standard error, and a little more where "
            "few blocks tell it) is no larger. Looked at after each 16 samples from 64 on, or from "
            "as many as drop every unit once (1 / p). `samples` is then the most that a row may "
            "use, if absent 1024 or the server's limit; the answer's `samples` says what it did.",
        ),
    ] = None
    deadline_ms: Annotated[
        float | None,
        Field(
            gt=0,
            le=86_400_000,
            description="When so many milliseconds have passed since the request was read, the "
            "answer is what the samples taken by then say; `samples` tells how many they are, the "
            "first ones of the seed, so that asking for as many gives the same answer. 503 if a "
            "row has none yet.",
        ),
    ] = None


# the demo model's answer to the first example in routes/predict.py
_ANSWER: JsonDict = {
    "id": "2e1dc35e4c434918bc2aac08a33440b9",
    "model": "diabetes",
    "version": 1,
    "samples": [64],
    "outputs": {
        "mean": [[209.85928]],
        "variance": [[3386.9297]],
        "standard_error": [[2.5383441]],
        "epistemic": [[412.36423]],
        "aleatoric": [[2974.5654]],
        "lower": [[114.13319]],
        "upper": [[305.5854]],
    },
    "timing": {"queue_ms": 0.065, "compute_ms": 6.854},
}


class Timing(BaseModel):
    """Where the time went, in milliseconds."""

    queue_ms: float = Field(description="Waiting for the device.")
    compute_ms: float = Field(description="On the device.")


class AbstentionNote(BaseModel):
    """What not answering above the threshold was worth on held-out cases."""

    uncertainty: Literal["entropy", "std"]
    abstain_above: float
    coverage: float | None = Field(
        description="Share of cases that are answered; null for a model that was not calibrated."
    )
    risk: float | None = Field(
        description="Of those: the share of errors, or the mean squared error. Null if unknown."
    )


class PredictResponse(BaseModel):
    """Predictions with their uncertainty, one entry per row in every field."""

    model_config = ConfigDict(json_schema_extra={"examples": [_ANSWER]})

    id: str = Field(description="Names this prediction.")
    model: str
    version: int
    samples: list[int] = Field(description="Samples used for each row.")
    outputs: dict[str, list[Any]] = Field(
        description="Nested lists by field. Null where a number is undefined (`variance`, "
        "`standard_error`, `epistemic`, `lower` and `upper` of a single sample) or overflows the "
        "field's dtype. `label` and `set` hold class names, if the model has them."
    )
    abstention: AbstentionNote | None = Field(
        default=None, description="There if `abstain_above` was sent."
    )
    timing: Timing


class EvaluateRequest(BaseModel):
    """Labelled rows."""

    model_config = ConfigDict(extra="forbid")

    inputs: Annotated[
        list[Any] | dict[str, list[Any]],
        BeforeValidator(_check_lists),
        Field(description="Rows, as for `predict`."),
    ]
    targets: Annotated[
        list[Any],
        Field(
            min_length=1,
            description="What turned out to be true, for each row: a class by number or name, 0 or "
            "1, or a number (up to 1e100); nested where a row has several predictions.",
        ),
    ]
    groups: Annotated[
        list[Annotated[str, Field(min_length=1)]] | None,
        Field(description="A name for each row, to have figures of each group."),
    ] = None
    samples: Annotated[
        int | None,
        Field(ge=1, description="Monte Carlo samples; the model's own default if absent."),
    ] = None
    seed: Annotated[
        int | None,
        Field(ge=0, le=MAX_SEED, description="Of the masks; the model's own default if absent."),
    ] = None


# of the demo model, without its long evaluation
_CALIBRATION: JsonDict = {
    "model": "diabetes",
    "version": 1,
    "calibrators": "DeviationScaling, conformal intervals (scaled)",
    "fitted_on": "the demo data's calibration part",
    "cases": 67,
    "evaluation": None,
}


class CalibrationResponse(BaseModel):
    """How well a model is calibrated, and by what."""

    model_config = ConfigDict(json_schema_extra={"examples": [_CALIBRATION]})

    model: str
    version: int
    calibrators: str = Field(description="What predictions pass, in words; empty for none.")
    fitted_on: str = Field(description="Held-out data that they were fitted on.")
    cases: int = Field(description="How many labelled predictions that was.")
    evaluation: Evaluation | None = Field(
        description="What was measured offline, of the calibrated model; null if nothing was."
    )


class VersionStatus(BaseModel):
    """A version and whether it can predict."""

    version: int
    state: State
    reason: str | None = Field(description="Why it is not ready.")


class ModelSummary(BaseModel):
    """A model, its versions, and the one that answers when none is named."""

    name: str
    version: int = Field(description="The version that answers when none is named.")
    state: State = Field(description="State of that version.")
    description: str
    task: str | None = Field(description="Kind of task; null until the model is loaded.")
    versions: list[VersionStatus] = Field(description="All versions, newest first.")


class ModelList(BaseModel):
    """Every model of the repository."""

    models: list[ModelSummary]


class Output(BaseModel):
    """A field of the model's answers."""

    name: str
    dtype: DType
    shape: Shape = Field(description="Null where an axis is free; the first one counts rows.")
    meaning: str


class Limits(BaseModel):
    """What one request may ask for."""

    max_rows: int
    max_samples: int
    max_body_bytes: int


class ModelDetail(BaseModel):
    """One version of a model: what it takes, answers and achieves; empty until it is loaded."""

    name: str
    version: int
    state: State
    reason: str | None = Field(description="Why it is unavailable.")
    versions: list[VersionStatus] = Field(description="All versions, newest first.")
    limits: Limits
    description: str = ""
    task: AnyTask | None = None
    classes: list[str] | None = Field(
        default=None, description="Class names, in the order of the class axis."
    )
    inputs: list[TensorSpec] = Field(
        default=[], description="Null in a shape: free; the first axis counts rows."
    )
    outputs: list[Output] = Field(default=[], description="Fields of a prediction.")
    sites: list[SiteSpec] = Field(
        default=[], description="Where randomness enters the model, and at what rate."
    )
    defaults: Defaults | None = None
    metrics: dict[str, float] = Field(default={}, description="Measured offline, on held-out data.")
    provenance: dict[str, str] = Field(
        default={}, description="How and with what the model was made."
    )


class Health(BaseModel):
    """Whether the server lives, or can predict."""

    status: Literal["live", "ready", "loading", "unavailable", "stopping"]


class Violation(BaseModel):
    """One thing wrong with a request."""

    pointer: str = Field(description="Where: a JSON pointer into the body.")
    detail: str


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = Field(description="What was expected, what came, and what to do.")
    errors: list[Violation] | None = None
