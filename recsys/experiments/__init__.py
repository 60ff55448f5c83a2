"""Comparisons with people: who sees what, shared lists, chance in what is shown, and what the log
says of it."""
