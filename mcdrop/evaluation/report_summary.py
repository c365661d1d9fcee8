"""What an evaluation says in a few sentences, no more than its numbers bear."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from mcdrop.evaluation.charts.scale import counted
from mcdrop.evaluation.document import Detection, Evaluation, Figure, Line
from mcdrop.evaluation.report_numbers import interval, is_share, of_figure, points

Tone = Literal["good", "warn", "open"]

_SLIGHT = 0.01  # of a gap in shares: below, it is called slight
_FEWEST = 30  # rows that a verdict takes
_KEPT = 0.8  # coverage at which the use of the uncertainty is shown


@dataclass(frozen=True, slots=True)
class Summary:
    """What is said first.

    Attributes:
        verdict: a few words.
        tone: whether they are good news, bad, or nothing could be decided.
        sentences: what they rest on.
    """

    verdict: str
    tone: Tone
    sentences: tuple[str, ...]


def summarise(evaluation: Evaluation) -> Summary:
    """The sentences at the top of the report."""
    found = {figure.name: figure for figure in evaluation.figures}
    judge = _classes if "accuracy" in found else _numbers
    verdict, tone, sentences = judge(evaluation, found)
    more = [*_selection(evaluation, found), *_others(evaluation.detection), *_bad(evaluation)]
    return Summary(verdict, tone, (*sentences, *more))


def judged(figure: Figure) -> str:
    """How a figure with a nominal value compares with it; empty without one."""
    if figure.nominal is None or figure.value is None:
        return ""
    if figure.low is None or figure.high is None:
        return "no interval"
    if figure.low <= figure.nominal <= figure.high:
        return "within chance"
    return "below" if figure.value < figure.nominal else "above"


GAP = "confidence_gap"
_TOO_FEW = "Too few cases to tell"
Judgement = tuple[str, Tone, list[str]]
Figures = dict[str, Figure]


def _classes(evaluation: Evaluation, found: Figures) -> Judgement:
    right, sure, gap = (found.get(name) for name in ("accuracy", "mean_confidence", GAP))
    if right is None or right.value is None:
        return "No figures", "open", []
    first = f"Right in {_with_interval(right, ' of cases')}."
    if sure is None or sure.value is None or gap is None or gap.value is None:
        return f"Right in {_value(right)} of cases", "open", [first]
    says = f"It says {_value(sure)} on average"
    if _too_few(evaluation, gap):
        cases = counted(evaluation.data.cases, "case")
        return _TOO_FEW, "open", [first, f"{says}; {cases} cannot tell whether that is too much."]
    assert gap.low is not None
    assert gap.high is not None
    if gap.low <= 0.0 <= gap.high:
        verdict, tone, second = _sure_on_average(evaluation, found, gap.high - gap.low)
        return verdict, tone, [first, f"{says}: {second}"]
    slight = "slightly " if abs(gap.value) < _SLIGHT else ""
    words = f"{slight}too sure" if gap.value > 0.0 else f"{slight}not sure enough"
    if slight and gap.value < 0.0:
        words = "not quite sure enough"
    return _capital(words), "warn", [first, f"{says}: {words} by {points(gap.value)}."]


def _sure_on_average(evaluation: Evaluation, found: Figures, wide: float) -> tuple[str, Tone, str]:
    """Confidence is as high as accuracy: is it so at each confidence, and how well is it known?"""
    error = found.get("debiased_calibration_error")
    if error is not None and (error.low or 0.0) > 0.0 and (error.value or 0.0) >= _SLIGHT:
        second = f"right on average, but by confidence off by {points(error.value or 0.0)}."
        return "As sure as it should be on average, but not throughout", "warn", second
    cases = f"{counted(evaluation.data.cases, 'case')} can tell"
    second = f"as sure as it is right, as far as {cases} (to about {points(wide / 2.0)})."
    if wide > 0.1:
        return "No gap found, but too few cases to be sure", "open", second
    return "As sure as it should be", "good", second


def _numbers(evaluation: Evaluation, found: Figures) -> Judgement:
    sentences = []
    error = found.get("root_mean_squared_error")
    if error is not None and error.value is not None:
        bounds = "" if error.low is None else f" ({interval(error)})"
        units = "in the target's units"
        if evaluation.outputs:
            units = f"over {counted(len(evaluation.outputs), 'output')}, in units of each"
        sentences.append(f"Off by {_value(error)}{bounds}, root mean square, {units}.")
    held = {each.nominal: each for each in evaluation.figures if _covers(each)}
    main = held.get(0.9) or next(iter(held.values()), None)
    if main is None or main.nominal is None:
        return "No intervals to judge", "open", sentences
    share = f"Its {100 * main.nominal:g}% intervals hold {_with_interval(main, ' of targets')}"
    how = judged(main)
    if main.value is None or _too_few(evaluation, main):
        return _TOO_FEW, "open", [*sentences, f"{share}."]
    gap = main.value - main.nominal
    if how == "within chance":
        cases = counted(evaluation.data.cases, "case")
        sentences.append(f"{share}: as asked, as far as {cases} can tell.")
        return _other_levels(main, list(held.values()), sentences)
    words = "too wide" if gap > 0.0 else "too narrow"
    sentences.append(f"{share}: {words}, by {points(gap)}.")
    return (f"Intervals {words}", "warn", sentences)


def _other_levels(main: Figure, held: Sequence[Figure], sentences: list[str]) -> Judgement:
    assert main.low is not None
    assert main.high is not None
    off = [each for each in held if judged(each) in {"below", "above"}]
    if off:
        parts = ", ".join(
            f"{100 * (each.nominal or 0):g}% intervals hold {_value(each)}" for each in off
        )
        return "Intervals mostly as asked", "warn", [*sentences, f"Others are off: {parts}."]
    if main.high - main.low > 0.1:
        return "No gap found, but too few cases to be sure", "open", sentences
    return "Intervals hold what they promise", "good", sentences


def _too_few(evaluation: Evaluation, figure: Figure) -> bool:
    """Whether nothing can be said: no interval, or one of so few rows that it is not to be had."""
    return evaluation.data.rows < _FEWEST or figure.low is None or figure.high is None


def _covers(figure: Figure) -> bool:
    return figure.better == "nominal" and is_share(figure.name) and figure.value is not None


def _selection(evaluation: Evaluation, found: Figures) -> Iterator[str]:
    """What is won by leaving out the most uncertain cases."""
    if not evaluation.risk_coverage or not evaluation.risk_coverage[0].x:
        return
    if evaluation.outputs:  # in different units: whose error is large is whose unit is small
        return
    ranking = found.get("error_auroc_entropy")
    if ranking is not None and ranking.value is not None and ranking.low is None:
        yield "There are too few wrong answers to tell whether these are more uncertain."
        return
    if ranking is not None and (ranking.low is None or ranking.low <= 0.5):
        yield "That wrong answers are more uncertain than right ones could not be shown."
        return
    share, risk, whole = _kept(evaluation.risk_coverage[0])
    if whole <= 0.0 or len(evaluation.risk_coverage[0].x) < 5:
        return
    part = f"the least uncertain {100 * share:.0f}% of cases"
    main = found.get("accuracy") or found.get("root_mean_squared_error")
    if main is None:
        return
    write, verb = of_figure(main), "wrong in" if "accuracy" in found else "off by"
    if risk < whole and write(risk) != write(whole):
        yield f"In {part} it is {verb} {write(risk)} instead of {write(whole)}."
    else:
        yield f"Its uncertainty is no help: in {part} it is {verb} {write(risk)}, not less."


def _kept(line: Line) -> tuple[float, float, float]:
    """Coverage and risk of the point nearest to `_KEPT`, and the risk of all."""
    place = min(range(len(line.x)), key=lambda place: abs(line.x[place] - _KEPT))
    return line.x[place], line.y[place], line.y[-1]


def _others(detection: Detection | None) -> Iterator[str]:
    figures = (
        [] if detection is None else [each for each in detection.figures if "auroc" in each.name]
    )
    if detection is None or not figures or figures[0].value is None:
        return
    best = figures[0]
    if best.low is None:
        yield f"There are too few rows to tell whether it is less sure about {detection.source}."
    elif best.low <= 0.5:
        yield f"That it is less sure about {detection.source} could not be shown."
    else:
        yield (
            f"It is less sure about {detection.source} than about this data: AUROC {_value(best)}, "
            f"{interval(best)} (1 is perfect, 0.5 is none)."
        )


def _bad(evaluation: Evaluation) -> Iterator[str]:
    data = evaluation.data
    if data.bad_rows:
        rows, were = ("row", "was") if data.bad_rows == 1 else ("rows", "were")
        yield f"{data.bad_rows:,} bad {rows} {were} left out, {data.rows:,} used."


def _with_interval(figure: Figure, of: str) -> str:
    bounds = "" if figure.low is None else f" ({interval(figure)})"
    return f"{_value(figure)}{of}{bounds}"


def _value(figure: Figure) -> str:
    return of_figure(figure)(figure.value)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
