"""Of whom a line of a management server speaks, in the words of old and new releases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackward.catalog.mentions import mentions_in, names_by_request, taught_in_lines


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("Host 4 is disconnecting with event AgentDisconnected", {"4"}),
        ("Found the following agents behind on ping: [4, 7]", {"4", "7"}),
        ("Disconnect agent for CPVM/SSVM due to physical connection close. host: 4", {"4"}),
        ("The next status of agent 4is Alert, current status is Up", {"4"}),
        ("The agent from host 4 state determined is Alert", {"4"}),
        ("Resource [Host:4] is unreachable: Host 4: Channel is closed", {"4"}),
        ("Commands 7132 to Host 4 timed out after 3600 secs", {"4"}),
        ("create ClusteredAgentAttache for 4", {"4"}),
        ('Host {"id":4,"name":"s-12-VM"} has informed us that it is shutting down', {"4"}),
        ("[Host disconnected, name: s-12-VM (id:4), availability zone: z]", {"4"}),
        ("host 192.0.2.4 is down", set()),
        ("Connecting to host:10.0.0.5", set()),
    ],
)
def test_a_row_of_host_is_found_however_it_is_written(text, rows):
    assert mentions_in(text).rows == rows


@pytest.mark.parametrize(
    "text",
    [
        "Unable to start secondary storage VM [12] due to [x].",
        "Unable to start proxy [12] due to [x].",
        "Found a stopped console proxy, starting it. Vm id : 12",
        'Found a stopped secondary storage VM instance {"id":12}, starting it.',
        "Failed to setup and secure agent for systemvm id=12",
        'Console proxy {"id":12,"instanceName":"v-12-VM"} is started',
    ],
)
def test_a_vms_number_is_found_however_it_is_written(text):
    assert mentions_in(text).numbers == {"12"}


def test_names_and_addresses_are_found_and_users_vms_are_not():
    text = "VM i-2-3-VM, VM[ConsoleProxy|v-13-VM], remote address=/192.0.2.9:40112."
    found = mentions_in(text)
    assert found.names == {"v-13-VM"}
    assert found.addresses == {"192.0.2.9"}


@pytest.mark.parametrize(
    "text",
    [
        "Seq 4-7: Sending  { Cmd , MgmtId: 1, via: 4(s-12-VM), Ver: v1 }",
        'Host {"id":4,"name":"s-12-VM","type":"SecondaryStorageVM"} is disconnecting',
        "Agent status update: [id = 4; name = s-12-VM; old status = Up; event = PingTimeout]",
        "[Host disconnected, name: s-12-VM (id:4), availability zone: z]",
    ],
)
def test_a_line_that_names_row_and_name_teaches_whose_it_is(text):
    assert mentions_in(text).taught == (("4", "s-12-VM"),)


def test_lines_that_name_a_vm_are_found_with_their_request_and_number():
    lines = (
        b"a (logid:aa) nothing\n"
        b"b (logid:bb) about s-1-VM and v-2-VM\n"
        b"c about s-1-VM of no request\n\n"
        b"d (logid:dd) about v-2-VM via: 2(kvm1)"
    )
    found = [(one.line, one.request, sorted(one.names)) for one in names_by_request(lines)]
    assert found == [(2, "bb", ["s-1-VM", "v-2-VM"]), (5, "dd", ["v-2-VM"])]
    assert list(taught_in_lines(lines)) == [("2", "kvm1")]


@given(st.binary(max_size=300) | st.text("sv-0123 VM\n(logid:)[]{}", max_size=200).map(str.encode))
def test_any_bytes_are_read(data):
    lines = data.count(b"\n") + 1
    assert all(1 <= one.line <= lines for one in names_by_request(data))
    mentions_in(data.decode("utf-8", "replace"))
    list(taught_in_lines(data))
