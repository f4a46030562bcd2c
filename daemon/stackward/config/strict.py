"""What every part of the schema is built on: the strict model, and types shared by sections."""

from datetime import UTC, tzinfo
from typing import Annotated
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

TEXT_LENGTH_MAX = 255


class StrictModel(BaseModel):
    """Frozen; unknown keys and wrong types are mistakes; inputs are never repeated in errors.

    The text below a field is its description in the published schema.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )


def refusal(message: str, hint: str = "") -> PydanticCustomError:
    """A mistake in our own words. Neither text may hold what the file says: it may be a secret."""
    return PydanticCustomError("stackward", "{message}", {"message": message, "hint": hint})


def _trimmed(text: str) -> str:
    if text != text.strip():
        raise refusal("begins or ends with a space", "remove the space")
    if not text.isprintable():
        raise refusal("holds a character that cannot be printed", "remove it")
    return text


def _endpoint(text: str) -> str:
    hint = "for example https://cloud.example.org:8443/client/api"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise refusal("is not a URL", hint) from None
    if parts.scheme not in ("http", "https"):
        raise refusal("must start with http:// or https://", hint)
    if parts.username is not None or parts.password is not None:
        raise refusal("must not hold a user or password", "give api_key and secret_key instead")
    if not parts.hostname or port == 0 or any(letter.isspace() for letter in text):
        raise refusal("is not a URL", hint)
    if parts.query or parts.fragment:
        raise refusal("must end with the path", hint)
    return text


def listen_address(text: str) -> tuple[str, int]:
    """Split `host:port`; an IPv6 address stands in brackets. ValueError if it is neither."""
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.port is None or text != text.strip():
        raise ValueError("not host:port")
    if any((parts.path, parts.query, parts.fragment, parts.username, parts.password)):
        raise ValueError("not host:port")
    return parts.hostname, parts.port


def _listen(text: str) -> str:
    try:
        listen_address(text)
    except ValueError:
        raise refusal("must be host:port", "for example 127.0.0.1:9787 or [::1]:9787") from None
    return text


def time_zone(text: str) -> tzinfo:
    """The zone of that name in the tz database. ValueError if there is none."""
    if text == "UTC":  # this one needs no database
        return UTC
    try:
        return ZoneInfo(text)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("no such time zone") from error


def _time_zone(text: str) -> str:
    try:
        time_zone(text)
    except ValueError:
        hint = "a name of the tz database, for example UTC or Europe/Berlin"
        raise refusal("is no time zone that is known here", hint) from None
    return text


Name = Annotated[str, Field(min_length=1, max_length=TEXT_LENGTH_MAX), AfterValidator(_trimmed)]
FilePattern = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_trimmed)]
Endpoint = Annotated[str, Field(min_length=1, max_length=2048), AfterValidator(_endpoint)]
Listen = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_listen)]
TimeZone = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_time_zone)]
Port = Annotated[int, Field(ge=1, le=65535)]
