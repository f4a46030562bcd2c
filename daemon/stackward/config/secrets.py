"""Secrets: where they are kept, how they are fetched, and a type that never shows them.

The main file names the place of a secret; the secret itself comes from a file, from a systemd
credential or from the environment. Writing it into the main file is possible and warned of.
"""

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

from pydantic import Field, GetCoreSchemaHandler, model_validator
from pydantic_core import core_schema

from stackward.config.files import FileProblem, read_file
from stackward.config.strict import StrictModel, refusal

BYTES_MAX = 64 * 1024  # the longest private keys take a quarter of it
CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY"  # systemd.exec(5), LoadCredential=
HIDDEN = "(hidden)"
PLACES_HINT = "one of {credential: name}, {file: path}, {env: NAME}, {value: text}"


class Secret:
    """A secret text. Only `reveal` shows it; printing, formatting and pickling do not."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself, for the one place that sends it."""
        return self._text

    def __repr__(self) -> str:
        return f"Secret{HIDDEN}"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: object) -> "Secret":
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Read from text; written as `(hidden)`."""
        return core_schema.no_info_after_validator_function(
            cls,
            core_schema.str_schema(strict=True, min_length=1, max_length=BYTES_MAX),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda _: HIDDEN),
        )


class SecretRef(StrictModel):
    """Where a secret is kept. Exactly one of the four.

    `{credential: name}` is the best with systemd (`LoadCredential=name:/path` in the unit, kept
    from other processes), `{file: path}` next.
    """

    file: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """Path of a file that holds the secret alone. Relative paths start at the main file. A line
    break at its end does not count. Keep it unreadable for others (mode 0640 or 0600)."""
    credential: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.@-]{1,200}$")] | None = None
    """Name of a systemd credential, read from `$CREDENTIALS_DIRECTORY`. Only the service has it."""
    env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,199}$")] | None = None
    """Name of an environment variable. Child processes and `/proc` can show it."""
    value: Secret | None = None
    """The secret itself, in clear. For rehearsals: whoever reads the main file has it."""

    @model_validator(mode="after")
    def _names_one_place(self) -> "SecretRef":
        places = [self.file, self.credential, self.env, self.value]
        if sum(place is not None for place in places) != 1:
            raise refusal("must name exactly one place", PLACES_HINT)
        return self


@dataclass(frozen=True, slots=True)
class Fetched:
    """A secret and what was odd about its place."""

    secret: Secret
    warning: str = ""


@dataclass(frozen=True, slots=True)
class NotFetched:
    """Why there is no secret. `is_elsewhere`: it may well be there for the service itself."""

    message: str
    hint: str = ""
    is_elsewhere: bool = False


class Use(StrEnum):
    """What a secret is for, and so what it looks like."""

    WORD = "word"
    PASSWORD = "password"  # noqa: S105  the name of a use
    PRIVATE_KEY = "private-key"


def fetch(
    ref: SecretRef, use: Use, base: Path, environment: Mapping[str, str]
) -> Fetched | NotFetched:
    """Fetch a secret; relative paths start at `base`."""
    if ref.value is not None:
        return _read(ref.value.reveal(), use, "is written in the main file in clear")
    if ref.env is not None:
        if ref.env not in environment:
            hint = f"set the environment variable {ref.env} for the service"
            return NotFetched("is not in the environment", hint, is_elsewhere=True)
        return _read(environment[ref.env], use)
    if ref.credential is not None:
        directory = environment.get(CREDENTIALS_DIRECTORY)
        if directory is None:
            hint = f"LoadCredential={ref.credential}:/path in the service's unit"
            return NotFetched("credentials exist only in the service", hint, is_elsewhere=True)
        return _from_file(Path(directory) / ref.credential, use)
    return _from_file(base / (ref.file or ""), use)


def _from_file(path: Path, use: Use) -> Fetched | NotFetched:
    match read_file(path, bytes_max=BYTES_MAX):
        case FileProblem() as problem:
            return NotFetched(
                f"{path}: {problem.message}", problem.hint, is_elsewhere=problem.is_forbidden
            )
        case found:
            pass
    try:
        text = found.content.decode()
    except UnicodeDecodeError:
        return NotFetched(f"{path} is not text", "keys are read in their text form (PEM)")
    is_open = bool(found.mode & stat.S_IRWXO)
    return _read(text, use, f"can be read by every user; chmod o= {path}" if is_open else "")


def _read(text: str, use: Use, warning: str = "") -> Fetched | NotFetched:
    """Take off the line break at the end, which editors add, and see whether it can be right."""
    stripped = text.rstrip("\r\n")
    if not stripped.strip():
        return NotFetched("is empty")
    if use is Use.PRIVATE_KEY:
        if "PRIVATE KEY-----" not in stripped:
            return NotFetched("is no private key", "the file that begins with -----BEGIN")
        if "ENCRYPTED" in stripped:
            return NotFetched("is locked with a passphrase", "keep it unlocked, or in an agent")
        return Fetched(Secret(stripped + "\n"), warning)
    if not stripped.isprintable() or (use is Use.WORD and " " in stripped):
        return NotFetched("holds spaces, line breaks or odd characters", "it is one line of text")
    return Fetched(Secret(stripped), warning)
