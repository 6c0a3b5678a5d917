"""Pictures of a run, drawn without a display and without pyplot's global state.

Each function writes its file (PNG, PDF or SVG by its ending) whole or not at all and returns the figure.
"""

from larq_ssl.evaluation._confusion import confusion_matrix
from larq_ssl.evaluation._costs import cost_scatter
from larq_ssl.evaluation._curves import loss_curves
from larq_ssl.evaluation._diagnostics import layer_diagnostics
from larq_ssl.evaluation._grid import grid_curves
from larq_ssl.evaluation._growth import growth_curves
from larq_ssl.evaluation._input_speed import InputSpeed, input_speeds
from larq_ssl.evaluation._pixel_scale import pixel_scale_ratios
from larq_ssl.evaluation._robustness import corruption_sheet, robustness_curves
from larq_ssl.evaluation._sheet import view_sheet
from larq_ssl.evaluation._step_times import step_times

__all__ = [
    "InputSpeed",
    "confusion_matrix",
    "corruption_sheet",
    "cost_scatter",
    "grid_curves",
    "growth_curves",
    "input_speeds",
    "layer_diagnostics",
    "loss_curves",
    "pixel_scale_ratios",
    "robustness_curves",
    "step_times",
    "view_sheet",
]
