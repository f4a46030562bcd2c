"""Commands that ask the daemon, against the real web server on loopback."""

import asyncio
import re

import pytest

from stackward.cli.exits import Exit
from tests.builders import a_sick_state, a_state
from tests.component.web.test_server import Site
from tests.unit.telemetry.test_metrics import a_snapshot

pytestmark = pytest.mark.timeout(120)

ESCAPE = re.compile(r"\x1b")
ASKING = (("status",), ("explain", "s-1-VM"), ("plan",), ("journal",))


@pytest.fixture
async def ask(shell):
    """Run a command against a daemon with one sick VM and one that is well."""
    async with Site() as site:
        url = f"http://127.0.0.1:{site.server.port}"
        site.bulletin.publish(a_snapshot(a_sick_state("s-1-VM"), a_state("v-2-VM")))

        async def run(*arguments):
            return await asyncio.to_thread(lambda: shell(*arguments, "--url", url))

        run.site = site  # type: ignore[attr-defined]
        yield run


@pytest.mark.parametrize("command", ASKING)
async def test_for_people_it_is_text_without_colours(ask, command):
    said = await ask(*command)
    assert said.code == Exit.DONE
    assert said.out.strip()
    assert not ESCAPE.search(said.out)
    assert said.err == ""


@pytest.mark.parametrize("command", ASKING)
async def test_for_programs_it_is_what_the_daemon_says(ask, command):
    said = await ask(*command, "--format", "json")
    assert said.code == Exit.DONE
    assert isinstance(said.json, dict)


async def test_status_names_every_vm_and_the_cause(ask):
    said = await ask("status")
    assert "s-1-VM" in said.out
    assert "v-2-VM" in said.out
    rows = (await ask("status", "-f", "json")).json["vms"]
    assert {row["name"] for row in rows} == {"s-1-VM", "v-2-VM"}


async def test_explain_says_what_is_known_of_one_vm(ask):
    said = await ask("explain", "s-1-VM")
    assert "s-1-VM" in said.out.splitlines()[0]
    assert len(said.out.splitlines()) > 3


async def test_a_vm_that_nobody_knows_is_told(ask):
    for name in ("nobody", "../status", "a b&c"):
        said = await ask("explain", name)
        assert said.code == Exit.FAILED
        assert said.err.startswith("stackward: ")
        assert "Traceback" not in said.err


async def test_the_address_may_come_from_the_environment(ask, shell, monkeypatch):
    monkeypatch.setenv("STACKWARD_URL", f"http://127.0.0.1:{ask.site.server.port}/")
    assert (await asyncio.to_thread(shell, "plan")).code == Exit.DONE


async def test_a_journal_in_trouble_is_what_the_daemon_says_no_with(ask):
    ask.site.journal.trouble = "the disk is full"
    said = await ask("journal")
    assert (said.code, "the disk is full" in said.err) == (Exit.FAILED, True)


@pytest.mark.parametrize("command", ASKING)
def test_without_a_daemon_it_says_that_nobody_answers(shell, command):
    said = shell(*command, "--url", "http://127.0.0.1:1")
    assert said.code == Exit.NO_ANSWER
    assert "no daemon answers at http://127.0.0.1:1" in said.err


def test_what_is_no_http_address_is_told(shell):
    for url in ("ftp://127.0.0.1", "127.0.0.1:9787", "file:///etc/passwd"):
        assert shell("status", "--url", url).code == Exit.FAILED


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 Oh\r\nContent-Length: 3\r\n\r\noh!",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
        b"",
    ],
)
async def test_a_stranger_at_the_address_is_told_and_never_a_traceback(shell, answer):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    said = await asyncio.to_thread(shell, "status", "--url", f"http://127.0.0.1:{port}")
    server.close()
    await server.wait_closed()
    assert said.code in (Exit.FAILED, Exit.NO_ANSWER)
    assert said.err.startswith("stackward: ")
