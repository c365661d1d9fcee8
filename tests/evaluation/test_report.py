"""The page: the numbers of the document and no others, safe, complete, and fit for its screen."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from mcdrop.evaluation.document import Data, Estimate, Evaluation, Figure, Line, Slice
from mcdrop.evaluation.report import render
from mcdrop.evaluation.report_numbers import interval, of_figure
from mcdrop.evaluation.report_summary import summarise
from tests.evaluation import documents

EVIL = "<script>alert(1)</script> & Söhne"
DOCUMENTS = {"classes": documents.classes(), "numbers": documents.numbers()}


class Page(HTMLParser):
    """Cells of tables, tiles and all text of a page; complains about what is not closed."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.cells: list[list[list[str]]] = []  # the parts of each
        self.tiles: list[list[str]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
            self.cells.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")
            self.cells[-1].append([])
        elif tag == "dt":
            self.tiles.append([""])
        elif tag == "dd":
            self.tiles[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if "table" in self._open and {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data
            self.cells[-1][-1].append(data)
        elif "dl" in self._open and {"dt", "dd"} & set(self._open):
            self.tiles[-1][-1] += data


def assert_same(shown: str, value: float | None, unit: str = "") -> None:
    """What is shown is the number, rounded to the decimals that are shown."""
    if value is None:
        assert shown == "\N{EN DASH}"
        return
    text = (shown + unit if not shown.endswith(unit) else shown).replace("\N{MINUS SIGN}", "-")
    found = re.fullmatch(r"(-?[\d,]+(?:\.(\d+))?)(%)?(?: × 10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?", text)
    assert found, text
    digits, decimals, percent, exponent = found.groups()
    power = int((exponent or "⁰").translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))
    scale = 10.0**power * (0.01 if percent else 1.0)
    half = 0.5 * 10.0 ** -len(decimals or "") * scale
    assert float(digits.replace(",", "")) * scale == pytest.approx(value, abs=half * 1.0001, rel=0)


def assert_estimate(shown: list[str], found: Estimate) -> None:
    assert_same(shown[0], found.value)
    if found.low is None:
        assert len(shown) == 1
        return
    low, high = shown[1].split(" to ")
    assert_same(low, found.low, "%" if high.endswith("%") else "")
    assert_same(high, found.high)


def figure_of(value: float | None, low: Any = None, high: Any = None, name: str = "x") -> Figure:
    return documents.figure(name, name, "scores", None, value, low, high)


def with_figures(document: Evaluation, **changes: dict[str, Any]) -> Evaluation:
    """The document with some of its figures changed; `None` takes one out."""
    figures = [
        each.model_copy(update=changes.get(each.name, {}))
        for each in document.figures
        if changes.get(each.name, {}) is not None
    ]
    return document.model_copy(update={"figures": tuple(figures)})


@pytest.mark.parametrize("name", DOCUMENTS)
def test_all_figures_are_shown_as_in_the_json(name: str) -> None:
    document = json.loads(DOCUMENTS[name].model_dump_json())
    page = Page(render(DOCUMENTS[name]))
    figures = document["figures"]
    figures += document["detection"]["figures"] if document["detection"] else []
    assert figures
    for figure in figures:
        row = next(r for r in page.rows if r[0] == figure["title"] + figure["meaning"])
        assert_same(row[1], figure["value"])
        if figure["low"] is None:
            assert row[2] == "\N{EN DASH}"
        else:
            unit = "".join(re.findall(r"%$| × 10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+$", row[2]))
            low, high = row[2].split(" to ")
            assert_same(low, figure["low"], unit)
            assert_same(high, figure["high"], unit)
        arrow = {"lower": "↓ lower", "higher": "↑ higher", "nominal": "= ", None: ""}
        assert row[3].startswith(arrow[figure["better"]])


@pytest.mark.parametrize("name", DOCUMENTS)
def test_tiles_say_what_the_tables_say(name: str) -> None:
    page = Page(render(DOCUMENTS[name]))
    titles = {each.title: each for each in DOCUMENTS[name].figures}
    tiles = [tile for tile in page.tiles if tile[0] in titles]
    assert len(tiles) == 4
    for title, value, *_ in tiles:
        assert_same(value, titles[title].value)


def test_slices_are_shown_in_order_as_in_the_json() -> None:
    document = documents.classes()
    page = Page(render(document))
    place = -1
    for each in (*document.groups, *document.classes):
        at = next(n for n, row in enumerate(page.rows) if row[0] == each.name)
        assert at > place
        place = at
        assert page.rows[at][1] == f"{each.cases:,}"
        for shown, found in zip(page.cells[at][2:], each.figures.values(), strict=True):
            assert_estimate(shown, found)


def test_outputs_in_other_units_keep_their_digits() -> None:
    """With the decimals of the largest, the error of the smallest would be 0."""
    sizes = (123.4, 0.00567)
    outputs = tuple(
        Slice(name=str(place), cases=9, figures={
            "root_mean_squared_error": Estimate(value=size, low=0.9 * size, high=1.1 * size),
        })
        for place, size in enumerate(sizes)
    )  # fmt: skip
    page = Page(render(documents.numbers(outputs=outputs)))
    shown = [cells[2][0] for cells in page.cells if cells[0][0] in ("0", "1")]
    assert shown == ["123", "0.0057"]


def test_run_data_and_bad_rows_are_told() -> None:
    text = Page(render(documents.classes())).text
    for said in ("holdout.npz", "1,493", "temperature 1.31", "torch 2.13.0", "2026-11-24 05:39"):
        assert said in text
    assert "7 left out; the first 2:" in text
    assert "line 12: the label 'x' is not a class" in text


def test_without_parts_the_page_is_whole() -> None:
    full = documents.classes()
    bare = Evaluation(model=full.model, data=Data(source="x.csv", rows=1, cases=1), run=full.run,
                      figures=())  # fmt: skip
    page = Page(render(bare))
    assert not page.rows
    assert not [tag for tag, _ in page.tags if tag in {"svg", "figure", "table", "ul"}]
    for heading in ("Charts", "All figures", "Bad rows", "Other data", "Groups", "Classes"):
        assert heading not in page.text


@pytest.mark.parametrize("name", DOCUMENTS)
def test_each_part_can_be_missing(name: str) -> None:
    document = DOCUMENTS[name]
    for part in ("reliability", "uncertainty", "error", "pit", "convergence", "detection"):
        Page(render(document.model_copy(update={part: None})))
    for part in ("figures", "risk_coverage", "coverage", "classes", "groups"):
        Page(render(document.model_copy(update={part: ()})))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_nothing_is_loaded_and_nothing_runs(name: str) -> None:
    text = render(DOCUMENTS[name])
    page = Page(text)
    assert not re.search(r"https?:(?!//www\.w3\.org/2000/svg)", text)
    assert not re.search(r"url\(|@import|javascript:", text)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object", "use"}
    for _, attributes in page.tags:
        assert not {"src", "href", "xlink:href"} & set(attributes)
        assert not [key for key in attributes if key.startswith("on")]


def test_names_are_text() -> None:
    full = documents.classes()
    lines = tuple(line.model_copy(update={"name": EVIL}) for line in full.risk_coverage)
    detection = full.detection.model_copy(update={"source": EVIL})
    document = documents.classes(
        model=full.model.model_copy(update={"name": EVIL, "calibration": EVIL}),
        data=full.data.model_copy(update={"source": EVIL, "bad": (EVIL,)}),
        figures=(*full.figures, figure_of(1.0, name=EVIL)),
        classes=documents.class_slices((EVIL,)),
        groups=(Slice(name=EVIL, cases=1, figures={EVIL: Estimate(value=0.5)}),),
        risk_coverage=lines,
        detection=detection,
        run=full.run.model_copy(update={"created": EVIL}),
    )
    text = render(document)
    page = Page(text)
    assert "<script" not in text
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count(EVIL) >= 12


def test_a_thousand_classes_are_folded_and_few_are_not() -> None:
    names = tuple(f"class {place}" for place in range(1000))
    text = render(documents.classes(classes=documents.class_slices(names)))
    assert text.count("<details>") == 1
    assert "<summary>1,000 classes</summary>" in text
    assert "details::details-content" in text  # open on paper
    assert "<details>" not in render(documents.classes())


@pytest.mark.parametrize(
    ("figure", "shown"),
    [
        (figure_of(0.0), "0.00"),
        (figure_of(None), "\N{EN DASH}"),
        (figure_of(123456.7, 120000.0, 130000.0), "123,457"),
        (figure_of(1.5e12), "1.50 × 10¹²"),
        (figure_of(3.14159e-9, 3.1e-9, 3.2e-9), "3.14 × 10⁻⁹"),
        (figure_of(-0.5, -0.6, -0.4), "\N{MINUS SIGN}0.50"),
        (figure_of(1.0, name="accuracy"), "100.0%"),
        (figure_of(0.99996, 0.999, 1.0, name="accuracy"), "99.996%"),
        (figure_of(0.00004, name="accuracy"), "0.004%"),
        (figure_of(0.5, 0.5, 0.5), "0.500"),
    ],
)
def test_numbers_have_the_digits_that_are_known(figure: Figure, shown: str) -> None:
    assert of_figure(figure)(figure.value) == shown


@pytest.mark.parametrize(
    ("figure", "shown"),
    [
        (figure_of(0.995, 0.982, 0.99993, name="accuracy"), "98.20 to 99.99%"),
        (figure_of(0.995, 0.982, 1.0, name="accuracy"), "98.2 to 100.0%"),
        (figure_of(0.0003, 0.00002, 0.02, name="accuracy"), "0.002 to 2.000%"),
    ],
)
def test_ends_of_an_interval_have_the_same_decimals(figure: Figure, shown: str) -> None:
    assert interval(figure) == shown


def test_it_is_told_where_intervals_come_from() -> None:
    text = Page(render(documents.classes())).text
    assert "accuracy, coverage and other shares of cases are Wilson" in text
    assert "400 replicates of sums, and 100 of figures that put cases in order" in text
    assert "up to 20,000 rows of each side" in text


def test_no_gain_is_called_none() -> None:
    document = documents.classes(risk_coverage=(Line(
        name="entropy", x=(0.2, 0.4, 0.6, 0.8, 1.0), y=(0.05, 0.05, 0.05, 0.04879, 0.0488)),
    ))  # fmt: skip
    assert "Its uncertainty is no help" in " ".join(summarise(document).sentences)


def test_fewer_than_thirty_rows_have_no_verdict() -> None:
    for document in (documents.classes(), documents.numbers()):
        few = document.model_copy(update={"data": Data(source="x.csv", rows=29, cases=29)})
        assert summarise(few).verdict == "Too few cases to tell"
        assert summarise(document).verdict != "Too few cases to tell"


GAP = "confidence_gap"
SURE = {"value": 0.002, "low": -0.0091, "high": 0.0129}
NO_GAP = {"value": 0.002, "low": 0.0, "high": 0.01}
NO_INTERVAL = {"low": None, "high": None}


@pytest.mark.parametrize(
    ("changes", "verdict", "said"),
    [
        ({}, "Too sure", "It says 97.4% on average: too sure by 2.3 points."),
        ({GAP: {"value": -0.041, "low": -0.06, "high": -0.02}}, "Not sure enough", "by 4.1 points"),
        (
            {GAP: {"value": 0.0069, "low": 0.003, "high": 0.01}},
            "Slightly too sure",
            "slightly too sure by 0.7 points.",
        ),
        (
            {GAP: SURE, "debiased_calibration_error": NO_GAP},
            "As sure as it should be",
            "as far as 1,493 cases can tell (to about 1.1 points).",
        ),
        (
            {GAP: SURE},
            "As sure as it should be on average, but not throughout",
            "by confidence off by 2.2 points.",
        ),
        (
            {GAP: {"low": -0.08, "high": 0.12}, "debiased_calibration_error": NO_GAP},
            "No gap found, but too few cases to be sure",
            "to about 10.0 points",
        ),
        ({GAP: NO_INTERVAL}, "Too few cases to tell", "cannot tell whether that is too much"),
        ({"error_auroc_entropy": {"low": None}}, "Too sure", "There are too few wrong answers"),
        ({"error_auroc_entropy": {"low": 0.45}}, "Too sure", "could not be shown."),
    ],
)
def test_verdict_on_classes(changes: dict[str, Any], verdict: str, said: str) -> None:
    summary = summarise(with_figures(documents.classes(), **changes))
    assert summary.verdict == verdict
    assert said in " ".join(summary.sentences)


@pytest.mark.parametrize(
    ("changes", "verdict", "said"),
    [
        ({}, "Intervals mostly as asked", "Others are off: 50% intervals hold 56.1%."),
        (
            {"coverage_50": None},
            "Intervals hold what they promise",
            "Its 90% intervals hold 89.1% of targets (86.4 to 91.8%): as asked",
        ),
        (
            {"coverage_90": {"value": 0.81, "low": 0.78, "high": 0.84}},
            "Intervals too narrow",
            "too narrow, by 9.0 points.",
        ),
        (
            {"coverage_90": {"value": 0.96, "low": 0.94, "high": 0.98}},
            "Intervals too wide",
            "too wide, by 6.0 points.",
        ),
        ({"coverage_90": None, "coverage_50": None}, "No intervals to judge", "Off by 2.90"),
        ({"coverage_90": NO_INTERVAL}, "Too few cases to tell", "hold 89.1% of targets."),
    ],
)
def test_verdict_on_numbers(changes: dict[str, Any], verdict: str, said: str) -> None:
    summary = summarise(with_figures(documents.numbers(), **changes))
    assert summary.verdict == verdict
    assert said in " ".join(summary.sentences)


MEASURE = """<!doctype html><iframe id="f" style="border:0;width:{width}px;height:900px"
srcdoc="{page}"></iframe><script>
document.getElementById('f').onload = function () {{
  var page = this.contentDocument, wide = page.documentElement.clientWidth, over = [], clash = [];
  page.querySelectorAll('body *').forEach(function (e) {{
    var box = e.getBoundingClientRect();
    var free = e.closest('.scroll') || (e.closest('svg') && e.tagName !== 'svg');
    if (box.right > wide + 0.5 && !free) over.push(e.tagName + ' ' + e.className);
  }});
  page.querySelectorAll('svg').forEach(function (s) {{
    var frame = s.getBoundingClientRect(), all = [...s.querySelectorAll('text')];
    all.forEach(function (a, n) {{
      var p = a.getBoundingClientRect();
      if (p.right > frame.right || p.left < frame.left) clash.push(a.textContent);
      all.slice(n + 1).forEach(function (b) {{
        var q = b.getBoundingClientRect(), dy = p.height * 0.2;
        if (p.left < q.right && q.left < p.right && p.top + dy < q.bottom - dy &&
            q.top + dy < p.bottom - dy) clash.push(a.textContent + ' / ' + b.textContent);
      }});
    }});
  }});
  document.body.dataset.found = JSON.stringify({{
    wide: wide, scroll: page.documentElement.scrollWidth, over: over, clash: clash,
    paper: getComputedStyle(page.body).backgroundColor
  }});
}};</script>"""


@pytest.fixture
def chromium(tmp_path: Path) -> list[str]:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    return [found, "--headless=new", "--no-sandbox", "--disable-gpu", profile]


def wide_document(name: str) -> Evaluation:
    """With names that are as long as they come."""
    document, long = DOCUMENTS[name], "a_name_without_a_single_space_" * 5
    groups = (
        Slice(
            name=long,
            cases=10**9,
            figures={
                long: Estimate(value=-12345.678, low=-123456.789, high=0.1),
                "accuracy": Estimate(value=0.5),
            },
        ),
    )
    return document.model_copy(
        update={
            "model": document.model.model_copy(update={"name": long, "calibration": long}),
            "data": document.data.model_copy(update={"source": long, "bad": (long,)}),
            "groups": groups,
        }
    )


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 390, 800, 1200])
@pytest.mark.parametrize("name", [*DOCUMENTS, "long names"])
def test_nothing_sticks_out_or_overlaps(
    chromium: list[str], tmp_path: Path, name: str, width: int
) -> None:
    document = DOCUMENTS[name] if name in DOCUMENTS else wide_document("classes")
    dark = width == 390
    found = measured(chromium, tmp_path, render(document), width, dark=dark)
    assert found["scroll"] <= found["wide"]
    assert found["over"] == []
    assert found["clash"] == []
    assert found["paper"] == ("rgb(18, 22, 31)" if dark else "rgb(255, 255, 255)")


def measured(
    chromium: list[str], folder: Path, page: str, width: int, *, dark: bool
) -> dict[str, Any]:
    frame = folder / "frame.html"
    frame.write_text(MEASURE.format(width=width, page=html.escape(page)), "utf-8")
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    command = [*chromium, scheme, "--window-size=1300,1000", "--dump-dom", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60, text=True)
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    assert found, done.stdout[-500:]
    return json.loads(html.unescape(found[1]))


@pytest.mark.browser
def test_on_paper_it_is_a4_and_everything_is_open(chromium: list[str], tmp_path: Path) -> None:
    names = tuple(f"class {place}" for place in range(60))
    page, paper = tmp_path / "report.html", tmp_path / "report.pdf"
    page.write_text(render(documents.classes(classes=documents.class_slices(names))), "utf-8")
    target = [f"--print-to-pdf={paper}", "--no-pdf-header-footer", page.as_uri()]
    subprocess.run([*chromium, *target], capture_output=True, check=True, timeout=60)
    assert re.search(rb"/MediaBox \[0 0 59[45][.\d]* 84[12][.\d]*\]", paper.read_bytes())
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed (apt-get install poppler-utils)")
    text = subprocess.run(["pdftotext", paper, "-"], capture_output=True, check=True, text=True)
    assert all(name in text.stdout.splitlines() for name in names)


@pytest.mark.browser
def test_on_paper_the_other_data_follows_the_charts(chromium: list[str], tmp_path: Path) -> None:
    """As a block that cannot be parted it would leave most of the page before it empty."""
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed (apt-get install poppler-utils)")
    page, paper = tmp_path / "report.html", tmp_path / "report.pdf"
    figures = documents.detection().figures * 4
    document = documents.classes(detection=documents.detection().model_copy(
        update={"figures": figures}))  # fmt: skip
    page.write_text(render(document), "utf-8")
    target = [f"--print-to-pdf={paper}", "--no-pdf-header-footer", page.as_uri()]
    subprocess.run([*chromium, *target], capture_output=True, check=True, timeout=60)
    text = subprocess.run(["pdftotext", paper, "-"], capture_output=True, check=True, text=True)
    pages = text.stdout.split("\f")
    found = {
        heading: next(n for n, page in enumerate(pages) if heading in page)
        for heading in ("Does the error grow with the", "Other data: letters.npz", "All figures")
    }
    assert found["Other data: letters.npz"] == found["Does the error grow with the"]
