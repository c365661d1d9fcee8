"""The page on metrics: its example runs, and its table names what there is."""

from __future__ import annotations

import re
from pathlib import Path

from mcdrop import metrics
from mcdrop.metrics import functional

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


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
