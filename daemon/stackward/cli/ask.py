"""Asking the running daemon over HTTP: one bounded request, no proxy, no redirect."""

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

DEFAULT_URL = "http://127.0.0.1:9787"
REPLY_BYTES_MAX = 64 * 1024 * 1024
TIMEOUT_SECONDS = 10.0


class NoAnswerError(Exception):
    """The daemon did not answer."""


class SaysNoError(Exception):
    """The daemon answered, and said no."""


def daemon_url(given: str | None) -> str:
    """The address: what was given, else STACKWARD_URL, else the default."""
    return (given or os.environ.get("STACKWARD_URL") or DEFAULT_URL).rstrip("/")


def ask(url: str, path: str) -> Mapping[str, Any]:
    """One JSON answer. NoAnswerError if nobody is there, SaysNoError if it was refused."""
    if not url.startswith(("http://", "https://")):
        raise SaysNoError(f"{url} is no http address, such as {DEFAULT_URL}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
    try:
        with opener.open(url + path, timeout=TIMEOUT_SECONDS) as reply:
            body = reply.read(REPLY_BYTES_MAX + 1)
    except urllib.error.HTTPError as refusal:
        raise SaysNoError(_reason(refusal)) from refusal
    except (OSError, ValueError, http.client.HTTPException) as trouble:
        reason = getattr(trouble, "reason", trouble)
        raise NoAnswerError(f"no daemon answers at {url}: {reason}") from trouble
    if len(body) > REPLY_BYTES_MAX:
        raise SaysNoError(f"{url}{path} answered with more than {REPLY_BYTES_MAX} bytes")
    try:
        answer = json.loads(body)
    except ValueError as trouble:
        raise SaysNoError(f"{url}{path} is not a stackward daemon: {trouble}") from trouble
    if not isinstance(answer, Mapping):
        raise SaysNoError(f"{url}{path} is not a stackward daemon")
    return answer


def _reason(refusal: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(refusal.read(65536))["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"the daemon answered {refusal.code} {refusal.reason}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any, **_values: Any) -> None:
        return None
