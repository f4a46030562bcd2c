"""The HTTP server as programs, people and foreign pages meet it; a real server on loopback."""

import asyncio
import gzip
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import aiohttp
import pytest
from tests.builders import NOW, a_sick_state, a_state, a_target
from tests.fakes.clock import FixedClock
from tests.fakes.log import MemoryLog
from tests.unit.telemetry.test_metrics import a_snapshot

from stackward.app.bulletin import Bulletin
from stackward.errors import JournalError
from stackward.model.entry import Entry, EntryKind, StoredEntry
from stackward.telemetry.metrics import (
    CONTENT_TYPE_OPENMETRICS,
    CONTENT_TYPE_TEXT,
    MetricsPage,
)
from stackward.web import server
from stackward.web.server import ReloadReport, WebServer, WebSettings


class ShortJournal:
    """Two rows, or trouble."""

    trouble = ""

    async def entries(self, entry_filter):
        if self.trouble:
            raise JournalError(self.trouble)
        rows = [
            StoredEntry(number, Entry(kind=EntryKind.STARTED, at=NOW, text=f"row {number}"))
            for number in (2, 1)
        ]
        return tuple(rows[: entry_filter.limit])


class Site:
    """A running server and what surrounds it."""

    def __init__(self, **settings):
        self.bulletin = Bulletin()
        self.clock = FixedClock(NOW)
        self.journal = ShortJournal()
        self.log = MemoryLog()
        self.reloads = 0
        self.report = ReloadReport()
        page = MetricsPage(python="3.11")
        self.server = WebServer(
            self.bulletin,
            cast("Any", self.journal),
            self.clock,
            self.log,
            lambda snapshot, openmetrics, names: page.render(
                snapshot, openmetrics=openmetrics, names=names
            ),
            self.reload,
            WebSettings(
                port=0,
                content_type_text=CONTENT_TYPE_TEXT,
                content_type_openmetrics=CONTENT_TYPE_OPENMETRICS,
                **settings,
            ),
        )

    async def reload(self):
        self.reloads += 1
        return self.report

    async def __aenter__(self):
        await self.server.start()
        self.session = aiohttp.ClientSession(
            f"http://127.0.0.1:{self.server.port}",
            auto_decompress=False,
            headers={"Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(self, *_):
        await self.session.close()
        await self.server.stop()

    async def get(self, path, **headers):
        async with self.session.get(path, headers=headers) as reply:
            return reply.status, reply.headers, await reply.read()

    async def post(self, path, **headers):
        async with self.session.post(path, headers=headers) as reply:
            return reply.status, (await reply.read()).decode()


@pytest.fixture
async def site():
    async with Site() as running:
        yield running


async def test_before_the_first_round_it_says_so(site):
    assert (await site.get("/-/healthy"))[0] == 200
    assert (await site.get("/-/ready"))[0] == 503
    assert (await site.get("/api/v1/status"))[0] == 503
    assert b"no round was completed" in (await site.get("/"))[2]
    assert (await site.get("/metrics"))[0] == 200


async def test_it_is_ready_after_the_first_inventory(site):
    site.bulletin.publish(replace(a_snapshot(), is_ready=False))
    assert (await site.get("/-/ready"))[0] == 503
    site.bulletin.publish(a_snapshot())
    assert (await site.get("/-/ready"))[0] == 200


async def test_a_loop_that_decides_no_more_is_not_healthy(site):
    site.bulletin.publish(a_snapshot())
    assert (await site.get("/-/healthy"))[0] == 200
    site.clock.moment = NOW + timedelta(seconds=61)
    assert (await site.get("/-/healthy"))[0] == 503


async def test_metrics_come_in_the_form_that_was_asked_for(site):
    site.bulletin.publish(a_snapshot(a_state("v-2-VM")))
    _, headers, body = await site.get("/metrics")
    assert headers["Content-Type"] == CONTENT_TYPE_TEXT
    assert b"stackward_system_vm_verdict" in body
    _, headers, body = await site.get(
        "/metrics", Accept="application/openmetrics-text; version=1.0.0"
    )
    assert headers["Content-Type"] == CONTENT_TYPE_OPENMETRICS
    assert body.endswith(b"# EOF\n")


async def test_metrics_are_packed_for_those_who_can_unpack(site):
    site.bulletin.publish(a_snapshot(a_state("v-2-VM")))
    _, headers, body = await site.get("/metrics", **{"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip"
    assert b"stackward_build_info" in gzip.decompress(body)


async def test_a_new_round_is_a_new_page(site):
    site.bulletin.publish(a_snapshot())
    await site.get("/metrics")
    site.bulletin.publish(replace(a_snapshot(), round_number=8))
    assert b"stackward_rounds_total 8" in (await site.get("/metrics"))[2]


async def test_status_shows_every_vm_in_json(site):
    site.bulletin.publish(a_snapshot(a_state("v-2-VM"), a_sick_state("s-1-VM")))
    status, _, body = await site.get("/api/v1/status")
    assert status == 200
    assert {row["name"] for row in json.loads(body)["vms"]} == {"v-2-VM", "s-1-VM"}


async def test_one_vm_is_found_by_name_and_by_id(site):
    state = a_state("v-2-VM")
    site.bulletin.publish(a_snapshot(state))
    for name in ("v-2-VM", state.target.id):
        status, _, body = await site.get(f"/api/v1/vms/{name}")
        assert (status, json.loads(body)["row"]["name"]) == (200, "v-2-VM")
    assert (await site.get("/api/v1/vms/nobody"))[0] == 404
    assert (await site.get("/vm/nobody"))[0] == 404


async def test_the_page_escapes_what_comes_from_outside(site):
    target = a_target("v-2-VM", zone_name="<script>alert(1)</script>")
    site.bulletin.publish(a_snapshot(a_state("v-2-VM", target=target)))
    _, headers, body = await site.get("/")
    assert b"<script>" not in body
    assert b"&lt;script&gt;" in body
    assert "default-src 'none'" in headers["Content-Security-Policy"]


async def test_a_vm_has_a_page_of_its_own(site):
    site.bulletin.publish(a_snapshot(a_sick_state("s-1-VM")))
    status, _, body = await site.get("/vm/s-1-VM")
    assert status == 200
    assert b"s-1-VM" in body


async def test_the_journal_is_shown_newest_first_and_bounded(site):
    _, _, body = await site.get("/api/v1/journal?limit=1")
    assert [row["sequence"] for row in json.loads(body)["entries"]] == [2]


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=5000", "limit=x", "kind=nonsense", "after=-1"),
        f"after={2**63}",
        f"limit={'9' * 3000}",
    ],
)
async def test_a_bad_query_is_told(site, query):
    assert (await site.get(f"/api/v1/journal?{query}"))[0] == 400


async def test_a_journal_in_trouble_is_told(site):
    site.journal.trouble = "the disk is full"
    status, _, body = await site.get("/api/v1/journal")
    assert (status, json.loads(body)["error"]) == (503, "the disk is full")


async def test_reload_is_off_by_default(site):
    assert (await site.post("/-/reload"))[0] == 403
    assert site.reloads == 0


async def test_reload_works_where_it_was_asked_for():
    async with Site(enable_lifecycle=True) as site:
        assert (await site.post("/-/reload"))[0] == 200
        assert site.reloads == 1


async def test_a_bad_configuration_is_told_and_refused():
    async with Site(enable_lifecycle=True) as site:
        site.report = ReloadReport(("stackward.yaml:3: mode: not a mode",))
        status, text = await site.post("/-/reload")
        assert status == 500
        assert "not a mode" in text


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}]
)
async def test_reload_refuses_a_foreign_page(headers):
    async with Site(enable_lifecycle=True) as site:
        assert (await site.post("/-/reload", **headers))[0] == 403
        assert site.reloads == 0


async def test_there_is_no_other_way_to_write(site):
    site.bulletin.publish(a_snapshot())
    for path in ("/", "/metrics", "/api/v1/status", "/api/v1/plan", "/api/v1/journal"):
        assert (await site.post(path))[0] == 405


async def test_those_who_hold_connections_open_take_no_more_than_their_share(site, monkeypatch):
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 5)
    site.bulletin.publish(a_snapshot())
    async with AsyncExitStack() as stack:
        held = []
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
            stack.callback(writer.close)
            writer.write(b"GET / HTTP/1.1\r\nHo")
            held.append(reader)
        async with asyncio.timeout(20):
            turned_away = [reader for reader in held[5:] if await _is_ended(reader)]
        assert len(turned_away) == 15
        assert not any(reader.at_eof() for reader in held[:5])
    async with asyncio.timeout(20):
        while not await _answers(site):
            await asyncio.sleep(0.05)


async def _is_ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read(1) == b""
    except ConnectionError:
        return True


async def _answers(site) -> bool:
    try:
        status, _, _ = await site.get("/-/healthy")
    except aiohttp.ClientError:
        return False
    return bool(status == 200)
