"""One signed request to the CloudStack API, carried by aiohttp: sent, bounded, and told in kinds.

Reads go over kept connections and fail over from one management server to the next. What changes
state gets a connection of its own, never used before and never again: on a kept one that the
server has just closed nobody could say whether the request was taken, and aiohttp repeats some
requests by itself there. Commands and rows are not here.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import aiohttp
from yarl import URL

from stackward import __version__
from stackward.errors import (
    Garbled,
    RefusalKind,
    Refused,
    TimedOut,
    TransportError,
    Unreachable,
)
from stackward.ports import Clock
from stackward.transports.cloudstack_replies import Row, read_reply
from stackward.transports.signing import signed_form

_SKEW_WORTH_TELLING: Final = timedelta(seconds=2)  # the Date header has whole seconds
_CLOSE_SECONDS_MAX: Final = 5.0
_KEEP_SECONDS: Final = 60.0  # longer than the usual interval between two listings
# What no other management server of the same cloud would answer differently.
_FINAL: Final = frozenset(
    {
        RefusalKind.PARAMETER,
        RefusalKind.GONE,
        RefusalKind.NOT_ALLOWED,
        RefusalKind.NO_CAPACITY,
        RefusalKind.IN_USE,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudStackSettings:
    """Where the API is and how gently it is asked. Times are in seconds.

    `secret_key` is called for every request, so the key itself lies in no settings object.
    `request_timeout` covers one request with its wait for a free slot, `listing_timeout` a whole
    inventory with all pages. Expiry allows for clocks that differ: 300 s is what CloudStack takes
    everywhere (it refuses more than 15 min).
    """

    endpoints: tuple[str, ...]
    api_key: str = field(repr=False)
    secret_key: Callable[[], str] = field(repr=False)
    ca_file: Path | None = None
    verify_tls: bool = True
    request_timeout: float = 10.0
    listing_timeout: float = 60.0
    reply_bytes_max: int = 32 * 1024 * 1024
    concurrency_max: int = 8
    rate_per_second: float = 20.0
    expires_in: float = 300.0
    page_size: int = 500


@asynccontextmanager
async def deadline(seconds: float, what: str) -> AsyncIterator[None]:
    """End a piece of work by a deadline, in our own kind of trouble."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise TimedOut(f"{what}: not done within {seconds:g} s") from None


class CloudStackHttp:
    """Signed requests to one cloud's management servers, at a limited rate and concurrency."""

    def __init__(self, settings: CloudStackSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._endpoints = tuple(URL(endpoint) for endpoint in settings.endpoints)
        self._answered = 0  # index of the endpoint that answered last: reads begin there
        self._slots = asyncio.Semaphore(settings.concurrency_max)
        self._turn_at = float("-inf")  # on the monotonic clock: when the latest request could leave
        self._reads: aiohttp.ClientSession | None = None
        self._writes: aiohttp.ClientSession | None = None
        self._is_closed = False

    async def read(self, command: str, params: Mapping[str, str]) -> Row:
        """Ask a question; where one management server gives no answer, ask the next."""
        troubles: list[TransportError] = []
        for index in self._order():
            try:
                reply = await self._exchange("GET", index, command, params)
            except TransportError as trouble:
                if isinstance(trouble, Refused) and trouble.kind in _FINAL:
                    raise
                troubles.append(trouble)
            else:
                self._answered = index
                return reply
        raise _most_telling(troubles)

    async def send_once(self, command: str, params: Mapping[str, str]) -> Row:
        """Send what changes state: once.

        The next management server is tried only where it is certain that nothing left for this
        one. Whoever was reached has the only try, whatever comes back.
        """
        troubles: list[TransportError] = []
        for index in self._order():
            try:
                return await self._exchange("POST", index, command, params)
            except TransportError as trouble:
                if trouble.maybe_sent:
                    raise
                troubles.append(trouble)
        raise _most_telling(troubles)

    async def close(self) -> None:
        """Close the connections. Later requests are refused, not sent."""
        self._is_closed = True
        sessions = (self._reads, self._writes)
        self._reads = self._writes = None
        for session in sessions:
            if session is not None:
                async with deadline(_CLOSE_SECONDS_MAX, "closing connections to CloudStack"):
                    await session.close()

    def _order(self) -> tuple[int, ...]:
        count = len(self._endpoints)
        return tuple((self._answered + step) % count for step in range(count))

    async def _exchange(
        self, method: str, index: int, command: str, params: Mapping[str, str]
    ) -> Row:
        """One request to one endpoint; every trouble of the library becomes one of ours.

        Troubles are raised `from None` where aiohttp's text could hold the URL: it is signed.
        """
        url = self._endpoints[index]
        where = f"{url.host}:{url.port}"
        is_connected = SimpleNamespace(value=False)
        seconds = self._settings.request_timeout
        try:
            async with asyncio.timeout(seconds), self._slots:
                await self._turn()
                session = self._session(method)
                form = self._form(command, params)
                return await self._roundtrip(session, url, command, form, is_connected)
        except TimeoutError:
            raise TimedOut(
                f"{where}: {command} was not answered within {seconds:g} s",
                maybe_sent=is_connected.value,
            ) from None
        except TransportError as trouble:
            raise _retold(trouble, f"{where}: {trouble}") from trouble.__cause__
        except aiohttp.ClientConnectorError as trouble:
            raise Unreachable(_no_connect(where, trouble), maybe_sent=is_connected.value) from None
        except (aiohttp.ClientPayloadError, aiohttp.ClientResponseError) as trouble:
            raise Garbled(
                f"{where}: the answer to {command} broke off or is no HTTP"
                f" ({type(trouble).__name__})",
                maybe_sent=is_connected.value,
            ) from None
        except (aiohttp.ClientError, OSError) as trouble:
            raise Unreachable(
                f"{where}: the connection broke before {command} was answered"
                f" ({type(trouble).__name__})",
                maybe_sent=is_connected.value,
            ) from None

    async def _roundtrip(
        self,
        session: aiohttp.ClientSession,
        url: URL,
        command: str,
        form: str,
        is_connected: SimpleNamespace,
    ) -> Row:
        if session is self._writes:
            request = session.post(
                url,
                data=form.encode(),
                headers={"Content-Type": "application/x-www-form-urlencoded"},
                allow_redirects=False,
                trace_request_ctx=is_connected,
            )
        else:
            request = session.get(
                URL(f"{url}?{form}", encoded=True),
                allow_redirects=False,
                trace_request_ctx=is_connected,
            )
        async with request as response:
            body = await self._body(response, command)
            return read_reply(
                command,
                status=response.status,
                content_type=response.content_type,
                body=body,
                clock_note=self._clock_note(response.headers.get("Date")),
            )

    async def _body(self, response: aiohttp.ClientResponse, command: str) -> bytes:
        """The body as far as it is allowed to go, counted after any decompression."""
        limit = self._settings.reply_bytes_max
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > limit:
                response.close()
                raise Garbled(f"the answer to {command} is longer than {limit} bytes")
        return bytes(body)

    def _form(self, command: str, params: Mapping[str, str]) -> str:
        try:
            secret_key = self._settings.secret_key()
        except OSError as trouble:
            raise Unreachable(
                f"the secret key cannot be read: {trouble}", maybe_sent=False
            ) from trouble
        return signed_form(
            {**params, "command": command},
            api_key=self._settings.api_key,
            secret_key=secret_key,
            expires_at=self._clock.now() + timedelta(seconds=self._settings.expires_in),
        )

    async def _turn(self) -> None:
        """Wait for this request's turn: a bucket that fills at the rate and holds one second."""
        rate = self._settings.rate_per_second
        now = self._clock.monotonic()
        self._turn_at = max(self._turn_at, now - 1.0) + 1.0 / rate
        if self._turn_at > now:
            await self._clock.sleep(self._turn_at - now)

    def _session(self, method: str) -> aiohttp.ClientSession:
        if self._is_closed:
            raise Unreachable("the connection to CloudStack has been closed", maybe_sent=False)
        if self._reads is None or self._writes is None:
            tls = self._tls()
            limit = self._settings.concurrency_max
            self._reads = _open_session(
                aiohttp.TCPConnector(ssl=tls, limit=limit, keepalive_timeout=_KEEP_SECONDS)
            )
            self._writes = _open_session(
                aiohttp.TCPConnector(ssl=tls, limit=limit, force_close=True)
            )
        return self._writes if method == "POST" else self._reads

    def _tls(self) -> ssl.SSLContext:
        ca_file = self._settings.ca_file
        try:
            context = ssl.create_default_context(cafile=ca_file)
        except OSError as trouble:
            raise Unreachable(
                f"the CA file {ca_file} cannot be used: {trouble}", maybe_sent=False
            ) from trouble
        if not self._settings.verify_tls:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _clock_note(self, date: str | None) -> str:
        """How far the server's clock is from ours, as far as its Date header tells."""
        try:
            told = parsedate_to_datetime(date or "")
            theirs = told.replace(tzinfo=UTC) if told.tzinfo is None else told
            return _skew(theirs, self._clock.now())
        except (ValueError, OverflowError):
            return ""


def _no_connect(where: str, trouble: aiohttp.ClientConnectorError) -> str:
    """Why a connect failed, in the system's words; for TLS only aiohttp's own text says all."""
    if isinstance(trouble, aiohttp.ClientSSLError):
        return str(trouble)
    error = trouble.os_error
    number = error.errno or 0
    words = os.strerror(number) if number > 0 else error.strerror or error  # DNS: below zero
    return f"Cannot connect to {where}: {words}"


def _skew(theirs: datetime, ours: datetime) -> str:
    offset = theirs - ours
    if abs(offset) < _SKEW_WORTH_TELLING:
        return "the server's clock agrees with ours"
    side = "ahead of" if offset > timedelta() else "behind"
    return f"the server's clock is {abs(offset).total_seconds():.0f} s {side} ours"


async def _note_connection(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: object
) -> None:
    """From here on bytes of the request may have left: aiohttp writes them next."""
    context.trace_request_ctx.value = True


def _open_session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(_note_connection)
    trace.on_connection_reuseconn.append(_note_connection)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"stackward/{__version__}", "Accept": "application/json"},
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # ours are asyncio's
        trace_configs=[trace],
        trust_env=False,  # signed requests go to the management server, never to a proxy
    )


def _retold(trouble: TransportError, text: str) -> TransportError:
    """The same trouble in other words."""
    if isinstance(trouble, Refused):
        return Refused(text, kind=trouble.kind, code=trouble.code, maybe_sent=trouble.maybe_sent)
    return type(trouble)(text, maybe_sent=trouble.maybe_sent)


def _most_telling(troubles: list[TransportError]) -> TransportError:
    """Of several servers' troubles the one that says most, with the others in its text.

    An answer says more than a silence, and a silence more than a closed door.
    """
    if not troubles:
        return Unreachable("no management server is configured", maybe_sent=False)
    order = (Refused, Garbled, TimedOut, Unreachable)
    first = min(troubles, key=lambda trouble: order.index(type(trouble)))
    others = (str(trouble) for trouble in troubles if trouble is not first)
    return _retold(first, "; ".join((str(first), *others)))
