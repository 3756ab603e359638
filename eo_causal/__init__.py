"""Causal answers from satellite rasters."""

__version__ = "0.1.0"
