"""The catalogue by day: the log of changes, and the segment of items that no night has seen."""
