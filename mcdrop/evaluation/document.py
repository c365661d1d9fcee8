"""`metrics.json`: everything that an evaluation found, as data."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

Number = Annotated[FiniteFloat | None, Field(description="Null where there is no such figure.")]
Better = Literal["lower", "higher", "nominal"]
Topic = Literal["scores", "calibration", "uncertainty", "selective", "sets", "detection"]


class Part(BaseModel):
    """Base: frozen, and nothing unknown gets in."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Estimate(Part):
    """A number with its 95% confidence interval: Wilson's of a share of cases, else a bootstrap's.

    Attributes:
        value: over all cases.
        low: lower end of the interval; null where there are too few cases to tell.
        high: upper end.
    """

    value: Number
    low: Number = None
    high: Number = None


class Figure(Estimate):
    """An `Estimate`, and what it is.

    Attributes:
        name: as `mcdrop.metrics` has it.
        title: for people.
        topic: where it belongs.
        meaning: a sentence.
        better: which way; `"nominal"`: as close as can be to `nominal`.
        nominal: what it is meant to be, such as the level of an interval.
    """

    name: str
    title: str
    topic: Topic
    meaning: str
    better: Better | None
    nominal: Number = None


class Model(Part):
    """What was evaluated.

    Attributes:
        calibration: the calibrators in it, in words; empty for none.
    """

    name: str
    version: int
    task: str
    classes: tuple[str, ...] | None = None
    calibration: str = ""


class Data(Part):
    """What it was evaluated on.

    Attributes:
        source: name of the file, or what else the rows are.
        rows: rows used.
        cases: labelled predictions in them: rows, or pixels, tokens or labels of rows.
        bad_rows: rows left out.
        bad: the first of them, by line or number, each with the reason.
    """

    source: str
    rows: int
    cases: int
    bad_rows: int = 0
    bad: tuple[str, ...] = ()


class Run(Part):
    """How.

    Attributes:
        samples: Monte Carlo samples of each row.
        seconds: that it took.
        mcdrop: version.
        torch: version.
        created: date and time, ISO 8601.
        replicates: of the bootstrap.
        ranked_replicates: of the bootstrap of figures that put cases in order.
        ranked_rows: of a side (right and wrong, or this data and other), up to which these take
            all.
    """

    samples: int
    seed: int
    seconds: float
    mcdrop: str
    torch: str
    created: str
    replicates: int
    ranked_replicates: int
    ranked_rows: int


class Bin(Part):
    """Cases with confidences above `low`, up to `high`.

    Attributes:
        confidence: their mean confidence.
        accuracy: share of them that was right.
        accuracy_low: lower end of its 95% interval (Wilson 1927).
        accuracy_high: upper end.
    """

    low: float
    high: float
    count: int
    confidence: Number
    accuracy: Number
    accuracy_low: Number
    accuracy_high: Number


class Line(Part):
    """Points of a curve."""

    name: str
    x: tuple[FiniteFloat, ...]
    y: tuple[FiniteFloat, ...]


class Histogram(Part):
    """Shares of cases between edges, for one or more groups of cases.

    Attributes:
        edges: one more than there are bars.
        shares: by the name of the group, each adding up to 1.
        counts: cases in each group.
    """

    edges: tuple[FiniteFloat, ...]
    shares: dict[str, tuple[FiniteFloat, ...]]
    counts: dict[str, int]


class Convergence(Part):
    """What more samples bring, on some of the rows.

    Attributes:
        rows: how many.
        samples: how many were taken.
        standard_error: root mean square Monte Carlo standard error of the means.
        score: negative log-likelihood after so many samples.
        score_error: half of the 95% interval of its difference from the last of them.
    """

    rows: int
    samples: tuple[int, ...]
    standard_error: tuple[Number, ...]
    score: tuple[Number, ...]
    score_error: tuple[Number, ...] = ()


class Slice(Part):
    """A class, an output or a group of rows: some figures of its cases alone, by name."""

    name: str
    cases: int
    figures: dict[str, Estimate]


class Detection(Part):
    """How well uncertainties tell the data from other data.

    Attributes:
        source: of the other data.
        rows: of it.
        figures: AUROC, average precision and FPR at 95% TPR of each uncertainty.
        uncertainty: distribution of the first of them, for both.
    """

    source: str
    rows: int
    figures: tuple[Figure, ...]
    uncertainty: Histogram


FORMAT: Final = 2  # of an evaluation; another one is of another mcdrop


class Evaluation(Part):
    """An evaluation; `mcdrop evaluate` writes it as `metrics.json`.

    Attributes:
        reliability: of confidences, in 15 bins of equal width; classes only.
        risk_coverage: risk of the least uncertain share of cases, a line for each uncertainty;
            risk is the share of errors, or the root mean squared error.
        uncertainty: entropy of right and wrong answers; classes only.
        error: root mean squared error (y) of cases in ten parts of rising predicted standard
            deviation (x); numbers only. For classes: share of errors by entropy.
        pit: where targets lie in their predicted distributions; numbers only.
        coverage: share of targets (y) in central intervals of a level (x); numbers only.
        convergence: over samples.
        classes: a slice for each class.
        outputs: a slice for each number that is predicted, if there are several.
        groups: a slice for each group that `--group` names.
        detection: against other data, if there was any.
        notes: what was left out, and why.
    """

    format: Literal[2] = FORMAT
    model: Model
    data: Data
    run: Run
    figures: tuple[Figure, ...]
    reliability: tuple[Bin, ...] | None = None
    risk_coverage: tuple[Line, ...] = ()
    uncertainty: Histogram | None = None
    error: Line | None = None
    pit: Histogram | None = None
    coverage: tuple[Line, ...] = ()
    convergence: Convergence | None = None
    classes: tuple[Slice, ...] = ()
    outputs: tuple[Slice, ...] = ()
    groups: tuple[Slice, ...] = ()
    detection: Detection | None = None
    notes: tuple[str, ...] = ()

    def figure(self, name: str) -> Figure:
        """A figure by its name.

        Raises:
            KeyError: there is none of this name.
        """
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise KeyError(name)
