"""Arguments in, exit codes out.

Rule of the room: parse, call `app`, print, map errors to exit codes. No logic lives here. What is
printed for programs (`--format json`) is what the daemon's own JSON says.
"""

import errno
import io
import os
import sys
from pathlib import Path

from stackward.cli.commands import app
from stackward.cli.exits import Exit

_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main() -> int:
    """Run the command line; the value is the exit code."""
    _mend_streams()
    try:
        # Without standalone mode `typer.Exit` comes back as a value, everything else raises.
        code = app(sys.argv[1:] or ["--help"], prog_name="stackward", standalone_mode=False)
        sys.stdout.flush()
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else Exit.FAILED
    except BrokenPipeError:  # whoever read what we print has gone, as `head` does
        return _nobody_reads_on()
    except OSError as trouble:
        if trouble.errno not in _IS_FULL:
            return _explain(trouble)
        sys.stderr.write(f"stackward: cannot write: {trouble.strerror}\n")
        return _nobody_reads_on()
    except Exception as trouble:  # wall: the last one before the shell
        return _explain(trouble)
    return code if isinstance(code, int) else Exit.DONE


def _mend_streams() -> None:
    """Those that were closed lead nowhere; letters that the output has no place for become `?`."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  to the very end
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _nobody_reads_on() -> int:
    """What is still to be flushed goes nowhere, or Python would complain at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.FAILED


def _explain(trouble: Exception) -> int:
    """One sentence on standard error for what we know; the traceback for what we do not."""
    from stackward.cli.troubles import exit_of  # noqa: PLC0415  costs imports only on trouble

    code, sentence = exit_of(trouble)
    if code is None:
        raise trouble
    if sentence:
        sys.stderr.write(f"stackward: {sentence}\n")
    return code
