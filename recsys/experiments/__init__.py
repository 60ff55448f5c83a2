"""Controlled experiments: assignment, interleaving, exploration, off-policy estimators, analysis."""
