"""Charts: valid, within their frame, no words on top of each other, whatever the data."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import pytest

from mcdrop.evaluation import charts
from mcdrop.evaluation.charts import scale
from mcdrop.evaluation.document import Bin, Convergence, Histogram, Line
from tests.evaluation import documents

SVG = "{http://www.w3.org/2000/svg}"
HUGE, TINY = 3.7e12, 2.3e-11
LONG = "an uncertainty with a very long name that nobody would ever want to read to the end"
EVIL = "<script>alert('1')</script> & \"co\" \x07"


def line(name: str, points: int, size: float = 1.0) -> Line:
    places = [(place + 1) / points for place in range(points)]
    return Line(name=name, x=tuple(places), y=tuple(size * x * x for x in places))


def one_bin(place: int, of: int, value: float) -> tuple[Bin, ...]:
    found = []
    for n in range(of):
        known = value if n == place else None
        found.append(
            Bin(
                low=n / of,
                high=(n + 1) / of,
                count=1000 if n == place else 0,
                confidence=known,
                accuracy=known,
                accuracy_low=known,
                accuracy_high=known,
            )
        )
    return tuple(found)


def histogram(bars: int, groups: int = 1, top: float = 1.0, cases: int = 1000) -> Histogram:
    return Histogram(
        edges=tuple(top * place / bars for place in range(bars + 1)),
        shares={f"group {n}": (1.0 / bars,) * bars for n in range(groups)},
        counts={f"group {n}": cases for n in range(groups)},
    )


def converged(samples: tuple[int, ...], size: float | None) -> Convergence:
    values = tuple(size if size is None else size / count for count in samples)
    return Convergence(rows=8, samples=samples, standard_error=values, score=values)


CLASSES, NUMBERS = documents.classes(), documents.numbers()
DATA: dict[str, Callable[[bool], str]] = {
    name: (lambda alone, draw=draw, data=data: draw(*data, standalone=alone))
    for name, draw, data in [
        ("reliability", charts.reliability, (CLASSES.reliability,)),
        ("reliability, no bins", charts.reliability, ((),)),
        ("reliability, one bin of one", charts.reliability, (one_bin(0, 1, 0.5),)),
        ("reliability, all right", charts.reliability, (one_bin(14, 15, 1.0),)),
        ("reliability, all wrong", charts.reliability, (one_bin(0, 15, 0.0),)),
        ("reliability, all empty", charts.reliability, (one_bin(-1, 15, 0.0),)),
        ("risk", charts.risk_coverage, (CLASSES.risk_coverage, "share")),
        ("risk of numbers", charts.risk_coverage, (NUMBERS.risk_coverage, "number")),
        ("risk, none", charts.risk_coverage, ((), "share")),
        ("risk, 1 point", charts.risk_coverage, ((line("a", 1),), "share")),
        ("risk, 1000 points", charts.risk_coverage, ((line("a", 1000),), "share")),
        ("risk, no errors", charts.risk_coverage, ((line("a", 9, 0.0),), "share")),
        ("risk, tiny", charts.risk_coverage, ((line("a", 9, TINY),), "share")),
        ("risk, huge", charts.risk_coverage, ((line("a", 9, HUGE),), "number")),
        ("risk, extreme", charts.risk_coverage, ((line("a", 9, 1e300),), "number")),
        ("risk, vanishing", charts.risk_coverage, ((line("a", 9, 1e-300),), "number")),
        (
            "risk, long names",
            charts.risk_coverage,
            ((line(LONG, 9), line("漢字" * 40, 9)), "share"),
        ),
        ("risk, 40 lines", charts.risk_coverage, ([line(f"u{n}", 9) for n in range(40)], "share")),
        ("risk, evil", charts.risk_coverage, ((line(EVIL, 9),), "share")),
        ("entropy", charts.histogram, (CLASSES.uncertainty, "entropy, in nats")),
        ("detection", charts.histogram, (documents.detection().uncertainty, "entropy, in nats")),
        ("one bar", charts.histogram, (histogram(1), "entropy, in nats")),
        ("1000 bars", charts.histogram, (histogram(1000, 2), "entropy, in nats")),
        ("no cases", charts.histogram, (histogram(30, 2, cases=0), "entropy, in nats")),
        ("huge edges", charts.histogram, (histogram(30, 2, HUGE), "entropy, in nats")),
        ("tiny edges", charts.histogram, (histogram(30, 2, TINY), "entropy, in nats")),
        ("error", charts.error, (CLASSES.error, "share")),
        ("error of numbers", charts.error, (NUMBERS.error, "number")),
        ("error, 1 point", charts.error, (line("std", 1), "number")),
        ("error, empty", charts.error, (Line(name="std", x=(), y=()), "number")),
        ("error, far too sure", charts.error, (line("std", 10, HUGE), "number")),
        ("error, not nearly sure", charts.error, (line("std", 10, TINY), "number")),
        ("error, same", charts.error, (Line(name="std", x=(2.0,) * 3, y=(2.0,) * 3), "number")),
        ("coverage", charts.coverage, (NUMBERS.coverage,)),
        ("coverage, 1 point", charts.coverage, ((line("a", 1),),)),
        ("coverage, none", charts.coverage, ((),)),
        ("convergence", charts.convergence, (CLASSES.convergence,)),
        ("convergence, 1 point", charts.convergence, (converged((64,), 0.2),)),
        ("convergence, no numbers", charts.convergence, (converged((16, 32), None),)),
        ("convergence, nothing", charts.convergence, (converged((), None),)),
        ("convergence, 1000", charts.convergence, (converged(tuple(range(1, 1001)), 0.2),)),
        ("convergence, close", charts.convergence, (converged((10**6, 10**6 + 1), 1e9),)),
    ]
}
DATA["pit"] = lambda alone: charts.histogram(NUMBERS.pit, "place", flat=True, standalone=alone)
DATA["pit, 2 groups"] = lambda alone: charts.histogram(
    histogram(10, 2), "place", flat=True, standalone=alone
)


@dataclass(frozen=True)
class Words:
    """Text and the rectangle that it takes."""

    text: str
    left: float
    top: float
    right: float
    bottom: float

    def over(self, other: Words) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


def words(root: ET.Element) -> list[Words]:
    found = []
    for each in root.iter(f"{SVG}text"):
        shown = (each.text or "") + "".join(child.tail or "" for child in each)
        wide, x, y = scale.width(shown), float(each.get("x", "0")), float(each.get("y", "0"))
        left = x - {"start": 0.0, "middle": wide / 2, "end": wide}[each.get("text-anchor", "start")]
        found.append(Words(shown, left, y - 0.8 * scale.SIZE, left + wide, y + 0.2 * scale.SIZE))
    return found


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("standalone", [False, True])
def test_valid_within_the_frame_and_nothing_over_anything(name: str, standalone: bool) -> None:
    text = DATA[name](standalone)
    root = ET.fromstring(text)
    _, _, width, height = map(float, root.get("viewBox", "").split())
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert root.get("aria-label") == root.findtext(f"{SVG}title")
    assert not re.search(r"nan|inf\b|None|http(?!://www\.w3\.org/2000/svg)", text)
    assert (root.find(f"{SVG}style") is not None) == standalone
    all_words = words(root)
    for each in all_words:
        assert each.left >= 0.0, each
        assert each.right <= width, each
        assert each.top >= 0.0, each
        assert each.bottom <= height, each
    for one, other in itertools.combinations(all_words, 2):
        assert not one.over(other), (one, other)
    for each in root.iter(f"{SVG}path"):
        numbers = list(map(float, re.findall(r"-?[\d.]+(?:e[+-]?\d+)?", each.get("d", ""))))
        assert all(-0.5 <= x <= width + 0.5 for x in numbers[::2])
        assert all(-0.5 <= y <= height + 0.5 for y in numbers[1::2])


def test_alone_it_is_opaque_and_follows_the_screen() -> None:
    alone = charts.coverage(NUMBERS.coverage, standalone=True)
    assert "@media screen and (prefers-color-scheme: dark)" in alone
    assert '<rect class="paper" width="100%" height="100%"/>' in alone


def test_names_are_escaped_and_long_ones_shortened_with_the_whole_at_hand() -> None:
    text = charts.risk_coverage((line(EVIL, 5), line(LONG, 5)), "share")
    root = ET.fromstring(text)
    assert "<script" not in text
    assert any(each.text.startswith("<script>alert") for each in words(root))
    hovers = [each.findtext(f"{SVG}title") for each in root.iter(f"{SVG}text")]
    assert LONG in hovers


def test_points_are_where_the_numbers_say() -> None:
    """Dots of the reliability diagram, put back into numbers through the labelled ticks."""
    root = ET.fromstring(charts.reliability(CLASSES.reliability))
    labels = {(each.text, each.get("text-anchor")): each for each in root.iter(f"{SVG}text")}
    zero, one = (float(labels[share, "middle"].get("x")) for share in ("0%", "100%"))
    ticks = [
        float(each.get("y"))
        for each in root.iter(f"{SVG}text")
        if each.text in {"0%", "100%"} and each.get("text-anchor") == "end"
    ]
    top, bottom = min(ticks), sorted(ticks)[1]
    dots = [
        (
            (float(each.get("cx")) - zero) / (one - zero),
            (bottom - scale.SIZE * 0.36 - float(each.get("cy"))) / (bottom - top),
        )
        for each in root.iter(f"{SVG}circle")
    ][1:]  # the first is the legend's
    wanted = [(each.confidence, each.accuracy) for each in CLASSES.reliability if each.count]
    assert len(dots) == len(wanted)
    for found, right in zip(dots, wanted, strict=True):
        assert found == pytest.approx(right, abs=0.004)


def test_lines_are_told_apart_without_colours() -> None:
    kinds = re.findall(r"line s(\d) d(\d)", charts.risk_coverage(CLASSES.risk_coverage, "share"))
    assert len(set(kinds)) == 3
    dashes = re.findall(r"\.d\d\{stroke-dasharray:([^}]*)\}", charts.STYLE)
    assert len(dashes) == len(set(dashes)) == 6


@pytest.mark.parametrize(
    ("values", "options", "labels", "title"),
    [
        ([0.0, 1.0], {}, ("0.0", "0.2", "0.4", "0.6", "0.8", "1.0"), "x"),
        ([3.0], {}, ("0.0", "0.5", "1.0", "1.5", "2.0", "2.5", "3.0"), "x"),
        ([-2.0, 1.0], {}, ("~2.0", "~1.5", "~1.0", "~0.5", "0.0", "0.5", "1.0"), "x"),
        ([0.0, 3e-5], {}, ("0", "5", "10", "15", "20", "25", "30"), "x, ×10⁻⁶"),
        ([0.0, 4e6], {}, ("0", "1", "2", "3", "4"), "x, ×10⁶"),
        ([0.0, 0.004], {"percent": True}, ("0.0%", "0.1%", "0.2%", "0.3%", "0.4%"), "x"),
        ([], {}, ("0.0", "0.2", "0.4", "0.6", "0.8", "1.0"), "x"),
        ([0.0, 2.303], {"tight": True}, ("0.0", "0.5", "1.0", "1.5", "2.0"), "x"),
    ],
)
def test_ticks(values: list[float], options: dict, labels: tuple[str, ...], title: str) -> None:
    axis = scale.linear(values, "x", room=300.0, **options)
    assert [label.replace("\N{MINUS SIGN}", "~") for label in axis.labels] == list(labels)
    assert axis.title == title


def test_gaps_of_few_cases_are_faint() -> None:
    few, many = (
        bins[0].model_copy(update={"count": count, "accuracy": 0.9})
        for bins, count in ((one_bin(0, 1, 0.5), 2), (one_bin(0, 1, 0.5), 5000))
    )
    shown = [
        re.findall(r'<rect class="gap f2 s2"[^>]*?(?: opacity="([\d.]+)")?/>', text)[-1]
        for text in (charts.reliability((each,)) for each in (few, many))
    ]
    assert float(shown[0]) < 0.3
    assert shown[1] == ""  # as opaque as can be


def test_noise_looks_like_no_trend() -> None:
    """Steps of a thousandth of a nat are shown as flat, and what is chance has a band around it."""
    found = Convergence(
        rows=256,
        samples=(16, 32, 64),
        standard_error=(0.1, 0.07, 0.05),
        score=(0.201, 0.2, 0.2005),
        score_error=(0.004, 0.002, 0.0),
    )
    text = charts.convergence(found)
    assert text.count('class="band"') == 1
    line = re.findall(r'<path class="line s1 d1" d="M([^"]*)"', text)[-1]
    heights = [float(point.split()[1]) for point in line.split("L")]
    assert max(heights) - min(heights) < 3.0  # of 90
    bare = found.model_copy(update={"score_error": (None, None, None)})
    assert 'class="band"' not in charts.convergence(bare)
