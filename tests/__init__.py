"""A package, so that an installed `tests` does not hide it from the processes of a test."""
