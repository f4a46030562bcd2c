"""Lists come whole, or say what is missing; they always end."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stackward.errors import Garbled, Refused
from stackward.model.identity import JobId, TargetId
from stackward.model.target import Inventory
from stackward.ports import JobReply, JobStatus
from tests.component.cloudstack.raw_server import (
    Heard,
    RawServer,
    client_of,
    http,
    refusal,
    scripted,
)


def zone(number: int) -> dict[str, object]:
    return {"id": f"zone-{number}", "name": f"z{number}", "allocationstate": "Enabled"}


def paged(
    rows: list[dict[str, object]], array: str = "zone", *, size_max: int = 500
) -> Callable[[Heard], object]:
    """Pages as CloudStack gives them."""

    def reply(heard: Heard) -> object:
        page, size = int(heard.params["page"]), int(heard.params["pagesize"])
        if size > size_max:
            text = f"Page size can't exceed max allowed page size value: {size_max}"
            return refusal(heard, 431, text)
        found = rows[(page - 1) * size : page * size]
        whole = {"count": len(rows)} if rows else {}
        return {**whole, array: found} if found else whole

    return reply


async def zones_of(reply: object, **settings: Any) -> tuple[Inventory, list[int]]:
    """The inventory of a cloud whose zones are listed so, and the pages that were asked for."""
    answer = scripted({"listZones": reply})
    async with RawServer(answer) as server, client_of(server, **settings) as client:
        inventory = await client.inventory()
    asked = [int(heard.params["page"]) for heard in server.heard if heard.command == "listZones"]
    return inventory, asked


async def test_an_empty_list_is_empty():
    inventory, asked = await zones_of({})
    assert inventory.zones == ()
    assert inventory.unreadable == ()
    assert asked == [1]


@pytest.mark.parametrize("count", [1, 499, 500, 501, 1000, 1203])
async def test_all_rows_come_however_many_pages_they_take(count):
    inventory, asked = await zones_of(paged([zone(number) for number in range(count)]))
    assert [each.id for each in inventory.zones] == [f"zone-{number}" for number in range(count)]
    assert inventory.unreadable == ()
    assert asked == list(range(1, -(-count // 500) + 1))


async def test_a_server_with_smaller_pages_is_asked_for_its_size():
    rows = [zone(number) for number in range(130)]
    inventory, asked = await zones_of(paged(rows, size_max=50))
    assert len(inventory.zones) == 130
    assert asked == [1, 1, 2, 3]


async def test_a_server_that_takes_no_page_size_at_all_is_left():
    def reply(heard):
        size = int(heard.params["pagesize"]) - 1
        return refusal(heard, 431, f"Page size can't exceed max allowed page size value: {size}")

    with pytest.raises(Garbled):
        await zones_of(reply)


async def test_a_server_that_gives_the_same_page_for_ever_does_not_hold_us():
    rows = [zone(number) for number in range(500)]
    inventory, asked = await zones_of({"count": 1200, "zone": rows})
    assert len(inventory.zones) == 500
    assert len(asked) == 6  # two pages, three times
    assert len(inventory.unreadable) == 1
    assert "700" in inventory.unreadable[0]


async def test_pages_without_end_are_given_up():
    def reply(heard):
        page = int(heard.params["page"])
        return {"count": 10**9, "zone": [zone(page * 1000 + number) for number in range(500)]}

    with pytest.raises(Garbled, match="does not end"):
        await zones_of(reply)


async def test_a_count_without_rows_is_a_hole_and_no_empty_cloud():
    inventory, _ = await zones_of({"count": 4})
    assert inventory.zones == ()
    assert len(inventory.unreadable) == 1


async def test_a_row_that_vanishes_between_pages_makes_the_list_be_read_again():
    rows = [zone(number) for number in range(501)]
    asked = []

    def reply(heard):
        asked.append(heard.params["page"])
        if len(asked) == 2:
            del rows[0]  # the last row moves to the first page, which has been read
        return paged(rows)(heard)

    inventory, _ = await zones_of(reply)
    assert {each.id for each in inventory.zones} == {f"zone-{n}" for n in range(1, 501)}
    assert inventory.unreadable == ()


async def test_a_list_that_never_stands_still_says_so():
    rows = [zone(number) for number in range(700)]

    def reply(heard):
        del rows[0]
        return paged(rows)(heard)

    inventory, _ = await zones_of(reply)
    assert any("changed while it was read" in hole for hole in inventory.unreadable)


@pytest.mark.parametrize("count", ["2", None, "many", True, -1])
async def test_a_strange_count_loses_no_row(count):
    inventory, _ = await zones_of({"count": count, "zone": [zone(1), zone(2)]})
    assert len(inventory.zones) == 2


@pytest.mark.parametrize(
    "row", [None, 7, "zone", [], {}, {"id": ["x"]}, {"id": 1.5}, {"id": "\x00" * 2000}]
)
async def test_a_row_that_cannot_be_read_is_named_and_the_others_stay(row):
    inventory, _ = await zones_of({"count": 3, "zone": [zone(1), row, zone(2)]})
    assert [each.id for each in inventory.zones] == ["zone-1", "zone-2"]
    assert len(inventory.unreadable) == 1


async def test_a_raw_control_character_in_a_name_is_no_trouble():
    body = b'{"listzonesresponse":{"count":1,"zone":[{"id":"z","name":"no\x07rth\xff"}]}}'
    inventory, _ = await zones_of(http(body))
    assert inventory.zones[0].name == "no\x07rth\ufffd"


async def test_a_lone_surrogate_in_a_name_does_not_get_in():
    inventory, _ = await zones_of({"count": 1, "zone": [{"id": "z", "name": "no\ud800rth"}]})
    assert inventory.zones[0].name.encode() == b"no?rth"


# --- jobs ------------------------------------------------------------------------------------

SINCE = datetime(2026, 3, 1, 0, 30, 0, 700_000, tzinfo=UTC)


def job(number: int, created: datetime | str | None, **fields: object) -> dict[str, object]:
    text = created.strftime("%Y-%m-%dT%H:%M:%S%z") if isinstance(created, datetime) else created
    return {
        "jobid": f"job-{number}",
        "jobstatus": 0,
        "cmd": "org.apache.cloudstack.api.command.admin.systemvm.RebootSystemVmCmd",
        "jobinstancetype": "SystemVm",
        "jobinstanceid": "vm-1",
        **({} if text is None else {"created": text}),
        **fields,
    }


async def jobs_of(
    rows: list[dict[str, object]], since: datetime = SINCE
) -> tuple[tuple[JobReply, ...], list[Heard]]:
    answer = scripted({"listAsyncJobs": paged(rows, "asyncjobs")})
    async with RawServer(answer) as server, client_of(server) as client:
        jobs = await client.jobs_since(since)
    return jobs, server.heard


async def test_a_day_more_is_asked_for_and_older_jobs_are_left_out():
    rows = [
        job(1, SINCE - timedelta(hours=1)),
        job(2, SINCE.replace(microsecond=0)),  # the server tells whole seconds
        job(3, SINCE + timedelta(minutes=1), jobstatus=1),
        job(4, None),  # nobody can say that it is older
    ]
    jobs, heard = await jobs_of(rows)
    assert [each.job_id for each in jobs] == ["job-2", "job-3", "job-4"]
    assert heard[0].params["startdate"] == "2026-02-28"
    assert heard[0].params["listall"] == "true"


async def test_a_job_tells_its_command_its_vm_and_how_it_stands():
    jobs, _ = await jobs_of([job(1, SINCE, jobstatus=2, jobresult={"errortext": "no host"})])
    (only,) = jobs
    assert only.status is JobStatus.FAILED
    assert only.command.endswith("RebootSystemVmCmd")
    assert only.target_id == TargetId("vm-1")
    assert only.created_at == SINCE.replace(microsecond=0)
    assert only.detail == "no host"


async def test_jobs_come_from_all_pages():
    jobs, _ = await jobs_of([job(number, SINCE) for number in range(501)])
    assert len(jobs) == 501


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0, JobStatus.PENDING),
        (1, JobStatus.SUCCEEDED),
        (2, JobStatus.FAILED),
        (3, JobStatus.CANCELLED),
        ("1", JobStatus.SUCCEEDED),
    ],
)
async def test_a_job_is_asked_for_by_its_id(status, expected):
    answer = scripted({"queryAsyncJobResult": {"jobid": "job-9", "jobstatus": status}})
    async with RawServer(answer) as server, client_of(server) as client:
        reply = await client.job(JobId("job-9"))
    assert reply.status is expected
    assert server.heard[0].params["jobid"] == "job-9"


@pytest.mark.parametrize("text", ["entity does not exist", "Unable to find a job by id 7"])
async def test_a_job_that_the_server_does_not_know_is_forgotten(text):
    answer = scripted({"queryAsyncJobResult": lambda heard: refusal(heard, 431, text)})
    async with RawServer(answer) as server, client_of(server) as client:
        assert (await client.job(JobId("job-9"))).status is JobStatus.FORGOTTEN


@pytest.mark.parametrize("code", [401, 432, 503, 530])
async def test_any_other_refusal_says_nothing_about_the_job(code):
    answer = scripted({"queryAsyncJobResult": lambda heard: refusal(heard, code, "no")})
    async with RawServer(answer) as server, client_of(server) as client:
        with pytest.raises(Refused):
            await client.job(JobId("job-9"))
