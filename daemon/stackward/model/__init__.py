"""The shared vocabulary: frozen values, no behaviour beyond small derived properties.

Rule of the room: no I/O, no clock, no `ok: bool`. Every moment is an aware datetime in UTC and
ends in `_at`; every duration is a timedelta. Collections inside values are tuples, frozensets or
mappings that nobody changes. Nothing is re-exported here: import from the module that owns it.
"""
