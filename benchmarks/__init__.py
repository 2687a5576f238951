"""Baselines, the papers' tables and speed, measured by hand."""
