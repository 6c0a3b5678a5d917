"""Schedules of the learning rate, the weight decay, the momentum encoder, DINO's temperature and BSSL's balance.

All are functions of the step (the number of updates made so far), computed in float64 and returned as
float32, so that one file of published values fits them all. After its last step a schedule keeps its last
value.
"""

from larq_ssl.schedules.balance import Balance
from larq_ssl.schedules.base import Schedule, at_step
from larq_ssl.schedules.cosine import SimCLRCosine, WarmupCosine, simclr_base, simclr_steps
from larq_ssl.schedules.epochs import EpochCosine, EpochRamp, LinearDecay, StepDecay

__all__ = [
    "Balance",
    "EpochCosine",
    "EpochRamp",
    "LinearDecay",
    "Schedule",
    "SimCLRCosine",
    "StepDecay",
    "WarmupCosine",
    "at_step",
    "simclr_base",
    "simclr_steps",
]
