"""Keras callbacks: what a run shows, watches and saves while it trains."""

from larq_ssl.callbacks.checkpointing import Checkpointing
from larq_ssl.callbacks.collapse import CollapseWarning
from larq_ssl.callbacks.diagnostics import Diagnostics
from larq_ssl.callbacks.embedding_monitor import EmbeddingMonitor
from larq_ssl.callbacks.freeze_roles import FreezeRoles
from larq_ssl.callbacks.logs import EpochRecorder, Estimate, MetricsFile, ProgressBar, ScheduleLogger, TensorBoard
from larq_ssl.callbacks.multi_label_validation import MultiLabelValidation
from larq_ssl.callbacks.online_knn import OnlineKNN
from larq_ssl.callbacks.sign_flips import SignFlips
from larq_ssl.callbacks.start_checks import GradientCheck, NoGradientError, check_views
from larq_ssl.callbacks.validation import Validation

__all__ = [
    "Checkpointing",
    "CollapseWarning",
    "Diagnostics",
    "EmbeddingMonitor",
    "EpochRecorder",
    "Estimate",
    "FreezeRoles",
    "GradientCheck",
    "MetricsFile",
    "MultiLabelValidation",
    "NoGradientError",
    "OnlineKNN",
    "ProgressBar",
    "ScheduleLogger",
    "SignFlips",
    "TensorBoard",
    "Validation",
    "check_views",
]
