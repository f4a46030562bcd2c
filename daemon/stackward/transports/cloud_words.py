"""CloudStack's words and how they are read, as the API and the database share them.

Pure: no I/O here. Unknown words parse; a value of the wrong type makes its row unreadable.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from stackward.model.identity import Hypervisor, VmRole
from stackward.model.target import AgentState, CloudState, SshRoute

_YEARS: Final = range(2000, 3000)
TEXT_LENGTH_MAX: Final = 1024  # CloudStack's own columns for names and addresses end at 255


class RowUnreadableError(Exception):
    """One row cannot be read. It never leaves this room: the row is named in `unreadable`."""


@dataclass(frozen=True, slots=True)
class Way:
    """How sshd of a system VM is reached, and under which address."""

    route: SshRoute
    control_address: str | None


_ROLES: Final = {
    "secondarystoragevm": VmRole.SECONDARY_STORAGE,
    "consoleproxy": VmRole.CONSOLE_PROXY,
}
_CLOUD_STATES: Final = {state.value.lower(): state for state in CloudState}
_AGENT_STATES: Final = {state.value.lower(): state for state in AgentState}
_OUR_WORDS: Final = frozenset({AgentState.ABSENT, AgentState.NOT_TOLD})
_HYPERVISORS: Final = {
    "kvm": Hypervisor.KVM,
    "xenserver": Hypervisor.XEN,
    "lxc": Hypervisor.LXC,
    "ovm": Hypervisor.OVM,
    "ovm3": Hypervisor.OVM,
    "vmware": Hypervisor.VMWARE,
    "hyperv": Hypervisor.HYPERV,
    "simulator": Hypervisor.SIMULATOR,
}
# An agent can be connected only while its VM runs somewhere.
_AGENT_POSSIBLE: Final = frozenset({CloudState.RUNNING, CloudState.MIGRATING})


def clean_text(value: object, name: str) -> str | None:
    """A text, or None where CloudStack says nothing.

    Lone surrogates are replaced: no file, page or database takes them.
    """
    match value:
        case None:
            return None
        case str():
            text = value
        case bool():
            raise RowUnreadableError(f"{name} is a truth value")
        case int():
            text = str(value)
        case _:
            raise RowUnreadableError(f"{name} is a {type(value).__name__}")
    if len(text) > TEXT_LENGTH_MAX:
        raise RowUnreadableError(f"{name} is {len(text)} characters long")
    return text.encode("utf-8", "replace").decode() or None


def needed_text(value: object, name: str) -> str:
    """A text that must be there."""
    text = clean_text(value, name)
    if text is None:
        raise RowUnreadableError(f"{name} is missing")
    return text


def read_role(word: str) -> VmRole:
    """`secondarystoragevm` or `consoleproxy`, in any case."""
    role = _ROLES.get(word.lower())
    if role is None:
        raise RowUnreadableError(f"the kind of VM is {word!r}")
    return role


def read_cloud_state(word: str) -> CloudState:
    """VirtualMachine.State; a word of a newer version is UNRECOGNISED."""
    return _CLOUD_STATES.get(word.lower(), CloudState.UNRECOGNISED)


def read_agent_state(word: str | None, cloud_state: CloudState, *, is_told: bool) -> AgentState:
    """Status of the agent's host row. No word: there is no such row, if rows are told at all.

    Before 4.15.1 a stopped VM keeps an agent that is Up, so that word of such a VM says nothing.
    """
    if word is None:
        return AgentState.ABSENT if is_told else AgentState.NOT_TOLD
    state = _AGENT_STATES.get(word.lower(), AgentState.UNRECOGNISED)
    if state in _OUR_WORDS:
        return AgentState.UNRECOGNISED
    if state is AgentState.UP and cloud_state not in _AGENT_POSSIBLE:
        return AgentState.NOT_TOLD
    return state


def read_hypervisor(word: str | None) -> Hypervisor:
    """A display name, in any case; since 4.19 operators can invent their own."""
    return _HYPERVISORS.get((word or "").lower().replace("-", ""), Hypervisor.OTHER)


def way_in(hypervisor: Hypervisor, *, link_local: str | None, private: str | None) -> Way:
    """Where sshd listens: on the control address behind the host, or on the private one."""
    match hypervisor:
        case Hypervisor.KVM | Hypervisor.XEN | Hypervisor.LXC | Hypervisor.OVM:
            return Way(SshRoute.JUMP if link_local else SshRoute.NONE, link_local)
        case Hypervisor.VMWARE | Hypervisor.HYPERV:
            return Way(SshRoute.DIRECT if private else SshRoute.NONE, private)
        case Hypervisor.SIMULATOR | Hypervisor.OTHER:
            return Way(SshRoute.NONE, None)


def read_zone_enabled(word: str | None) -> bool | None:
    """`Enabled` or `Disabled`; anything else is not told."""
    return {"enabled": True, "disabled": False}.get((word or "").lower())


def read_host_up(status: str | None, resource_state: str | None) -> bool | None:
    """Up and Enabled, both; None where one of them is missing."""
    if status is None or resource_state is None:
        return None
    return status.lower() == "up" and resource_state.lower() == "enabled"


def read_moment(text: str | None, form: str) -> datetime | None:
    """A moment in UTC. What is no moment is not told: no row is lost for a broken date.

    A year that no CloudStack can have seen is no moment either: spans are added to moments, and
    at the ends of the calendar there is nothing to add.
    """
    if text is None:
        return None
    try:
        moment = datetime.strptime(text, form)  # noqa: DTZ007  made aware in the next line
        told = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return told if told.year in _YEARS else None
