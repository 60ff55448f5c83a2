"""Controlled experiments: assignment, interleaving, exploration, estimators, analysis."""
