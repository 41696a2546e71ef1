"""The report's figures: arrays in, a matplotlib `Figure` out (no pyplot, no files)."""

from skinjax.plots.classification import (
    class_distribution,
    confusion_matrix,
    per_class_bars,
    pr_curves,
    roc_curves,
)
from skinjax.plots.history import history
from skinjax.plots.style import DISCLAIMER

__all__ = [
    "DISCLAIMER",
    "class_distribution",
    "confusion_matrix",
    "history",
    "per_class_bars",
    "pr_curves",
    "roc_curves",
]
