"""Simulation studies: methods of the shop, each judged on synthetic logs whose truth is known."""
