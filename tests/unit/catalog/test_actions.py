"""The requests of the actions and how replies are read. The command itself is run elsewhere."""

import pytest

from stackward.catalog.action import Changed, Declined, Done, Means, Unclear
from stackward.catalog.actions import ACTIONS
from stackward.catalog.actions.reboot_system_vm import is_reboot_job
from stackward.catalog.actions.restart_agent import read_restart_reply, restart_command
from stackward.model.guest import CommandReply
from stackward.model.plan import ActionName

ID = "0123456789abcdef0123456789abcdef"


def test_every_action_that_has_a_name_is_in_the_table():
    assert set(ACTIONS) == set(ActionName)
    assert all(name is action.name for name, action in ACTIONS.items())


def test_an_action_by_api_needs_the_commands_to_look_afterwards():
    for action in ACTIONS.values():
        if action.means is Means.API:
            assert action.commands >= {"listAsyncJobs", "queryAsyncJobResult"}


@pytest.mark.parametrize(
    "evil", ["", "x", ID.upper(), ID + "\n", ID + "; reboot", "$(reboot)", ID[:-1], "none"]
)
def test_nothing_but_an_invocation_id_gets_into_the_command(evil: str):
    with pytest.raises(ValueError, match="InvocationID"):
        restart_command(evil)


def test_the_command_names_the_life_that_was_diagnosed():
    assert f"expected={ID}\n" in restart_command(ID)
    assert "expected=none\n" in restart_command(None)


def test_the_command_restarts_once_without_blocking_and_after_the_comparison():
    command = restart_command(ID)
    assert command.count("systemctl --no-block restart cloud") == 1
    assert command.index("say changed") < command.index("restart cloud")


@pytest.mark.parametrize(
    ("output", "reading"),
    [
        ("stackward: sent\n", Done()),
        ("stackward: sent", Done()),
        ("Welcome!\nstackward: sent\r\n\n", Done()),
        (f"stackward: changed {ID}\n", Changed(ID)),
        ("stackward: changed none\n", Changed("none")),
        ("stackward: refused cloud.service is not loaded: not-found\n",
         Declined("cloud.service is not loaded: not-found")),
        ("stackward: unclear systemctl restart: Connection timed out\n",
         Unclear("systemctl restart: Connection timed out")),
    ],
)  # fmt: skip
def test_whole_replies_are_read(output: str, reading: object):
    assert read_restart_reply(CommandReply(0, output)) == reading


@pytest.mark.parametrize(
    "output",
    [
        "",
        "\n",
        "stackward: sen",
        "stackward: sent it",
        "stackward: sent\nand more\n",
        "stackward: changed\n",
        "stackward: refused\n",
        "xstackward: refused for a reason\n",
        "sh: syntax error\n",
        "stackward: changed " + ID[:5] + "\nstack",
        "\x00\ufffd",
    ],
)
def test_what_is_not_said_clearly_may_have_been_done(output: str):
    assert isinstance(read_restart_reply(CommandReply(127, output)), Unclear)
    assert isinstance(read_restart_reply(CommandReply(None, output)), Unclear)


def test_a_cut_reply_may_hide_that_it_was_done():
    reply = CommandReply(0, "stackward: refused systemctl show: x\n", is_cut=True)
    assert isinstance(read_restart_reply(reply), Unclear)


@pytest.mark.parametrize(
    ("command", "is_ours"),
    [
        ("org.apache.cloudstack.api.command.admin.systemvm.RebootSystemVmCmd", True),
        ("RebootSystemVmCmd", True),
        ("org.apache.cloudstack.api.command.admin.systemvm.StopSystemVmCmd", False),
        ("org.apache.cloudstack.api.command.admin.router.RebootRouterCmd", False),
        ("", False),
    ],
)
def test_a_reboot_job_is_told_by_its_class(command: str, is_ours: bool):
    assert is_reboot_job(command) is is_ours
