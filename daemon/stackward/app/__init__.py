"""The composition root and the lifetime of everything.

Rule of the room: `wiring` alone knows the transports; `control_loop` alone owns state. Everything
here is started in one TaskGroup and stopped in reverse, within bounds.
"""
