"""Offline evaluation: labelled rows in, one document and one page out."""

from mcdrop.evaluation.document import Evaluation
from mcdrop.evaluation.evaluate import Labelled, evaluate

__all__ = ["Evaluation", "Labelled", "evaluate"]
