"""`report.html`: an evaluation as one page that needs nothing else."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from mcdrop.evaluation import charts
from mcdrop.evaluation.charts.scale import counted
from mcdrop.evaluation.document import Estimate, Evaluation, Figure, Slice, Topic
from mcdrop.evaluation.report_numbers import ends, interval, of_column, of_estimate, of_figure
from mcdrop.evaluation.report_summary import judged, summarise

_TOPICS: dict[Topic, str] = {
    "scores": "Scores",
    "calibration": "Calibration",
    "sets": "Prediction sets and intervals",
    "uncertainty": "Uncertainty",
    "selective": "Leaving out the uncertain",
    "detection": "Detection",
}
_TILES = (
    "accuracy",
    "root_mean_squared_error",
    "mean_confidence",
    "coverage_90",
    "expected_calibration_error",
    "mean_absolute_error",
    "negative_log_likelihood",
    "gaussian_negative_log_likelihood",
    "error_auroc_entropy",
)
_MOST_TILES = 4
_FEW = 20  # slices up to which their table is open
_ARROWS = {"lower": "↓ lower", "higher": "↑ higher"}


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, and how it is read."""

    title: str
    svg: Markup
    caption: str


@dataclass(frozen=True, slots=True)
class Row:
    """A figure, written."""

    title: str
    meaning: str
    value: str
    interval: str
    better: str
    judged: str


@dataclass(frozen=True, slots=True)
class Table:
    """Slices, written.

    Attributes:
        heads: of the columns behind name and number of cases.
        rows: name, cases, and each figure with its interval.
        few: whether they are read at a glance.
    """

    title: str
    unit: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...]
    few: bool


def render(evaluation: Evaluation) -> str:
    """The page: no script, nothing that is loaded, fit for screens light and dark and for paper.

    Example:
        >>> from mcdrop.evaluation.document import Data, Model, Run
        >>> page = render(Evaluation(
        ...     model=Model(name="digits", version=1, task="classification"),
        ...     data=Data(source="holdout.npz", rows=10, cases=10),
        ...     run=Run(samples=64, seed=0, seconds=1.0, mcdrop="0.1.0", torch="2.13.0",
        ...             created="2026-11-24T05:39:17+00:00", replicates=400,
        ...             ranked_replicates=100, ranked_rows=20_000),
        ...     figures=()))
        >>> "<title>digits, version 1: evaluation</title>" in page
        True
    """
    text = resources.files("mcdrop.evaluation").joinpath("report.html").read_text("utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["counted"] = counted
    detection = evaluation.detection
    return environment.from_string(text).render(
        document=evaluation,
        summary=summarise(evaluation),
        tiles=_tiles(evaluation),
        charts=list(_charts(evaluation)),
        topics=[
            (title, rows)
            for topic, title in _TOPICS.items()
            if (rows := [_row(each) for each in evaluation.figures if each.topic == topic])
        ],
        tables=[
            _table(title, unit, slices, evaluation.figures, apart=unit == "Output")
            for title, unit, slices in (
                ("Outputs", "Output", evaluation.outputs),
                ("Groups", "Group", evaluation.groups),
                ("Classes", "Class", evaluation.classes),
            )
            if slices
        ],
        convergence=_convergence(evaluation),
        detection=detection and [_row(each) for each in detection.figures],
        detection_chart=detection and _detection(evaluation),
        created=_date(evaluation.run.created),
        light=Markup(charts.LIGHT),  # noqa: S704  # our own constants
        dark=Markup(charts.DARK),  # noqa: S704
        chart_style=Markup(charts.STYLE),  # noqa: S704
    )


def _tiles(evaluation: Evaluation) -> list[Row]:
    found = {each.name: each for each in evaluation.figures}
    rows = [_row(found[name]) for name in _TILES if name in found]
    return rows[:_MOST_TILES]


def _row(figure: Figure) -> Row:
    write = of_figure(figure)
    better = _ARROWS.get(figure.better or "", "")
    if figure.better == "nominal" and figure.nominal is not None:
        better = f"= {write(figure.nominal)}"
    return Row(
        title=figure.title,
        meaning=figure.meaning,
        value=write(figure.value),
        interval=interval(figure),
        better=better,
        judged=judged(figure),
    )


def _table(
    title: str, unit: str, slices: Sequence[Slice], figures: Sequence[Figure], *, apart: bool
) -> Table:
    """Slices, written; `apart` where the rows of a column are in different units."""
    titles = {figure.name: figure.title for figure in figures}
    names = tuple(dict.fromkeys(name for each in slices for name in each.figures))
    columns: list[list[tuple[str, str]]] = []
    for name in names:
        found = [each.figures.get(name, Estimate(value=None)) for each in slices]
        alike = of_column(name, [each.value for each in found])
        writes = [of_estimate(name, each) if apart else alike for each in found]
        pairs = zip(found, writes, strict=True)
        columns.append([(write(each.value), ends(each, write)) for each, write in pairs])
    written = zip(*columns, strict=True) if columns else ((),) * len(slices)
    return Table(
        title=title,
        unit=unit,
        heads=tuple(titles.get(name, _capital(name.replace("_", " "))) for name in names),
        rows=tuple(
            (each.name, f"{each.cases:,}", tuple(cells))
            for each, cells in zip(slices, written, strict=True)
        ),
        few=len(slices) <= _FEW,
    )


def _charts(evaluation: Evaluation) -> Iterator[Chart]:
    numbers = evaluation.model.task in {"regression", "gaussian"}
    unit: charts.Risk = "number" if numbers else "share"
    if evaluation.reliability:
        yield _chart(
            "Is it as sure as it should be?",
            charts.reliability(evaluation.reliability),
            "Each point is a group of cases of similar confidence. On the diagonal, an answer "
            "given with 80% confidence is right 80% of the time. Points below it: too sure. "
            "Points above it: not sure enough. The bars say how many cases there are; where there "
            "are few, the gap is drawn fainter.",
        )
    if evaluation.coverage:
        yield _chart(
            "Do intervals hold what they promise?",
            charts.coverage(evaluation.coverage),
            "A 90% interval should hold 90% of the targets: then the line is the diagonal. A line "
            "below it: intervals are too narrow. Above it: wider than need be.",
        )
    if evaluation.pit:
        yield _chart(
            "Are the predicted distributions right?",
            charts.histogram(
                evaluation.pit, "place in the predicted distribution", flat=True, title="PIT"
            ),
            "Where the targets lie in their predicted distributions (PIT). Flat is ideal. A hump "
            "in the middle: distributions are too wide. High ends: too narrow. A slope: "
            "predictions lean to one side. Bars inside the band may differ by chance alone.",
        )
    if evaluation.risk_coverage:
        yield _chart(
            "What does leaving out the uncertain bring?",
            charts.risk_coverage(evaluation.risk_coverage, unit),
            "The error in the least uncertain share of the cases. The further a line stays below "
            "the dashed one, the better this uncertainty finds the errors. On it, it finds none.",
        )
    if evaluation.uncertainty:
        yield _chart(
            "Does it know when it is wrong?",
            charts.histogram(evaluation.uncertainty, "entropy, in nats", title="Entropy"),
            "How uncertain right and wrong answers are, and in brackets how many there are. The "
            "less the two overlap, the better. Ideally, right answers lie on the left and wrong "
            "ones on the right.",
        )
    if evaluation.error:
        ideal = (
            "On the diagonal, the predicted deviation is the error that is found. Above it: too "
            "sure. Below it: not sure enough."
            if numbers
            else "The line should rise: more uncertain cases should be wrong more often."
        )
        yield _chart(
            "Does the error grow with the uncertainty?",
            charts.error(evaluation.error, unit),
            f"Cases in parts of equal size, from the least uncertain to the most. {ideal}",
        )


def _convergence(evaluation: Evaluation) -> Chart | None:
    found = evaluation.convergence
    if found is None or not found.samples:
        return None
    return _chart(
        "Are there enough samples?",
        charts.convergence(found),
        f"Measured on {counted(found.rows, 'row')}. The standard error falls with the root of the "
        "number of samples: a quarter of it takes sixteen times as many. Where the lower "
        "line is flat, more samples no longer make predictions better: a step as small as the band "
        "around it may be chance.",
    )


def _detection(evaluation: Evaluation) -> Chart | None:
    assert evaluation.detection is not None
    return _chart(
        "Is it less sure about other data?",
        charts.histogram(evaluation.detection.uncertainty, "uncertainty", title="Detection"),
        "How uncertain rows of this data and of the other data are. The less the two overlap, the "
        "better. Ideally, the other data lies on the right.",
    )


def _chart(title: str, svg: str, caption: str) -> Chart:
    return Chart(title, Markup(svg), caption)  # noqa: S704  # charts escape what they are given


def _date(created: str) -> str:
    try:
        moment = dt.datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{moment:%Y-%m-%d %H:%M %Z}".strip()


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
