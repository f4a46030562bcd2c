"""A caller of the rehearsed API that signs by the published recipe, not with the daemon's code."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import aiohttp


def signed(params: dict[str, str], secret_key: str) -> dict[str, str]:
    encoded = {name: quote(value, safe="*").replace("~", "%7E") for name, value in params.items()}
    text = "&".join(f"{name}={encoded[name]}" for name in sorted(encoded)).lower()
    digest = hmac.new(secret_key.encode(), text.encode(), hashlib.sha1).digest()
    return {**params, "signature": base64.b64encode(digest).decode()}


class Caller:
    """Speaks to one API with one key."""

    def __init__(self, cloud, session: aiohttp.ClientSession) -> None:
        self.cloud = cloud
        self.session = session

    def params(self, command: str, **params: str) -> dict[str, str]:
        expires = datetime.now(UTC) + timedelta(minutes=5)
        return {
            "command": command,
            "response": "json",
            "apikey": self.cloud.api_key,
            "signatureversion": "3",
            "expires": expires.strftime("%Y-%m-%dT%H:%M:%S+0000"),
            **params,
        }

    async def raw(self, params: dict[str, str], *, method: str = "GET"):
        query, form = (params, None) if method == "GET" else (None, params)
        async with self.session.request(
            method, self.cloud.api_url, params=query, data=form
        ) as response:
            text = await response.text()
            return response.status, json.loads(text, strict=False), response.headers

    async def call(self, command: str, *, method: str = "GET", **params: str):
        """Status, the object under the root key."""
        whole = signed(self.params(command, **params), self.cloud.secret_key)
        status, body, _ = await self.raw(whole, method=method)
        assert len(body) == 1
        return status, next(iter(body.values()))
