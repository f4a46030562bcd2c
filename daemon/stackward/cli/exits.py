"""Exit codes, the same for every command.

    0  done, and the answer is good
    1  the operation failed
    2  wrong usage, or the configuration has mistakes
    3  the daemon does not answer
    4  the state on disk is newer than this program, or in use by another daemon
"""

from enum import IntEnum


class Exit(IntEnum):
    """What the process says when it ends."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NO_ANSWER = 3
    STATE = 4
