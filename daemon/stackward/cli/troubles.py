"""Which exit code and sentence each expected trouble has."""

import typer

from stackward.cli.ask import NoAnswerError, SaysNoError
from stackward.cli.exits import Exit
from stackward.errors import ConfigError, JournalError

# By name where importing the class would cost a second of imports for nothing.
_BY_NAME = {
    "StateTroubleError": Exit.STATE,
    "ListenError": Exit.FAILED,
}
_BY_TYPE: tuple[tuple[type[Exception], Exit], ...] = (
    (NoAnswerError, Exit.NO_ANSWER),
    (SaysNoError, Exit.FAILED),
    (JournalError, Exit.STATE),
)


def exit_of(trouble: Exception) -> tuple[int | None, str]:
    """Exit code and sentence; None for what nobody expected."""
    match trouble:
        case ConfigError():
            count = len(trouble.mistakes)
            noun = "mistake" if count == 1 else "mistakes"
            return Exit.USAGE, f"{count} {noun} in the configuration\n{trouble}"
        case typer.Exit():
            return trouble.exit_code, ""
        case typer.TyperException():
            # Usage errors print themselves, with the usage line of their command.
            show = getattr(trouble, "show", None)
            if show is None:
                return Exit.USAGE, str(trouble)
            show()
            return Exit.USAGE, ""
        case typer.Abort():
            return Exit.FAILED, "interrupted"
        case _:
            codes = [code for kind, code in _BY_TYPE if isinstance(trouble, kind)]
            code = codes[0] if codes else _BY_NAME.get(type(trouble).__name__)
            return code, str(trouble) if code is not None else ""
