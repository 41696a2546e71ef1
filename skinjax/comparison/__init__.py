"""Runs side by side: metrics with intervals, paired tests, and the spread over seeds (no JAX)."""

from skinjax.comparison.compare import compare
from skinjax.comparison.page import write

__all__ = ["compare", "write"]
