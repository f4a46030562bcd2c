"""What the daemon believes about CloudStack: one row per cause, read from the top down.

The order is from the most telling cause to the least. A row says which signs it needs, what speaks
against it, what it explains away in the same VM, and what it means for people. What to *do* about
it by machine is the operator's rules; only an ACT row may have any.

Templates know {role}, {name}, {zone}, {host}, {work} or {Work} (what this role serves), {evidence},
{leg} in words, {template} and, for the fleet, {count} and {total}.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from stackward.errors import Leg
from stackward.model.diagnosis import Diagnosis, DiagnosisCode
from stackward.model.verdict import ProbeName, Sign, Source


class Response(StrEnum):
    """How far a diagnosis may go."""

    ACT = "act"  # a rule may start a ladder
    ESCALATE = "escalate"  # only a person can help
    TELL = "tell"  # somebody else is at work on it: a person or CloudStack


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One cause.

    `groups`: of each group at least one sign is believed. `distinct_min`: how many different signs
    of `corroborating` must be believed. `passed`: probes that must have passed. `legs`: where the
    way in is broken, `leg_failures_min` times in a row (None: `fall` times). `contradicted_by`:
    probes whose pass, `contradicting`: signs whose sight, confirmed or not, rules the cause out.
    `lasts`: how long all this must have stood. `passed_since`: probes whose last known word is a
    pass newer than the signs, for an older one tells of the time before; however old it is by now.
    `is_blind`: only while nothing is known from inside, or nothing there has told why for
    `slow_stale_after`. `is_local`: its cause is known to be this VM's own, in the way to it, or a
    person's; it is no part of a failure of the zone.
    `sources`: where its evidence comes from, so what must be well again before it is over.
    """

    code: DiagnosisCode
    response: Response
    sentence: str
    follows: str
    advice: str
    never: str
    groups: tuple[frozenset[Sign], ...] = ()
    corroborating: frozenset[Sign] = frozenset()
    distinct_min: int = 0
    passed: frozenset[ProbeName] = frozenset()
    legs: frozenset[Leg] = frozenset()
    leg_failures_min: int | None = None
    contradicted_by: frozenset[ProbeName] = frozenset()
    contradicting: frozenset[Sign] = frozenset()
    lasts: timedelta = timedelta(0)
    passed_since: frozenset[ProbeName] = frozenset()
    is_blind: bool = False
    is_local: bool = False
    is_for_young: bool = True
    suppresses: frozenset[DiagnosisCode] = frozenset()
    sources: frozenset[Source] = frozenset()


def _any(*signs: Sign) -> frozenset[Sign]:
    return frozenset(signs)


HOST_KEY_LEGS = frozenset({Leg.JUMP_HOST_KEY, Leg.INNER_HOST_KEY})
JUMP_LEGS = frozenset({Leg.JUMP_TCP, Leg.JUMP_HOST_KEY, Leg.JUMP_AUTH})
BROKEN_LEGS = frozenset(Leg) - HOST_KEY_LEGS

AGENT_DEAD_SIGNS = _any(Sign.UNIT_FAILED, Sign.UNIT_EXITED, Sign.UNIT_RESTARTING, Sign.JVM_MISSING)
AGENT_LOST_SIGNS = _any(Sign.AGENT_NOT_UP, Sign.AGENT_ABSENT, Sign.DATABASE_AGENT_NOT_UP)

# CloudStack notices a silent agent after 150 to 210 seconds (ping.interval x ping.timeout, looked
# at once a minute), and an agent whose management server died stays Up in its eyes. Witnesses that
# differ for less than this differ by delay.
WITNESSES_LAG = timedelta(minutes=5)

_C = DiagnosisCode
_AGENT_SYMPTOMS = frozenset(
    {_C.AGENT_DISCONNECTED, _C.AGENT_NEVER_CONNECTED, _C.WITNESSES_DISAGREE}
)
_AGENT_LIVES = frozenset({ProbeName.AGENT_UNIT, ProbeName.AGENT_PROCESS})
_API = frozenset({Source.API})
_SSH = frozenset({Source.SSH})

_DISCONNECTED = "The agent of {role} {name} in zone {zone} lives and is not connected: {evidence}."
_DISCONNECTED_FOLLOWS = "CloudStack cannot use this VM; work under way in it may still go on."
_DISCONNECTED_ADVICE = (
    "Read the end of /var/log/cloud.log in the VM (TLS, avoid list, commands in progress). "
    "When nothing is being copied, `systemctl restart cloud` is the usual cure."
)
_DISCONNECTED_NEVER = "Do not restart it blindly: it may be in the middle of a copy."

TARGET_ROWS: tuple[Row, ...] = (
    Row(
        code=_C.VM_NOT_RUNNING,
        response=Response.TELL,
        groups=(_any(Sign.VM_NOT_RUNNING),),
        suppresses=frozenset(_C) - {_C.VM_NOT_RUNNING},
        is_local=True,  # CloudStack is at work on it; it says nothing about its neighbour
        sources=_API,
        sentence="{role} {name} in zone {zone} is not running: {evidence}.",
        follows="{Work} of zone {zone} wait until CloudStack has started or replaced this VM.",
        advice=(
            "CloudStack starts or replaces system VMs by itself every 30 seconds. If it does not: "
            "look for the first failure of the start job in management-server.log (capacity, "
            "addresses, template, storage)."
        ),
        never="Do not destroy it while a job is pending; the replacement meets the same cause.",
    ),
    Row(
        code=_C.DISK_FULL,
        response=Response.ESCALATE,
        groups=(_any(Sign.DISK_FULL, Sign.INODES_FULL, Sign.READ_ONLY),),
        is_local=True,  # each VM has a disk of its own
        suppresses=_AGENT_SYMPTOMS | {_C.AGENT_DOWN},
        sources=_SSH,
        sentence="{role} {name} in zone {zone} cannot write to its disk: {evidence}.",
        follows="{Work} of zone {zone} fail as soon as the agent needs to write, also its log.",
        advice=(
            "Free space in the VM (old logs first; restart rsyslog where deleted files are held). "
            "A read-only disk is a fault of its primary storage: mend that, then recreate the VM."
        ),
        never="Do not restart the agent before there is space: it would not come back.",
    ),
    Row(
        code=_C.SECONDARY_STORAGE_HUNG,
        response=Response.ESCALATE,
        groups=(_any(Sign.MOUNT_HUNG),),
        is_local=True,  # only an SSVM mounts: a sick CPVM beside it is sick of something else
        suppresses=_AGENT_SYMPTOMS | {_C.AGENT_DOWN},
        sources=_SSH,
        sentence="Secondary storage hangs in {role} {name} in zone {zone}: {evidence}.",
        follows="{Work} of zone {zone} stand still; the agent may look connected all the same.",
        advice="Bring the storage server or the route to it back; the mount goes on by itself.",
        never="Do not restart or destroy the VM: its successor mounts the same server.",
    ),
    # One vain look is believed where the link is lost beyond doubt (core/evidence.py): it has tried
    # every address, and the next one comes only after minutes.
    Row(
        code=_C.MANAGEMENT_UNREACHABLE,
        response=Response.ESCALATE,
        groups=(_any(Sign.MANAGEMENT_UNREACHABLE),),
        contradicted_by=frozenset({ProbeName.AGENT_LINK}),
        suppresses=_AGENT_SYMPTOMS | {_C.AGENT_DOWN},
        sources=_SSH,
        sentence=(
            "From inside {role} {name} in zone {zone} no management server can be reached: "
            "{evidence}."
        ),
        follows="CloudStack cannot use this VM: {work} of zone {zone} stop.",
        advice=(
            "Check that port 8250 of each address in `host=` is served and routed from the VM's "
            "private network; the agent connects again by itself."
        ),
        never="Do not destroy or reboot the VM: its successor gets the same addresses.",
    ),
    Row(
        code=_C.AGENT_STOPPED,
        response=Response.TELL,
        groups=(_any(Sign.UNIT_STOPPED),),
        is_local=True,  # a person did it
        contradicted_by=frozenset({ProbeName.AGENT_LINK}),
        suppresses=_AGENT_SYMPTOMS,
        sources=_SSH,
        sentence="The agent of {role} {name} in zone {zone} was stopped on purpose: {evidence}.",
        follows="{Work} of zone {zone} wait until it is started again.",
        advice="Ask who stopped it. When the work is done: `systemctl start cloud` in the VM.",
        never="The daemon never starts what a person has stopped.",
    ),
    Row(
        code=_C.AGENT_DOWN,
        response=Response.ACT,
        groups=(AGENT_DEAD_SIGNS,),
        corroborating=AGENT_DEAD_SIGNS | AGENT_LOST_SIGNS,
        distinct_min=2,
        passed=frozenset({ProbeName.CLOUD_STATE}),
        contradicted_by=frozenset({ProbeName.AGENT_LINK}),
        contradicting=_any(Sign.UNIT_STOPPED),
        suppresses=_AGENT_SYMPTOMS,
        sources=frozenset({Source.API, Source.SSH}),
        sentence="The agent of {role} {name} in zone {zone} is dead: {evidence}.",
        follows="CloudStack cannot use this VM: {work} of zone {zone} stop.",
        advice=(
            "Restart it: `systemctl reset-failed cloud; systemctl restart cloud` in the VM; if it "
            "dies again, read the last lines of /var/log/cloud.log and `journalctl -u cloud`."
        ),
        never="Do not destroy the VM first: the successor costs new addresses and minutes.",
    ),
    Row(
        code=_C.AGENT_NEVER_CONNECTED,
        response=Response.ESCALATE,
        groups=(_any(Sign.AGENT_ABSENT),),
        passed=frozenset({ProbeName.CLOUD_STATE}),
        contradicted_by=frozenset({ProbeName.AGENT_LINK}),
        suppresses=frozenset({_C.AGENT_DISCONNECTED, _C.WITNESSES_DISAGREE}),
        sources=_API,
        sentence="The agent of {role} {name} in zone {zone} has never connected: {evidence}.",
        follows="{Work} of zone {zone} have never worked through this VM.",
        advice=(
            "Check in the VM that /usr/local/cloud is filled (patched at boot), that `host=` in "
            "/var/cache/cloud/cmdline names a reachable management server, and its certificate."
        ),
        never="Do not destroy it again and again: the successor meets the same cause.",
    ),
    Row(
        code=_C.AGENT_DISCONNECTED,
        response=Response.ESCALATE,
        groups=(_any(Sign.LINK_DOWN),),
        passed=_AGENT_LIVES,
        contradicting=_any(Sign.MANAGEMENT_UNREACHABLE, Sign.AGENT_ABSENT),
        passed_since=_AGENT_LIVES | {ProbeName.MANAGEMENT},
        suppresses=frozenset({_C.WITNESSES_DISAGREE}),
        sources=_API | _SSH,
        sentence=_DISCONNECTED,
        follows=_DISCONNECTED_FOLLOWS,
        advice=_DISCONNECTED_ADVICE,
        never=_DISCONNECTED_NEVER,
    ),
    Row(  # the same where nobody sees the link
        code=_C.AGENT_DISCONNECTED,
        response=Response.ESCALATE,
        groups=(_any(Sign.AGENT_NOT_UP, Sign.DATABASE_AGENT_NOT_UP),),
        passed=_AGENT_LIVES,
        contradicted_by=frozenset({ProbeName.AGENT_LINK}),
        contradicting=_any(Sign.LINK_DOWN, Sign.MANAGEMENT_UNREACHABLE, Sign.AGENT_ABSENT),
        passed_since=_AGENT_LIVES,
        suppresses=frozenset({_C.WITNESSES_DISAGREE}),
        sources=_API | _SSH,
        sentence=_DISCONNECTED,
        follows=_DISCONNECTED_FOLLOWS,
        advice=_DISCONNECTED_ADVICE,
        never=_DISCONNECTED_NEVER,
    ),
    Row(
        code=_C.AGENT_DISCONNECTED,
        response=Response.ESCALATE,
        groups=(_any(Sign.LINK_DOWN, Sign.AGENT_NOT_UP, Sign.DATABASE_AGENT_NOT_UP),),
        passed=frozenset({ProbeName.CLOUD_STATE}),
        contradicted_by=frozenset({ProbeName.AGENT_LINK}),
        contradicting=(
            AGENT_DEAD_SIGNS
            | _any(Sign.UNIT_STOPPED, Sign.MANAGEMENT_UNREACHABLE, Sign.AGENT_ABSENT)
        ),
        lasts=WITNESSES_LAG,
        is_blind=True,
        sources=_API,
        sentence=(
            "The agent of {role} {name} in zone {zone} is not connected: {evidence}. "
            "Nothing from inside the VM tells why."
        ),
        follows="CloudStack cannot use this VM: {work} of zone {zone} stop.",
        advice="Get into the VM over SSH (port 3922) and look at `systemctl status cloud`.",
        never="Do not restart or destroy anything before somebody has looked inside.",
    ),
    Row(
        code=_C.WITNESSES_DISAGREE,
        response=Response.ESCALATE,
        is_local=True,  # sickness is not even sure
        groups=(AGENT_DEAD_SIGNS,),
        passed=frozenset({ProbeName.CLOUD_AGENT}),
        lasts=WITNESSES_LAG,
        sources=_API | _SSH,
        sentence=(
            "CloudStack calls the agent of {role} {name} in zone {zone} Up, and inside it is dead: "
            "{evidence}."
        ),
        follows="One of the two is wrong; {work} of zone {zone} may have stopped unnoticed.",
        advice=(
            "Look inside the VM: `systemctl status cloud`. An agent whose management server died "
            "stays Up in the list until that server is back."
        ),
        never="Do not clear an alarm on the word of one witness.",
    ),
    Row(
        code=_C.WITNESSES_DISAGREE,
        response=Response.ESCALATE,
        is_local=True,  # sickness is not even sure
        groups=(_any(Sign.AGENT_NOT_UP, Sign.AGENT_ABSENT),),
        passed=frozenset({ProbeName.AGENT_UNIT, ProbeName.AGENT_PROCESS, ProbeName.AGENT_LINK}),
        lasts=WITNESSES_LAG,
        sources=_API,
        sentence=(
            "Inside {role} {name} in zone {zone} the agent is connected, and CloudStack says it is "
            "not: {evidence}."
        ),
        follows="CloudStack does not use this VM although it could.",
        advice=(
            "Compare the management servers: which one holds the connection to port 8250, and what "
            "does its log say about this agent?"
        ),
        never="Do not restart the agent before that: it may be at work for another server.",
    ),
    Row(
        code=_C.WITNESSES_DISAGREE,
        response=Response.ESCALATE,
        is_local=True,  # sickness is not even sure
        groups=(_any(Sign.DATABASE_AGENT_NOT_UP),),
        passed=frozenset({ProbeName.CLOUD_AGENT}),
        lasts=WITNESSES_LAG,
        sources=frozenset({Source.DATABASE}),
        sentence=(
            "The database says that the agent of {role} {name} in zone {zone} is not connected, "
            "and the API says Up: {evidence}."
        ),
        follows="One of the two is old; nothing is known to have stopped.",
        advice="Check that the daemon reads the database of this very cloud, and not a replica.",
        never="Do not act on either word alone.",
    ),
    Row(
        code=_C.HOST_KEY_CHANGED,
        response=Response.ESCALATE,
        legs=HOST_KEY_LEGS,
        is_local=True,  # tells of the way, not of the VM
        leg_failures_min=1,
        suppresses=frozenset({_C.VM_UNREACHABLE}),
        sentence=("The way into {role} {name} in zone {zone} shows another host key: {evidence}."),
        follows="Nothing is known from inside the VM, and nothing is done in it.",
        advice=(
            "Find out why the key changed (new template, reinstalled hypervisor, or somebody in "
            "between). If it is right: `stackward forget-host-keys {template}` lets a VM's new key "
            "be pinned; a hypervisor's belongs into the known hosts file."
        ),
        never="Do not forget the key before the reason is known.",
    ),
    Row(
        code=_C.VM_UNREACHABLE,
        response=Response.ESCALATE,
        legs=BROKEN_LEGS,
        is_local=True,  # tells of the way, not of the VM
        contradicting=_any(Sign.VM_NOT_RUNNING),
        is_for_young=False,
        sentence="There is no way into {role} {name} in zone {zone} ({leg}): {evidence}.",
        follows="Nothing is known from inside the VM. It may serve well all the same.",
        advice=(
            "Try the way by hand: the hypervisor first, then port 3922 of the VM from there. "
            "Permission denied means our key, not a sick VM."
        ),
        never="Do not reboot or destroy the VM for this: the way is broken, not the VM.",
    ),
)

FLEET_ROWS: tuple[Row, ...] = (
    Row(
        code=_C.CLOUD_API_UNREACHABLE,
        response=Response.ESCALATE,
        sentence="The CloudStack API does not answer: {evidence}.",
        follows="What CloudStack says grows old, and nothing is repaired anywhere.",
        advice="Check the management servers and the daemon's API endpoints and keys.",
        never="Do not repair system VMs by hand meanwhile: the cause is likely the same.",
    ),
    Row(
        code=_C.STORM,
        response=Response.ESCALATE,
        sentence="{count} of {total} system VMs are sick at once: {evidence}.",
        follows="That is too many for chance: nothing is repaired anywhere until fewer are sick.",
        advice=(
            "Look for what they share: the management servers, a network, the storage behind them, "
            "a change just made."
        ),
        never="Do not repair them one by one before that.",
    ),
    Row(
        code=_C.ZONE_WIDE_FAILURE,
        response=Response.ESCALATE,
        suppresses=frozenset(_C),
        sentence="All {count} system VMs of zone {zone} are sick at once: {evidence}.",
        follows="Consoles and secondary storage of the whole zone are out of use.",
        advice=(
            "Look for a shared cause: management server, zone network, template, certificates, "
            "DNS, the storage behind them."
        ),
        never="Do not restart the VMs one by one: the cause is not in them.",
    ),
    Row(
        code=_C.JUMP_UNREACHABLE,
        response=Response.ESCALATE,
        suppresses=frozenset({_C.VM_UNREACHABLE, _C.HOST_KEY_CHANGED}),
        sentence="The way through hypervisor {host} is broken for {count} system VMs on it: "
        "{evidence}.",
        follows="Nothing is known from inside these VMs. They may serve well all the same.",
        advice="Log in to the hypervisor: sshd, the daemon's key, the bridge cloud0, its firewall.",
        never="Do not touch the VMs: the way is broken, not they.",
    ),
)


def rows_of(code: DiagnosisCode) -> tuple[Row, ...]:
    """Every row of a cause, in the order of the table."""
    return tuple(row for row in (*TARGET_ROWS, *FLEET_ROWS) if row.code is code)


def row_of(diagnosis: Diagnosis) -> Row:
    """The row that a diagnosis was made by."""
    rows = rows_of(diagnosis.code)
    return rows[min(diagnosis.variant, len(rows) - 1)]


ACTIONABLE = frozenset(row.code for row in TARGET_ROWS if row.response is Response.ACT)
