"""Whatever a server does, a request ends in one clear kind of trouble and in time."""

import asyncio
import json
import traceback
import tracemalloc
import zlib
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from stackward.errors import Garbled, RefusalKind, Refused, TimedOut, TransportError, Unreachable
from stackward.model.identity import JobId, TargetId
from stackward.transports.clock import SystemClock
from tests.component.cloudstack.raw_server import (
    API_KEY,
    SECRET,
    WITHIN,
    Answer,
    Heard,
    RawServer,
    answer_json,
    client_of,
    http,
    refusal,
    refusing_url,
    scripted,
    settings_for,
)

SHORT = 0.5
MIB = 1024 * 1024
CREDENTIALS_TEXT = "unable to verify user credentials and/or request signature"


async def trouble_of(answer: Answer, **settings: Any) -> TransportError:
    """What asking for the inventory raises at a server that answers so."""
    async with RawServer(answer) as server, client_of(server, **settings) as client:
        async with asyncio.timeout(WITHIN):
            with pytest.raises(TransportError) as caught:
                await client.inventory()
    return caught.value


def fixed(data: bytes) -> Answer:
    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return answer


async def silence(heard, writer):
    await asyncio.Event().wait()


async def half_a_reply(heard, writer):
    whole = answer_json(heard, {"count": 1, "zone": [{"id": "z", "name": "north"}]})
    writer.write(whole[: len(whole) - 20])
    writer.close()


async def half_a_chunk(heard, writer):
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'ff\r\n{"listzonesresponse":'
    )
    writer.close()


async def no_reply(heard, writer):
    writer.close()


async def slow_drip(heard, writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def slow_head(heard, writer):
    writer.write(b"HTTP/1.1 200 OK\r\n")
    number = 0
    while True:
        number += 1
        writer.write(f"X-{number % 90}: 1\r\n".encode())
        await writer.drain()
        await asyncio.sleep(0.1)


HTML = http(b"<html><body>Welcome to the proxy</body></html>", Content_Type="text/html")
DEEP = http(b'{"listzonesresponse":' + b"[" * 200_000)
TROUBLES = [
    pytest.param(half_a_reply, Garbled, id="half-a-reply"),
    pytest.param(half_a_chunk, Garbled, id="half-a-chunk"),
    pytest.param(no_reply, Unreachable, id="no-reply"),
    pytest.param(fixed(HTML), Garbled, id="html"),
    pytest.param(fixed(DEEP), Garbled, id="deeply-nested"),
    pytest.param(fixed(http(b"")), Garbled, id="empty"),
    pytest.param(fixed(http(b"{}")), Garbled, id="somebody-else's-json"),
    pytest.param(fixed(http(b'{"listzonesresponse":null}')), Garbled, id="null-root"),
    pytest.param(fixed(http(b'{"listzonesresponse":[]}')), Garbled, id="list-root"),
    pytest.param(
        fixed(http(b'{"listzonesresponse":{"count":1,"zone":{"id":"z"}}}')), Garbled, id="no-list"
    ),
    pytest.param(fixed(http(b"1" * 10_000)), Garbled, id="a-huge-number"),
    pytest.param(fixed(b"SSH-2.0-OpenSSH_9.2\r\n"), Garbled, id="not-http"),
    pytest.param(fixed(http(b"bad gateway", status=502)), Garbled, id="bad-gateway"),
    pytest.param(fixed(http(b"busy", status=503)), Refused, id="proxy-without-server"),
    pytest.param(silence, TimedOut, id="silence"),
    pytest.param(slow_drip, TimedOut, id="slow-drip"),
    pytest.param(slow_head, TimedOut, id="slow-head"),
]


@pytest.mark.parametrize(("answer", "kind"), TROUBLES)
async def test_every_bad_answer_is_one_kind_of_trouble_that_gives_no_key_away(answer, kind):
    trouble = await trouble_of(answer, request_timeout=SHORT if kind is TimedOut else WITHIN)
    assert type(trouble) is kind
    told = "".join(traceback.format_exception(trouble))
    assert API_KEY not in told
    assert SECRET not in told
    assert "signature=" not in told


async def test_a_reply_without_end_is_cut_at_the_limit():
    sent = 0

    async def flood(heard, writer):
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        for _ in range(200):
            writer.write(b" " * MIB)
            await writer.drain()
            sent += 1

    trouble = await trouble_of(flood, reply_bytes_max=2 * MIB)
    assert isinstance(trouble, Garbled)
    assert "2097152" in str(trouble)
    assert sent < 100  # the rest of it stayed at the server


async def test_a_gzip_bomb_is_counted_by_what_comes_out_of_it():
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join(packer.compress(bytes(MIB)) for _ in range(200)) + packer.flush()

    tracemalloc.start()
    try:
        trouble = await trouble_of(
            fixed(http(bomb, Content_Encoding="gzip")), reply_bytes_max=2 * MIB
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(trouble, Garbled)
    assert peak < 64 * MIB


async def test_a_compressed_reply_is_read():
    async def answer(heard, writer):
        packer = zlib.compressobj(wbits=31)
        body = json.dumps({f"{heard.command.lower()}response": {}}).encode()
        writer.write(http(packer.compress(body) + packer.flush(), Content_Encoding="gzip"))

    async with RawServer(answer) as server, client_of(server) as client:
        assert (await client.inventory()).targets == ()


async def test_a_server_that_takes_no_connection_has_certainly_not_been_sent_anything():
    with refusing_url() as url:
        async with client_of(url) as client:
            with pytest.raises(Unreachable) as caught:
                await client.reboot_system_vm(TargetId("vm"))
    assert not caught.value.maybe_sent


async def test_a_whole_listing_has_a_deadline_of_its_own():
    async def a_page_at_a_time(heard, writer):
        await asyncio.sleep(0.05)
        page = heard.params["page"]
        writer.write(answer_json(heard, {"count": 10_000, "zone": [{"id": page, "name": page}]}))

    trouble = await trouble_of(a_page_at_a_time, listing_timeout=SHORT)
    assert isinstance(trouble, TimedOut)


async def test_a_closed_client_sends_nothing():
    async with RawServer(scripted({})) as server:
        client = client_of(server)
        await client.inventory()
        await client.close()
        asked = len(server.heard)
        with pytest.raises(Unreachable) as caught:
            await client.reboot_system_vm(TargetId("vm"))
        assert not caught.value.maybe_sent
        assert len(server.heard) == asked


# --- refusals ------------------------------------------------------------------------------------

GONE_TEXT = (
    "Invalid parameter id value=x due to incorrect long value format, or entity does not exist"
)
REFUSALS = [
    (400, "POST enforced", RefusalKind.PARAMETER),
    (401, CREDENTIALS_TEXT, RefusalKind.CREDENTIALS),
    (405, "method", RefusalKind.PARAMETER),
    (429, "slow down", RefusalKind.THROTTLED),
    (430, "malformed", RefusalKind.PARAMETER),
    (431, "Unable to execute API command due to missing parameter id", RefusalKind.PARAMETER),
    (431, GONE_TEXT, RefusalKind.GONE),
    (432, "The API does not exist or is not available", RefusalKind.NOT_ALLOWED),
    (503, "Maintenance or Shutdown has been initiated. No new jobs", RefusalKind.STANDING_DOWN),
    (
        530,
        "A shutdown has been triggered. Can not accept new jobs",
        RefusalKind.STANDING_DOWN,
    ),
    (530, "Internal error executing command", RefusalKind.INTERNAL),
    (531, "not permitted", RefusalKind.NOT_ALLOWED),
    (532, "limit", RefusalKind.NO_CAPACITY),
    (533, "capacity", RefusalKind.NO_CAPACITY),
    (534, "unavailable", RefusalKind.UNAVAILABLE),
    (535, "allocation", RefusalKind.NO_CAPACITY),
    (536, "in use", RefusalKind.IN_USE),
    (537, "rule", RefusalKind.IN_USE),
    (599, "something new", RefusalKind.OTHER),
]


@pytest.mark.parametrize(("code", "text", "kind"), REFUSALS)
async def test_every_code_of_cloudstack_has_its_kind(code, text, kind):
    answer = scripted({"rebootSystemVm": lambda heard: refusal(heard, code, text)})
    async with RawServer(answer) as server, client_of(server) as client:
        with pytest.raises(Refused) as caught:
            await client.reboot_system_vm(TargetId("vm"))
    assert caught.value.kind is kind
    assert caught.value.code == code
    assert text in str(caught.value)
    assert len(server.heard) == 1


async def test_a_refusal_under_the_anonymous_root_is_one_too():
    body = {"errorresponse": {"errorcode": 432, "errortext": "not for you"}}
    answer = fixed(http(json.dumps(body).encode(), status=432))
    trouble = await trouble_of(answer)
    assert isinstance(trouble, Refused)
    assert trouble.kind is RefusalKind.NOT_ALLOWED


@pytest.mark.parametrize(
    ("offset", "words"),
    [
        (timedelta(hours=1), "ahead of ours"),
        (timedelta(minutes=-20), "behind ours"),
        (timedelta(0), "agrees with ours"),
    ],
)
async def test_a_401_names_both_causes_and_how_far_the_clocks_are_apart(offset, words):
    async def answer(heard, writer):
        date = format_datetime(SystemClock().now() + offset, usegmt=True)
        writer.write(refusal(heard, 401, CREDENTIALS_TEXT, Date=date))

    trouble = await trouble_of(answer)
    assert isinstance(trouble, Refused)
    assert trouble.kind is RefusalKind.CREDENTIALS
    assert "wrong api key or secret key" in str(trouble)
    assert "clocks that differ" in str(trouble)
    assert words in str(trouble)


@pytest.mark.parametrize("date", [None, "yesterday", "Mon, 99 Jan 2020 00:00:00 GMT"])
async def test_a_401_without_a_usable_date_says_so(date):
    headers = {} if date is None else {"Date": date}
    trouble = await trouble_of(
        scripted({"listZones": lambda heard: refusal(heard, 401, CREDENTIALS_TEXT, **headers)})
    )
    assert "did not tell its time" in str(trouble)


async def test_a_redirect_is_refused_and_not_followed():
    async with RawServer(scripted({})) as elsewhere:
        moved = fixed(http(b"", status=302, Location=elsewhere.url))
        trouble = await trouble_of(moved)
        assert isinstance(trouble, Refused)
        assert trouble.code == 302
        assert elsewhere.heard == []


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with RawServer(scripted({})) as server, client_of(server) as client:
        assert (await client.inventory()).targets == ()


def test_no_key_shows_in_the_settings():
    shown = repr(settings_for("https://ms1.example:8443/client/api"))
    assert API_KEY not in shown
    assert SECRET not in shown


@pytest.mark.parametrize(
    "document",
    [{"jobid": None}, {}, {"jobid": ["a"]}, {"jobid": {"x": 1}}, {"jobid": True}],
)
async def test_a_reboot_without_a_readable_job_is_garbled_and_may_have_been_sent(document):
    answer = scripted({"rebootSystemVm": document})
    async with RawServer(answer) as server, client_of(server) as client:
        with pytest.raises(Garbled) as caught:
            await client.reboot_system_vm(TargetId("vm"))
    assert caught.value.maybe_sent


@pytest.mark.parametrize(
    "document",
    [{}, {"jobstatus": "soon"}, {"jobstatus": [1]}, {"jobstatus": 1, "jobid": "another"}],
)
async def test_a_job_that_cannot_be_read_is_garbled(document):
    answer = scripted({"queryAsyncJobResult": document})
    async with RawServer(answer) as server, client_of(server) as client:
        with pytest.raises(Garbled):
            await client.job(JobId("job-1"))
