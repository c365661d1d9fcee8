"""Engines: ways to compute samples, all with the same answer for the same seed."""

from mcdrop.engine.batched import BatchedEngine
from mcdrop.engine.choice import EngineName
from mcdrop.engine.cohort import Cohort, Prepared, Trunk
from mcdrop.engine.eager import EagerEngine
from mcdrop.engine.engine import Engine, Run, Sampler, Source
from mcdrop.engine.footprint import Footprints
from mcdrop.engine.job import Job
from mcdrop.engine.loop import LoopEngine
from mcdrop.engine.plan import Plan, Trial, Way
from mcdrop.engine.planner import Planner
from mcdrop.engine.precision import Precision, check_precision
from mcdrop.engine.team import Team
from mcdrop.engine.thinned import ThinnedEngine
from mcdrop.engine.variance import require_variance

__all__ = [
    "BatchedEngine",
    "Cohort",
    "EagerEngine",
    "Engine",
    "EngineName",
    "Footprints",
    "Job",
    "LoopEngine",
    "Plan",
    "Planner",
    "Precision",
    "Prepared",
    "Run",
    "Sampler",
    "Source",
    "Team",
    "ThinnedEngine",
    "Trial",
    "Trunk",
    "Way",
    "check_precision",
    "require_variance",
]
