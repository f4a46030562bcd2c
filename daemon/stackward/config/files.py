"""Reading local files without surprises: regular, bounded, never waiting; and file patterns.

What a file's text means is the business of the neighbours.
"""

import errno
import glob
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MATCHES_MAX = 200

_WORDS = {
    errno.ENOENT: ("there is no such file", "check the path; relative ones start at the main file"),
    errno.ENOTDIR: ("there is no such file", "a part of the path is not a directory"),
    errno.EACCES: (
        "may not be read by this user",
        "look at owner and mode of file and directories",
    ),
    errno.ELOOP: ("is a symbolic link that leads nowhere", ""),
}


@dataclass(frozen=True, slots=True)
class FileProblem:
    """Why a file cannot be used, without its name, and what to do."""

    message: str
    hint: str = ""
    is_missing: bool = False
    is_forbidden: bool = False


@dataclass(frozen=True, slots=True)
class FileBytes:
    """A file's whole content and its permission bits."""

    content: bytes
    mode: int


def read_file(path: Path, *, bytes_max: int) -> FileBytes | FileProblem:
    """Read a regular file whole. Pipes and devices are refused, so this never waits for a peer."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return _problem(error)
    except ValueError:  # a NUL in the path
        return FileProblem("is not a path")
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            return FileProblem("is a directory, not a file", "name the file in it")
        if not stat.S_ISREG(status.st_mode):
            return FileProblem("is not a regular file", "pipes and devices are not read")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(bytes_max + 1)
    except OSError as error:
        return _problem(error)
    finally:
        os.close(descriptor)
    if len(content) > bytes_max:
        return FileProblem(f"is larger than {bytes_max} bytes", "is this the right file?")
    return FileBytes(content, stat.S_IMODE(status.st_mode))


def _problem(error: OSError) -> FileProblem:
    """Say what the system said, in words."""
    code = error.errno or 0
    message, hint = _WORDS.get(code, (f"cannot be read: {os.strerror(code)}", ""))
    return FileProblem(
        message,
        hint,
        is_missing=code in (errno.ENOENT, errno.ENOTDIR),
        is_forbidden=code in (errno.EACCES, errno.EPERM),
    )


def expand(pattern: str, base: Path) -> tuple[Path, ...] | FileProblem:
    """Resolve a path or glob from `base` to files in name order.

    A glob that matches nothing is a problem: an empty selection is a slip, not a wish.
    """
    if "\0" in pattern:
        return FileProblem("is not a path")
    whole = str(base / pattern)
    if not glob.has_magic(pattern):
        return (Path(whole),)
    matches: Sequence[str] = sorted(glob.glob(whole))  # noqa: PTH207  Path.glob refuses absolute patterns
    if not matches:
        return FileProblem("matches no file", "correct the pattern or remove it")
    if len(matches) > MATCHES_MAX:
        return FileProblem(f"matches more than {MATCHES_MAX} files", "narrow the pattern")
    return tuple(Path(match) for match in matches)
