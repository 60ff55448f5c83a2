"""Attributes of items: their declaration, how cells of a catalogue are read, and typed columns."""
