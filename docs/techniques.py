"""Fill docs/techniques.md from a comparison, and draw its picture.

Run it as `python -m docs.techniques FOLDER`, where `mcdrop compare --output FOLDER` has written.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from mcdrop.compare import Comparison, Outcome, draw, markdown
from mcdrop.compare.table import head

DOCS = Path(__file__).resolve().parent
PAGE = DOCS / "techniques.md"
PICTURE = DOCS / "images" / "techniques.png"


def filled(text: str, comparisons: list[Comparison]) -> str:
    r"""The page with the tables and the findings of some comparisons between their marks.

    Example:
        >>> filled("<!-- techniques: digits -->\n<!-- /techniques: digits -->", [])
        '<!-- techniques: digits -->\n<!-- /techniques: digits -->'
    """
    for comparison in comparisons:
        begin = f"<!-- techniques: {comparison.data} -->\n"
        end = f"<!-- /techniques: {comparison.data} -->"
        said = "\n".join(f"- {finding}" for finding in findings(comparison))
        made = f"{begin}**{head(comparison)}**\n\n{markdown(comparison)}\n\n{said}\n{end}"
        text = re.sub(
            f"{re.escape(begin)}.*?{re.escape(end)}",
            lambda _, made=made: made,
            text,
            flags=re.DOTALL,
        )
    return text


def findings(comparison: Comparison) -> list[str]:
    """What its figures show, in sentences that are true of any; "clearly" is by two errors."""
    told = comparison.outcomes
    compared = [outcome for outcome in told if outcome.technique != "none"]
    every = len(told) * comparison.folds * comparison.seeds
    more = [outcome for outcome in told if outcome.unfinished]
    unfinished = sum(outcome.unfinished for outcome in more)
    best = max(told, key=lambda outcome: outcome.auroc)
    fooled = [o for o in told if o.auroc + 2 * o.auroc_error < 0.5]
    below, longer = _names(fooled, told), _names(more, told)
    whole = ((o, o.against_none, o.against_none_error) for o in compared)
    trained = ((o, o.off_against_none, o.off_against_none_error) for o in compared)
    sampled = ((o, o.against_off, o.against_off_error) for o in compared)
    return [
        f"Against the net alone, in all (NLL − none): {_sides(whole)}.",  # noqa: RUF001 (a minus)
        f"Training with the noise (off − none): {_sides(trained)}.",  # noqa: RUF001
        f"Sampling it besides (NLL − off): {_sides(sampled)}.",  # noqa: RUF001
        f"Highest AUROC: {_name(best)}, {best.auroc:.3f}; clearly below 0.5: {below}.",
        f"Trainings that more epochs might have served: {unfinished} of {every} ({longer}).",
    ]


def _sides(differences: Iterable[tuple[Outcome, float, float]]) -> str:
    found = list(differences)
    every = [outcome for outcome, _, _ in found]
    gained = [outcome for outcome, mean, error in found if mean < -2 * error]
    lost = [outcome for outcome, mean, error in found if mean > 2 * error]
    return (
        f"NLL is clearly lower for {len(gained)} of {len(found)} ({_names(gained, every)}), "
        f"clearly higher for {len(lost)} ({_names(lost, every)})"
    )


def _names(outcomes: Sequence[Outcome], of: Sequence[Outcome]) -> str:
    """Their names, or those of the others where these are fewer."""
    others = [outcome for outcome in of if outcome not in outcomes]
    if not outcomes or not others:
        return "all of them" if outcomes else "none of them"
    if len(others) < len(outcomes):
        return f"all but {', '.join(map(_name, others))}"
    return ", ".join(map(_name, outcomes))


def _name(outcome: Outcome) -> str:
    alone = outcome.technique == "none"
    return f"the {outcome.net} net alone" if alone else outcome.technique


def main(folder: str) -> None:
    """Fill the page, and draw the picture."""
    found = json.loads((Path(folder) / "comparison.json").read_text(encoding="utf-8"))
    comparisons = [Comparison.from_dict(fields) for fields in found]
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), comparisons), encoding="utf-8")
    draw(comparisons, PICTURE)


if __name__ == "__main__":
    main(*sys.argv[1:])
