"""Exit codes, the same for every command."""

from enum import IntEnum


class Exit(IntEnum):
    """What the process says when it ends."""

    DONE = 0
    FAILED = 1  # the operation failed, or the daemon said no
    USAGE = 2  # wrong usage, or the configuration has mistakes
    NO_ANSWER = 3  # the daemon does not answer
    STATE = 4  # the state directory is in use, newer than this program, or not usable
