"""The CloudStack API over HTTP: who may call, how a request is read, how an answer looks.

What the commands do is in `commands`; this is ApiServlet and ApiServer. `Manners` are the ways in
which it can be made to misbehave.
"""

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from aiohttp import web

from stackward.rehearsal.clock import world_now
from stackward.rehearsal.commands import Command, commands_of
from stackward.rehearsal.ledger import Ledger
from stackward.rehearsal.refusals import (
    Refusal,
    bad_parameter,
    no_such_entity,
    wrong_credentials,
)
from stackward.rehearsal.rows import Row
from stackward.rehearsal.signatures import is_signed, read_expiry
from stackward.rehearsal.world import World

_CONTENT_TYPE = "application/json"
_CONTROL = re.compile(r"[\x00-\x08\x09\x0b\x0c\x0e-\x1f\x7f]")
_ESCAPED = re.compile(r"\\u([0-9a-f]{4})")
_HTML = "<html><head><title>503 Service Unavailable</title></head><body>proxy error</body></html>"
_BODY_BYTES_MAX = 1024 * 1024


@dataclass(slots=True)
class Manners:
    """How the API answers; the defaults are good ones.

    `loses_answers`: a call that changes something is executed and the connection then cut.
    """

    is_silent: bool = False
    is_html: bool = False
    is_half: bool = False
    is_standing_down: bool = False
    loses_answers: bool = False
    delay_seconds: float = 0.0
    offset: timedelta = timedelta(0)  # the server's clock against ours
    forbidden: set[str] = field(default_factory=set)  # lower-case names the role may not call
    is_over: asyncio.Event = field(default_factory=asyncio.Event)  # set at the end: nobody waits


@dataclass(frozen=True, slots=True)
class Keys:
    """One API user."""

    api_key: str
    secret_key: str


class Api:
    """The application; `application` is what a server serves."""

    def __init__(self, world: World, ledger: Ledger, keys: Keys) -> None:
        self.manners = Manners()
        self._world = world
        self._ledger = ledger
        self._keys = keys

    def application(self) -> web.Application:
        app = web.Application(client_max_size=_BODY_BYTES_MAX)
        app.router.add_route("GET", "/client/api", self._serve)
        app.router.add_route("POST", "/client/api", self._serve)
        return app

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        manners = self.manners
        if manners.delay_seconds:
            await asyncio.sleep(manners.delay_seconds)
        if manners.is_silent:
            await manners.is_over.wait()
        if manners.is_html:
            return web.Response(status=503, text=_HTML, content_type="text/html")
        params: dict[str, str] = dict(request.query)
        if request.method == "POST":
            form = await request.post()
            params.update({name: str(value) for name, value in form.items()})
        named = params.get("command", "")
        command = commands_of(self._world).get(named.lower())
        try:
            body: Row = {f"{named.lower()}response": self._answer(command, params)}
        except Refusal as refusal:
            return self._refuse(named, refusal)
        if command is not None and command.changes and manners.loses_answers:
            return self._cut(request)
        return await self._send(request, body, params)

    def _answer(self, command: Command | None, params: Mapping[str, str]) -> Row:
        self._admit(command, params)
        assert command is not None  # _admit turns unknown commands away
        lower = {name.lower(): value for name, value in params.items()}
        if not command.changes:
            self._check(command, lower)
            return command.run(self._world, lower)
        vm = self._world.vms.get(lower.get("id", ""))
        refusal: Refusal | None = None
        try:
            self._check(command, lower)
            if vm is None:
                refusal = no_such_entity("id", lower["id"])
        except Refusal as said:
            refusal = said
        self._ledger.write(
            "api",
            command.name,
            vm="" if vm is None else vm.name,
            is_executed=refusal is None,
            note="" if refusal is None else refusal.text,
            params={name: value for name, value in lower.items() if name != "signature"},
        )
        if refusal is not None:
            raise refusal
        return command.run(self._world, lower)

    def _admit(self, command: Command | None, params: Mapping[str, str]) -> None:
        """Expiry, key, role, signature, in the server's order: a 432 says nothing of the secret."""
        if any(_CONTROL.search(value) for value in params.values()):
            raise bad_parameter("Received value with control characters")
        lower = {name.lower(): value for name, value in params.items()}
        if command is None or "signature" not in lower:
            raise wrong_credentials()
        if lower.get("signatureversion") == "3":
            takes_iso = self._world.settings.release.takes_iso_dates
            expires_at = read_expiry(lower.get("expires", ""), takes_iso=takes_iso)
            if expires_at is None or expires_at < self._now():
                raise wrong_credentials()
        if lower.get("apikey") != self._keys.api_key:
            raise wrong_credentials()
        if command.name.lower() in self.manners.forbidden:
            raise Refusal(
                432,
                f"The API [{command.name}] does not exist or is not available for the account.",
                is_anonymous=True,
            )
        if not is_signed(params, self._keys.secret_key):
            raise wrong_credentials()

    def _check(self, command: Command, params: Mapping[str, str]) -> None:
        if command.changes and self.manners.is_standing_down:
            raise Refusal(
                503,
                "Maintenance or Shutdown has been initiated on this management server. "
                "Can not accept new jobs",
            )
        for name in command.required:
            if not params.get(name):
                raise bad_parameter(
                    f"Unable to execute API command {command.name.lower()} due to missing "
                    f"parameter {name}"
                )

    def _now(self) -> datetime:
        return world_now() + self.manners.offset

    def _refuse(self, named: str, refusal: Refusal) -> web.Response:
        return web.Response(
            status=refusal.code,
            text=serialised(refusal.body(named)),
            content_type=_CONTENT_TYPE,
            charset="UTF-8",
            headers=refusal.headers,
        )

    async def _send(
        self, request: web.Request, body: Row, params: Mapping[str, str]
    ) -> web.StreamResponse:
        if params.get("response") != "json":
            # XML is the default; nobody here reads it, but a client that forgot must notice.
            version = self._world.settings.release.name
            text = f'<?xml version="1.0"?><response cloud-stack-version="{version}"/>'
            return web.Response(text=text, content_type="text/xml")
        text = serialised(body)
        if self.manners.is_half:
            return await self._send_half(request, text.encode("utf-8"))
        return web.Response(text=text, content_type=_CONTENT_TYPE, charset="UTF-8")

    async def _send_half(self, request: web.Request, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": _CONTENT_TYPE})
        response.content_length = len(body)
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.close()
        return response

    def _cut(self, request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)  # never arrives


def serialised(body: Row) -> str:
    r"""JSON as ApiResponseSerializer makes it: `\uXXXX` is turned back to the raw character."""
    text = json.dumps(body, ensure_ascii=False)
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)
