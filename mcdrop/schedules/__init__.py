"""Schedules: rates that change while a model trains.

A schedule takes a model, a layer or a list of layers, sets the rate of step 0 at once, and the next
one at every `step()`: once an epoch, or once a batch, as you count. It drives every module with a
plain number `p` from 0 to 1 (torch's dropout and ours), the `dropout` of `nn.MultiheadAttention`,
and that of torch's recurrent layers where they have several; second rates (`p_recurrent`) where
`sites` names them. Rates that are learned are left alone.
"""

from mcdrop.schedules.cosine import CosineRate
from mcdrop.schedules.curriculum import CurriculumRate
from mcdrop.schedules.decreasing import DecreasingRate
from mcdrop.schedules.exponential import ExponentialRate
from mcdrop.schedules.linear import LinearRate
from mcdrop.schedules.plateau import PlateauRate
from mcdrop.schedules.schedule import Schedule, TimedSchedule
from mcdrop.schedules.step import StepRate
from mcdrop.schedules.targets import Rate, rates

__all__ = [
    "CosineRate",
    "CurriculumRate",
    "DecreasingRate",
    "ExponentialRate",
    "LinearRate",
    "PlateauRate",
    "Rate",
    "Schedule",
    "StepRate",
    "TimedSchedule",
    "rates",
]
