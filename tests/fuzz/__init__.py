"""Odd bytes for whatever reads logs: no crash, no endless reading, no unbounded memory.

`scripts/fuzz SECONDS` lets atheris look for such bytes; the suite tries some at every run.
"""

DICE_BYTES = 4
"""An input begins with so many bytes that decide how the rest is handed over."""
