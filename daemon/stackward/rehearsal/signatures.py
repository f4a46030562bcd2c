"""The server's side of CloudStack's request signature.

Written apart from the daemon's client on purpose: two that were written alike would agree on a
mistake. Source: SRV/api/ApiServer.java `verifyRequest`, utils `DateUtil`, URLEncoder of the JDK.
"""

import base64
import hashlib
import hmac
import re
import string
from collections.abc import Mapping
from datetime import datetime

# What java.net.URLEncoder leaves alone; a blank becomes + there, and CloudStack makes %20 of it.
_PLAIN = frozenset((string.ascii_letters + string.digits + ".-*_").encode("ascii"))
_OLD_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}\Z")


def java_url_encode(value: str) -> str:
    """URLEncoder.encode(value, "UTF-8").replace("+", "%20")."""
    return "".join(
        chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in value.encode("utf-8")
    )


def expected_signature(params: Mapping[str, str], secret_key: str) -> str:
    """The signature that these parameters must carry."""
    names = sorted(name for name in params if name.lower() != "signature")
    text = "&".join(f"{name}={java_url_encode(params[name])}" for name in names).lower()
    digest = hmac.new(secret_key.encode("utf-8"), text.encode("utf-8"), hashlib.sha1).digest()
    return base64.b64encode(digest).decode("ascii")


def is_signed(params: Mapping[str, str], secret_key: str) -> bool:
    """True when the signature given is the one expected."""
    given = next((params[name] for name in params if name.lower() == "signature"), "")
    return hmac.compare_digest(given, expected_signature(params, secret_key))


def read_expiry(text: str, *, takes_iso: bool) -> datetime | None:
    """`expires` as a moment; None when this version cannot read it."""
    if not takes_iso and _OLD_DATE.match(text) is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
