"""Trained parts: their versioned store, online snapshots, and their place in a setup."""
