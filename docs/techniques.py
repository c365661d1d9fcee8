"""Fill docs/techniques.md from a comparison, and draw its picture.

Run it as `python -m docs.techniques FOLDER`, where `mcdrop compare --output FOLDER` has written.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from mcdrop.compare import Comparison, draw, markdown

DOCS = Path(__file__).resolve().parent
PAGE = DOCS / "techniques.md"
PICTURE = DOCS / "images" / "techniques.png"


def filled(text: str, comparisons: list[Comparison]) -> str:
    r"""The page with the tables of some comparisons between their marks.

    Example:
        >>> filled("<!-- techniques: digits -->\n<!-- /techniques: digits -->", [])
        '<!-- techniques: digits -->\n<!-- /techniques: digits -->'
    """
    for comparison in comparisons:
        begin = f"<!-- techniques: {comparison.data} -->\n"
        end = f"<!-- /techniques: {comparison.data} -->"
        head = (
            f"{comparison.data}: {comparison.folds} folds, {comparison.epochs} epochs of training"
        )
        made = f"{begin}**{head}**\n\n{markdown(comparison)}\n{end}"
        text = re.sub(
            f"{re.escape(begin)}.*?{re.escape(end)}",
            lambda _, made=made: made,
            text,
            flags=re.DOTALL,
        )
    return text


def main(folder: str) -> None:
    """Fill the page, and draw the picture."""
    found = json.loads((Path(folder) / "comparison.json").read_text(encoding="utf-8"))
    comparisons = [Comparison.from_dict(fields) for fields in found]
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), comparisons), encoding="utf-8")
    draw(comparisons, PICTURE)


if __name__ == "__main__":
    main(*sys.argv[1:])
