"""Hyper-parameter search: what a config file needs to describe the values to search."""

from skinjax.tune.search_space import SearchSpace, choice, integer, log_uniform, uniform

__all__ = ["SearchSpace", "choice", "integer", "log_uniform", "uniform"]
