"""Whoever answers in the database's place: one clear kind of trouble, in time, and no password."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from stackward.errors import Garbled, RefusalKind, Refused, TimedOut, TransportError, Unreachable
from stackward.transports.clock import SystemClock
from stackward.transports.database import CloudStackDatabase, DatabaseSettings
from tests.component.cloudstack.raw_server import refusing_url, settle

PASSWORD = "the-database-password"
WITHIN = 20.0
SHORT = 0.5
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def packet(number: int, payload: bytes) -> bytes:
    return struct.pack("<I", len(payload))[:3] + bytes([number]) + payload


def greeting(plugin: bytes = b"mysql_native_password") -> bytes:
    """What a server without TLS says first."""
    capabilities = 0x000FF7FF & ~0x0800  # everything old, PLUGIN_AUTH, and no SSL
    return packet(
        0,
        b"\x0a5.7.40\x00"
        + struct.pack("<I", 7)
        + b"saltsalt\x00"
        + struct.pack("<H", capabilities & 0xFFFF)
        + b"\x21"
        + struct.pack("<H", 2)
        + struct.pack("<H", capabilities >> 16)
        + b"\x15"
        + bytes(10)
        + b"saltsaltsalt\x00"
        + plugin
        + b"\x00",
    )


def says(*parts: bytes, then_listens: bool = False) -> Talk:
    """Say this, then close; or stay until the other side closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if then_listens:
            await reader.read()

    return talk


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def never_ready(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(greeting())
    await reader.read(4096)
    await reader.read()


async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in greeting() * 100:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


@asynccontextmanager
async def stranger(talk: Talk) -> AsyncIterator[int]:
    """The port of a server that talks so."""
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await talk(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await settle()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def trouble_of(port: int, timeout: float = WITHIN) -> TransportError:
    settings = DatabaseSettings(
        host="127.0.0.1", port=port, user="watcher", password=lambda: PASSWORD, timeout=timeout
    )
    database = CloudStackDatabase(settings, SystemClock())
    async with asyncio.timeout(WITHIN + 5):
        with pytest.raises(TransportError) as caught:
            await database.agents()
    await database.close()
    return caught.value


@pytest.mark.parametrize("talk", [silent, never_ready, drips])
async def test_a_server_that_does_not_come_to_the_point_ends_in_time(talk):
    async with stranger(talk) as port:
        assert isinstance(await trouble_of(port, SHORT), TimedOut)


@pytest.mark.parametrize(
    ("talk", "kinds"),
    [
        (says(), (Unreachable,)),
        (says(b"SSH-2.0-OpenSSH_9.2p1\r\n"), (Garbled, Unreachable)),
        (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), (Garbled, Unreachable)),
        (says(packet(0, b""), then_listens=True), (Garbled,)),
        (says(packet(0, b"\x0anonsense"), then_listens=True), (Garbled,)),
        (says(packet(0, bytes(range(256))), then_listens=True), (Garbled,)),
        (says(packet(9, b"\x0a5.7\x00"), then_listens=True), (Garbled, Unreachable)),
        (says(greeting()), (Unreachable,)),
        (says(greeting(), packet(7, b"\x00"), then_listens=True), (Garbled,)),
    ],
)
async def test_what_is_no_mysql_server_is_told_as_such(talk, kinds):
    async with stranger(talk) as port:
        assert type(await trouble_of(port)) in kinds


async def test_a_server_that_is_full_says_so():
    text = b"\xff" + struct.pack("<H", 1040) + b"#08004Too many connections"
    async with stranger(says(packet(0, text))) as port:
        trouble = await trouble_of(port)
    assert isinstance(trouble, Refused)
    assert trouble.kind is RefusalKind.UNAVAILABLE
    assert "Too many connections" in str(trouble)


async def test_nobody_there_is_unreachable():
    with refusing_url() as url:
        port = int(url.split(":")[2].split("/")[0])
        assert isinstance(await trouble_of(port), Unreachable)


@pytest.mark.parametrize(
    ("plugin", "switch"),
    [(b"mysql_native_password", b"\xfemysql_clear_password\x00"), (b"mysql_clear_password", b"")],
)
async def test_the_password_is_not_sent_in_clear_text_to_whoever_asks(plugin, switch):
    heard = b""

    async def asks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        writer.write(greeting(plugin))
        heard += await reader.read(4096)
        writer.write(packet(2, switch))
        heard += await reader.read()

    async with stranger(asks) as port:
        trouble = await trouble_of(port)
    assert isinstance(trouble, Refused)
    assert trouble.kind is RefusalKind.AUTHENTICATION
    assert PASSWORD.encode() not in heard


async def test_a_server_that_asks_for_one_of_our_files_gets_none():
    wants_a_file = packet(1, b"\xfb/etc/hostname")

    async def talk(reader, writer):
        writer.write(greeting())
        await reader.read(4096)
        writer.write(packet(2, b"\x00\x00\x00\x02\x00\x00\x00"))
        await reader.read(4096)
        writer.write(wants_a_file)
        await reader.read()

    async with stranger(talk) as port:
        assert isinstance(await trouble_of(port), Garbled)


def test_no_password_shows_in_the_settings():
    settings = DatabaseSettings(host="db", user="watcher", password=lambda: PASSWORD)
    assert PASSWORD not in repr(settings)
