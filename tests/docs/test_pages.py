"""The pages on metrics and calibration: examples run, and tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path

from mcdrop import calibration, metrics
from mcdrop.metrics import functional

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "metrics.md").read_text(encoding="utf-8")
CALIBRATION = (DOCS / "calibration.md").read_text(encoding="utf-8")


def test_the_example_runs_as_shown() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    lines = code.replace("error.compute()", "again = error.compute()").replace(
        "functional.expected_calibration_error",
        "error_at_once = functional.expected_calibration_error",
    )
    lines = lines.replace("functional.interval_coverage", "covered = functional.interval_coverage")
    names: dict[str, object] = {}
    exec(compile(lines, "docs/metrics.md", "exec"), names)
    assert round(names["error_at_once"].item(), 4) == 0.4333
    assert abs(names["again"].item() - names["error_at_once"].item()) < 1e-12
    assert names["covered"].item() == 0.75


def test_the_table_names_every_function_and_every_class() -> None:
    table = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\|.*\|$", PAGE, re.MULTILINE))))
    functions = {name for name in functional.__all__ if name[0].islower()}
    classes = {name for name in metrics.__all__ if name not in ("functional", "ReliabilityMetric")}
    assert functions | classes == table - {"curve"}


def test_the_example_of_calibration_runs_as_shown() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", CALIBRATION, re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(code, "docs/calibration.md", "exec"), names)
    given, labels = {"before": names["probs"], "after": names["better"]}, names["labels"]
    errors = {
        name: functional.expected_calibration_error(probs=probs, labels=labels).item()
        for name, probs in given.items()
    }
    shown = [float(value) for value in re.findall(r"labels=labels\)  # (0\.\d+)", code)]
    assert [round(errors[name], 2) for name in ("before", "after")] == shown
    assert abs(names["temperature"].temperature - 3) < 0.5
    scaling = calibration.DeviationScaling.fit(names["mean"], names["std"], names["target"])
    assert abs(scaling.factor - 2) < 0.2


def test_the_table_of_calibrators_names_all_of_them() -> None:
    table = "\n".join(re.findall(r"^\|.*\|$", CALIBRATION, re.MULTILINE))
    kinds = {name for name in calibration.__all__ if name[0].isupper()}
    assert set(re.findall(r"`([A-Z]\w+)`", table)) == kinds
