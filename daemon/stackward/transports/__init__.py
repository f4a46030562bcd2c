"""The rooms that open sockets and files: one library, one door.

Rule 1: a transport speaks in `model` values and raises only the four kinds of `TransportError`;
        no library's exception, row or reply object leaves the room.
Rule 2: every await on the world ends by a deadline; bytes, rows and connections have a limit.
Rule 3: what cannot be read is said, one row at a time; it is never guessed and never dropped.
Rule 4: what changes the world is sent once. `maybe_sent` is False only where that is certain.
Rule 5: transports judge nothing, and do not log; they know no rule, no health, no plan.
"""
