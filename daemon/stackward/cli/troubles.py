"""Which exit code and sentence each expected trouble has."""

import click

from stackward.cli.ask import NoAnswerError, SaysNoError
from stackward.cli.exits import Exit
from stackward.errors import ConfigError, JournalError


def exit_of(trouble: Exception) -> tuple[int | None, str]:
    """Exit code and sentence; None for what nobody expected."""
    match trouble:
        case ConfigError():
            count = len(trouble.mistakes)
            noun = "mistake" if count == 1 else "mistakes"
            return Exit.USAGE, f"{count} {noun} in the configuration\n{trouble}"
        case click.exceptions.Exit():
            return trouble.exit_code, ""
        case click.ClickException():
            trouble.show()
            return Exit.USAGE, ""
        case click.Abort():
            return Exit.FAILED, "interrupted"
        case NoAnswerError():
            return Exit.NO_ANSWER, str(trouble)
        case SaysNoError():
            return Exit.FAILED, str(trouble)
        case JournalError():
            return Exit.STATE, str(trouble)
        case _ if type(trouble).__name__ == "StateTroubleError":
            return Exit.STATE, str(trouble)
        case _ if type(trouble).__name__ in ("ListenError", "DemoFailedError"):
            return Exit.FAILED, str(trouble)
        case _:
            return None, ""
