"""Engines: ways to compute samples, all with the same answer for the same seed."""

from mcdrop.engine.batched import BatchedEngine
from mcdrop.engine.eager import EagerEngine
from mcdrop.engine.engine import Engine, OneRow, Run
from mcdrop.engine.job import Job
from mcdrop.engine.loop import LoopEngine
from mcdrop.engine.plan import Plan
from mcdrop.engine.variance import require_variance

__all__ = [
    "BatchedEngine",
    "EagerEngine",
    "Engine",
    "Job",
    "LoopEngine",
    "OneRow",
    "Plan",
    "Run",
    "require_variance",
]
