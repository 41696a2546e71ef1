"""The report on a trained model: tables and plots, from the files that a run wrote (no JAX)."""

from skinjax.report.evaluation_report import write_evaluation
from skinjax.report.history import write_history
from skinjax.report.run_report import write_predictions_report, write_run

__all__ = ["write_evaluation", "write_history", "write_predictions_report", "write_run"]
