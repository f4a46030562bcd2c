"""What changes state leaves this machine at most once, and over a connection of its own."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import pytest

from stackward.errors import Garbled, RefusalKind, Refused, TimedOut, TransportError, Unreachable
from stackward.model.identity import JobId, TargetId
from tests.component.cloudstack.raw_server import (
    Heard,
    RawServer,
    answer_json,
    client_of,
    http,
    refusal,
    refusing_url,
    scripted,
)

Trouble = TypeVar("Trouble", bound=TransportError)
VM = TargetId("vm-1")
ACCEPTED = scripted({"rebootSystemVm": {"jobid": "job-1"}})


async def closes_without_a_word(heard, writer):
    writer.close()


async def resets(heard, writer):
    writer.transport.abort()


async def half_an_answer(heard, writer):
    writer.write(answer_json(heard, {"jobid": "job-1"})[:-5])
    writer.close()


async def closes_after_each_answer(heard, writer):
    """Says keep-alive, answers, and closes all the same: the next request finds it gone."""
    writer.write(answer_json(heard, {"jobid": "job-1"}))
    await writer.drain()
    writer.close()


async def reboot_refused(kind: type[Trouble], *servers: RawServer, **settings: Any) -> Trouble:
    async with client_of(*servers, **settings) as client:
        with pytest.raises(kind) as caught:
            await client.reboot_system_vm(VM)
    return caught.value


def reboots(server: RawServer) -> list[Heard]:
    return [heard for heard in server.heard if heard.command == "rebootSystemVm"]


async def test_a_reboot_is_a_signed_form_sent_by_post_to_one_vm():
    async with RawServer(ACCEPTED) as server, client_of(server) as client:
        assert await client.reboot_system_vm(VM) == JobId("job-1")
    (heard,) = server.heard
    assert heard.method == "POST"
    assert heard.path == "/client/api"
    assert heard.params["id"] == VM
    assert heard.params["signatureversion"] == "3"
    assert "signature" in heard.params
    assert set(heard.params) == {
        "command", "id", "apikey", "response", "signatureversion", "expires", "signature",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(closes_without_a_word, Unreachable), (resets, Unreachable), (half_an_answer, Garbled)],
)
async def test_a_reboot_whose_answer_is_lost_is_not_repeated(answer, kind):
    async with RawServer(answer) as server, RawServer(ACCEPTED) as other:
        caught = await reboot_refused(TransportError, server, other)
    assert type(caught) is kind
    assert caught.maybe_sent
    assert len(server.heard) == 1
    assert other.heard == []


async def test_a_reboot_that_is_not_answered_in_time_is_not_repeated():
    async def silence(heard, writer):
        await asyncio.Event().wait()

    async with RawServer(silence) as server, RawServer(ACCEPTED) as other:
        caught = await reboot_refused(TimedOut, server, other, request_timeout=0.5)
    assert caught.maybe_sent
    assert len(server.heard) == 1
    assert other.heard == []


async def test_reboots_are_sent_once_each_though_the_peer_closes_kept_connections():
    async with RawServer(closes_after_each_answer) as server, client_of(server) as client:
        for _ in range(5):
            assert await client.reboot_system_vm(VM) == JobId("job-1")
    assert len(reboots(server)) == 5
    assert len({heard.connection for heard in reboots(server)}) == 5


async def test_a_reboot_never_rides_on_the_connection_of_a_read():
    replies = {"rebootSystemVm": {"jobid": "job-1"}, "queryAsyncJobResult": {"jobstatus": 0}}
    async with RawServer(scripted(replies)) as server, client_of(server) as client:
        for _ in range(3):
            await client.job(JobId("job-1"))
            await client.reboot_system_vm(VM)
    reads = {heard.connection for heard in server.heard if heard.method == "GET"}
    writes = [heard.connection for heard in server.heard if heard.method == "POST"]
    assert len(reads) == 1  # kept alive
    assert len(set(writes)) == 3
    assert not reads & set(writes)


async def test_a_reboot_goes_to_the_next_server_only_where_the_first_takes_no_connection():
    async with RawServer(ACCEPTED) as server:
        with refusing_url() as url:
            async with client_of(url, server) as client:
                assert await client.reboot_system_vm(VM) == JobId("job-1")
    assert len(reboots(server)) == 1


@pytest.mark.parametrize(
    ("code", "kind"), [(503, RefusalKind.STANDING_DOWN), (429, RefusalKind.THROTTLED)]
)
async def test_a_server_that_stands_down_has_said_no_and_nobody_else_is_asked(code, kind):
    no = scripted({"rebootSystemVm": lambda heard: refusal(heard, code, "no")})
    async with RawServer(no) as server, RawServer(ACCEPTED) as other:
        caught = await reboot_refused(Refused, server, other)
    assert caught.kind is kind
    assert len(server.heard) == 1
    assert other.heard == []


@pytest.mark.parametrize("status", [500, 502, 504])
async def test_a_proxy_that_lost_the_server_leaves_it_open_whether_the_reboot_was_taken(status):
    async def answer(heard, writer):
        writer.write(http(b"<html>proxy error</html>", status=status, Content_Type="text/html"))

    async with RawServer(answer) as server, client_of(server) as client:
        with pytest.raises(Garbled) as caught:
            await client.reboot_system_vm(VM)
    assert caught.value.maybe_sent
    assert len(server.heard) == 1


async def test_a_reboot_that_waits_for_a_free_slot_until_its_deadline_was_not_sent():
    reached = asyncio.Event()

    async def silence(heard, writer):
        reached.set()
        await asyncio.Event().wait()

    async with RawServer(silence) as server:
        client = client_of(server, concurrency_max=1, request_timeout=1.0)
        async with client, asyncio.TaskGroup() as group:
            blocking = group.create_task(trouble(client.reboot_system_vm(TargetId("first"))))
            await reached.wait()
            waiting = group.create_task(trouble(client.reboot_system_vm(TargetId("second"))))
    assert blocking.result().maybe_sent
    heard = [request.params["id"] for request in server.heard]
    # The slot may come free a moment before the deadline; then it was sent, and says so.
    assert waiting.result().maybe_sent == ("second" in heard)


async def trouble(request: Awaitable[JobId]) -> TimedOut:
    with pytest.raises(TimedOut) as caught:
        await request
    return caught.value
