"""Whatever bytes, rows and records come: every row is read or named, and nothing else is raised."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stackward.errors import Garbled, RefusalKind, Refused
from stackward.model.identity import JobId
from stackward.model.target import AgentState, CloudState, Target
from stackward.transports.cloud_words import read_moment
from stackward.transports.cloudstack_replies import Listing, read_each, read_reply
from stackward.transports.cloudstack_rows import (
    join_agents,
    read_agent_row,
    read_commands,
    read_host,
    read_job,
    read_target,
    read_zone,
    tells_agent_state,
    version_key,
)
from stackward.transports.database_rows import read_agent
from stackward.transports.database_rows import read_each as read_records
from stackward.transports.database_rows import read_target as read_target_record

no_hurry = settings(deadline=None)  # a busy machine is no bug

GOOD = {
    "id": "vm-1",
    "name": "s-1-VM",
    "systemvmtype": "secondarystoragevm",
    "zoneid": "zone-1",
    "state": "Running",
    "agentstate": "Up",
    "created": "2021-04-29T19:00:02+0000",
    "hypervisor": "KVM",
    "linklocalip": "169.254.1.2",
    "jobid": "job-1",
    "jobstatus": 0,
}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
# Rows near good ones: some fields replaced by anything, or taken away.
rows = st.builds(
    lambda changes, gone: {k: v for k, v in {**GOOD, **changes}.items() if k not in gone},
    st.dictionaries(st.sampled_from(sorted(GOOD)), json_values, max_size=3),
    st.sets(st.sampled_from(sorted(GOOD)), max_size=2),
)
READERS = [
    lambda row: read_target(row, is_agent_told=True),
    read_zone,
    read_host,
    read_job,
    read_agent_row,
]


@no_hurry
@given(st.lists(rows, max_size=5), st.sampled_from(READERS))
def test_every_row_is_read_or_named(found, read):
    values, holes = read_each(Listing("listSystemVms", tuple(found)), read)
    assert len(values) + len(holes) == len(found)
    for text in (*holes, *(value.name for value in values if isinstance(value, Target))):
        text.encode()  # nothing that a file or a page could not take


def test_rows_near_good_ones_are_read_and_named_both():
    read, named = 0, 0

    @settings(deadline=None, max_examples=200, database=None)
    @given(rows)
    def count(row):
        nonlocal read, named
        values, _ = read_each(
            Listing("listSystemVms", (row,)), lambda each: read_target(each, is_agent_told=True)
        )
        read, named = read + len(values), named + 1 - len(values)

    count()
    assert read >= 10
    assert named >= 10


@no_hurry
@given(st.lists(rows, max_size=4), st.lists(rows, max_size=4))
def test_joining_agents_keeps_every_row(found, agents):
    readable, _ = read_each(Listing("listHosts", tuple(agents)), read_agent_row)
    assert len(join_agents(found, readable)) == len(found)


@no_hurry
@given(st.lists(json_values, max_size=4))
def test_commands_come_out_of_anything(found):
    assert isinstance(read_commands(found), dict)


@no_hurry
@given(
    st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()),
    st.sampled_from([200, 204, 302, 401, 404, 431, 500, 502, 503, 530]),
)
def test_a_reply_is_read_refused_or_garbled(body, status):
    try:
        root = read_reply("listZones", status=status, content_type="text/html", body=body)
    except Garbled:
        assert status not in (302, 401, 404, 431, 503)
    except Refused:
        pass
    else:
        assert status == 200
        assert isinstance(root, dict)


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        ({"errorcode": "431", "errortext": "entity does not exist"}, RefusalKind.GONE, 431),
        ({"errorcode": [431], "errortext": None}, RefusalKind.INTERNAL, 530),
        ({"errorcode": None}, RefusalKind.INTERNAL, 530),
        ({"errorcode": True, "errortext": {"a": 1}}, RefusalKind.INTERNAL, 530),
    ],
)
def test_a_refusal_with_strange_fields_goes_by_the_http_status(error, kind, code):
    body = json.dumps({"listzonesresponse": error}).encode()
    with pytest.raises(Refused) as caught:
        read_reply("listZones", status=530, content_type="application/json", body=body)
    assert (caught.value.kind, caught.value.code) == (kind, code)


def test_a_servers_text_is_cut_and_stays_on_one_line():
    error = {"errorcode": 530, "errortext": "a\nb\r\n" + "x" * 10_000}
    body = json.dumps({"listzonesresponse": error}).encode()
    with pytest.raises(Refused) as caught:
        read_reply("listZones", status=530, content_type="application/json", body=body)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("version", "tells"),
    [
        ("4.11.3.0", False),
        ("4.13.0.0", False),
        ("4.13.1.0", True),
        ("4.9", False),
        ("4.100.0", True),
        ("4.23.0.0-SNAPSHOT", True),
        ("five", False),
        ("", False),
        (None, False),
    ],
)
def test_agent_states_are_told_since_4_13_1(version, tells):
    assert tells_agent_state(version) is tells


def test_versions_sort_by_number():
    assert version_key("4.9.0.0") < version_key("4.11.3.0")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2021-04-29T19:00:02+0000", datetime(2021, 4, 29, 19, 0, 2, tzinfo=UTC)),
        ("2021-04-29T19:00:02-0130", datetime(2021, 4, 29, 20, 30, 2, tzinfo=UTC)),
        ("0001-01-01T00:00:00+2359", None),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_a_moment_is_in_utc_or_not_told(text, moment):
    assert read_moment(text, "%Y-%m-%dT%H:%M:%S%z") == moment


# --- records of the database ---------------------------------------------------------------------

GOOD_RECORD = (
    b"1", b"vm-1", b"s-1-VM", b"SecondaryStorageVm", b"Running", b"KVM", b"10.0.0.5",
    b"2026-01-02 10:20:30", b"zone-1", b"north", b"host-1", b"kvm1", b"template-1", b"Up",
    b"4.22.0.0", None, None, b"169.254.1.2",
)  # fmt: skip
records = st.builds(
    lambda changes: tuple(changes.get(place, value) for place, value in enumerate(GOOD_RECORD)),
    st.dictionaries(
        st.integers(0, len(GOOD_RECORD) - 1), st.none() | st.binary(max_size=30), max_size=3
    ),
)


@no_hurry
@given(st.lists(records | st.tuples(st.binary()), max_size=4))
def test_every_record_is_read_or_named(found):
    holes: list[str] = []
    values = read_records(
        "vm_instance", tuple(found), lambda row: read_target_record(row, {}), holes
    )
    assert len(values) + len(holes) == len(found)
    for text in (*holes, *(value.name for value in values)):
        text.encode()


def test_a_good_record_is_read_with_the_job_on_its_vm():
    target = read_target_record(GOOD_RECORD, {"1": JobId("job-7")})
    assert target.name == "s-1-VM"
    assert target.created_at == datetime(2026, 1, 2, 10, 20, 30, tzinfo=UTC)
    assert target.job_id == "job-7"


@pytest.mark.parametrize(
    ("state", "agent", "expected"),
    [
        (b"Running", b"Up", AgentState.UP),
        (b"Running", None, AgentState.ABSENT),
        (b"Stopped", b"Up", AgentState.NOT_TOLD),
        (b"Running", b"Brooding", AgentState.UNRECOGNISED),
    ],
)
def test_the_agent_of_a_record_is_told_as_the_api_tells_it(state, agent, expected):
    assert read_agent((b"vm-1", state, agent)) == ("vm-1", expected)


def test_every_state_of_cloudstack_is_known_by_its_word():
    for word in ("Starting", "Running", "Stopping", "Stopped", "Migrating", "Error"):
        row = {**GOOD, "state": word}
        assert read_target(row, is_agent_told=True).cloud_state is CloudState(word)
