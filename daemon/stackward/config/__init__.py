"""YAML to settings to `core.policy.Policy`. pydantic, ruamel and re2 live here and nowhere else.

Rule 1: strict. What is not understood is a mistake, never a guess and never ignored.
Rule 2: all mistakes at once, each with file, path, line and what to write instead.
Rule 3: no value from a file is ever repeated in a message: it may be a secret.
Rule 4: bounded. No file, however odd, costs more than its limits allow.
Rule 5: nothing half-read leaves: a whole `Configuration`, or `ConfigError`.
"""
