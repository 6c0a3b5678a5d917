"""Schedules of the learning rate, the weight decay, the momentum encoder and BSSL's balance.

All are functions of the step (the number of updates made so far), computed in float64 and returned as
float32, so that one file of published values fits them all. After its last step a schedule keeps its last
value.
"""

from larq_ssl.schedules.balance import Balance
from larq_ssl.schedules.base import Schedule
from larq_ssl.schedules.cosine import SimCLRCosine, WarmupCosine, simclr_base, simclr_steps
from larq_ssl.schedules.epochs import EpochCosine, LinearDecay, StepDecay

__all__ = [
    "Balance",
    "EpochCosine",
    "LinearDecay",
    "Schedule",
    "SimCLRCosine",
    "StepDecay",
    "WarmupCosine",
    "simclr_base",
    "simclr_steps",
]
