"""Arguments in, exit codes out.

Rule of the room: parse, call `app`, print, map errors to exit codes. No logic lives here. What is
printed for programs (`--format json`) is what the daemon's own JSON says.
"""

import os
import sys

from stackward.cli.commands import app
from stackward.cli.exits import Exit


def main() -> int:
    """Run the command line; the value is the exit code."""
    try:
        # Without standalone mode `typer.Exit` comes back as a value, everything else raises.
        code = app(sys.argv[1:] or ["--help"], prog_name="stackward", standalone_mode=False)
        sys.stdout.flush()
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else Exit.FAILED
    except BrokenPipeError:  # whoever read what we print has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    except Exception as trouble:  # wall: the last one before the shell
        return _explain(trouble)
    return code if isinstance(code, int) else Exit.DONE


def _explain(trouble: Exception) -> int:
    """One sentence on standard error for what we know; the traceback for what we do not."""
    from stackward.cli.troubles import exit_of  # noqa: PLC0415  costs imports only on trouble

    code, sentence = exit_of(trouble)
    if code is None:
        raise trouble
    if sentence:
        sys.stderr.write(f"stackward: {sentence}\n")
    return code
