"""CloudStack's request signature: pure functions over names and values.

The server's side is `ApiServer.verifyRequest` (server/src/main/java/com/cloud/api/ApiServer.java);
the algorithm is the same from 4.11 to 4.23. Names are sent in lower case: the server sorts before
it lower-cases, so only then do both sides sort alike.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import quote

# The one form of a moment that every version takes: 4.11 refuses `Z` and `+00:00`.
EXPIRES_FORMAT = "%Y-%m-%dT%H:%M:%S+0000"


def encode_value(value: str) -> str:
    """Percent-encode as Java's URLEncoder does, with a space as %20.

    Java leaves letters, digits and `.-*_`; Python's `quote` also leaves `~`.
    """
    return quote(value, safe="*").replace("~", "%7E")


def text_to_sign(params: Mapping[str, str]) -> str:
    """The canonical text: sorted by raw name, names unencoded, all in lower case."""
    return "&".join(f"{name}={encode_value(params[name])}" for name in sorted(params)).lower()


def sign(params: Mapping[str, str], secret_key: str) -> str:
    """The signature, in Base64; still to be percent-encoded where it is sent."""
    digest = hmac.new(secret_key.encode(), text_to_sign(params).encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def signed_form(
    params: Mapping[str, str], *, api_key: str, secret_key: str, expires_at: datetime
) -> str:
    """A signed request, version 3, as a query string or a form body (they are the same text)."""
    complete = {
        **params,
        "apikey": api_key,
        "response": "json",
        "signatureversion": "3",
        "expires": expires_at.astimezone(UTC).strftime(EXPIRES_FORMAT),
    }
    complete["signature"] = sign(complete, secret_key)
    return "&".join(f"{quote(name, safe='')}={quote(complete[name], safe='')}" for name in complete)
