"""Classification metrics on the host, from the full table of predicted probabilities."""

from skinjax.metrics import bootstrap, paired
from skinjax.metrics.binning import reliability
from skinjax.metrics.curves import Curve, curve
from skinjax.metrics.names import DIRECTIONS, check, direction, scalars, summary_line
from skinjax.metrics.table import compute

__all__ = [
    "DIRECTIONS",
    "Curve",
    "bootstrap",
    "check",
    "compute",
    "curve",
    "direction",
    "paired",
    "reliability",
    "scalars",
    "summary_line",
]
