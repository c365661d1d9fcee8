"""Every technique of the family against no dropout, cross-validated on real data."""

from mcdrop.compare.comparison import Comparison, chosen, compare
from mcdrop.compare.data import DATA, DataName
from mcdrop.compare.outcome import Outcome
from mcdrop.compare.picture import draw, require_matplotlib
from mcdrop.compare.table import markdown, rich_table
from mcdrop.compare.techniques import TECHNIQUES, Technique

__all__ = [
    "DATA",
    "TECHNIQUES",
    "Comparison",
    "DataName",
    "Outcome",
    "Technique",
    "chosen",
    "compare",
    "draw",
    "markdown",
    "require_matplotlib",
    "rich_table",
]
