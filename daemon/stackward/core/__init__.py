"""The functional core: it decides, and touches nothing.

Rule 1: no I/O, no clock, no randomness. Time and dice come in as arguments.
Rule 2: total. Every function has an answer for every input; late, duplicate and unknown events too.
Rule 3: values in, values out. State is replaced, never changed.
Rule 4: `Unknown` justifies nothing. What cannot be told is a hold with a reason.
Rule 5: bounded. Rings, not lists; memory does not grow with time.
"""
