"""A management server on loopback that says exactly what a test wants, byte by byte."""

import asyncio
import json
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from stackward.ports import Clock
from stackward.transports.clock import SystemClock
from stackward.transports.cloudstack import CloudStackApi, CloudStackSettings

API_KEY = "the-api-key"
SECRET = "the-secret-key"
WITHIN = 20.0  # what "in time" means on a busy machine


@dataclass(frozen=True)
class Heard:
    """One request as it came in; `connection` counts the connections of the server."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    connection: int

    @property
    def command(self) -> str:
        return self.params.get("command", "")


Answer = Callable[[Heard, asyncio.StreamWriter], Awaitable[None]]


async def settle() -> None:
    """Let connections that have just been accepted get as far as their handler."""
    for _ in range(10):
        await asyncio.sleep(0)


class RawServer:
    """`async with RawServer(answer) as server:`; `server.heard` holds all requests."""

    def __init__(self, answer: Answer, *, tls: ssl.SSLContext | None = None) -> None:
        self._answer = answer
        self._tls = tls
        self._tasks: set[asyncio.Task[Any]] = set()
        self.heard: list[Heard] = []
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        port = self._server.sockets[0].getsockname()[1]
        scheme = "https" if self._tls else "http"
        self.url = f"{scheme}://127.0.0.1:{port}/client/api"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await settle()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        try:
            while (heard := await self._read(reader, number)) is not None:
                self.heard.append(heard)
                await self._answer(heard, writer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has gone, or the test is over
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _read(self, reader: asyncio.StreamReader, number: int) -> Heard | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        method, target, _ = first.split(" ")
        url = urlsplit(target)
        params = dict(parse_qsl(url.query or body.decode(), keep_blank_values=True))
        return Heard(method, url.path, params, headers, number)


@contextmanager
def refusing_url() -> Iterator[str]:
    """A URL at which connections are refused: bound, so nobody else gets it, and not listening."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{nobody.getsockname()[1]}/client/api"


def http(body: bytes, *, status: int = 200, **headers: str) -> bytes:
    """A whole HTTP answer; headers by name with `_` for `-`."""
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    fields.update({name.replace("_", "-"): value for name, value in headers.items()})
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Whatever\r\n{lines}\r\n".encode() + body


def answer_json(heard: Heard, document: object, *, status: int = 200, **headers: str) -> bytes:
    """The document under the root key of the command."""
    root = f"{heard.command.lower()}response"
    return http(json.dumps({root: document}).encode(), status=status, **headers)


def refusal(heard: Heard, code: int, text: str, **headers: str) -> bytes:
    document = {"uuidList": [], "errorcode": code, "cserrorcode": 4350, "errortext": text}
    return answer_json(heard, document, status=code, **headers)


def scripted(replies: Mapping[str, object]) -> Answer:
    """A server of fixed answers by command: a document, a function of the request, or bytes."""

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        reply = replies.get(heard.command, {})
        if callable(reply):
            reply = reply(heard)
        writer.write(reply if isinstance(reply, bytes) else answer_json(heard, reply))

    return answer


def settings_for(*urls: str, **changes: Any) -> CloudStackSettings:
    given = {"request_timeout": WITHIN, "rate_per_second": 10_000.0, **changes}
    return CloudStackSettings(endpoints=urls, api_key=API_KEY, secret_key=lambda: SECRET, **given)


def client_of(
    *servers: RawServer | str, clock: Clock | None = None, **changes: Any
) -> CloudStackApi:
    urls = [server if isinstance(server, str) else server.url for server in servers]
    return CloudStackApi(settings_for(*urls, **changes), clock or SystemClock())
