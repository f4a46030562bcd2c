"""Whose a line of a management server's log is: by name, number, address, host row, and by job.

A line that names nobody belongs to the system VM that its request (`logid`, else job) is about:
the one named last before it, or the next one to be named. So the first failure of a job finds its
VM even though only the line that wraps it says a name. Everything remembered has a limit.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

from stackward.catalog.mentions import Mentions, Named, mentions_in
from stackward.catalog.records import Record
from stackward.catalog.redact import redact
from stackward.catalog.signatures import whole_text
from stackward.core.state import FleetView
from stackward.core.timeline import moment
from stackward.model.correlation import Concern, LogLine, Origin
from stackward.model.identity import TargetId
from stackward.model.sighting import EventClass, Sighting

REQUESTS_KEPT = 2048
HELD_MAX = 16  # lines of one request that wait for a name
TOLD_MAX = 200  # VMs that one line is told to
ROWS_KEPT = 50_000
LISTED_AT_ONCE = 200
CAUSE_CHARS_MAX = 200

# What concerns the server as a whole, and so every VM, unless it names one.
_OF_THE_SERVER = frozenset(
    {EventClass.OOM, EventClass.FD_EXHAUSTION, EventClass.CLASS_LOAD_FAILURE, EventClass.DISK_FULL}
)
_ALWAYS_OF_THE_SERVER = frozenset(
    {EventClass.MGMT_STARTED, EventClass.MGMT_STOPPED, EventClass.DB_FAILURE}
)


class Directory:
    """Who bears which name, number and address. `update` it from a view of the fleet.

    Rows of `host` are learned from the lines themselves: CloudStack's API does not tell them.
    """

    def __init__(self) -> None:
        self._vms: dict[str, TargetId] = {}  # by name, number and address
        self._on_host: dict[str, tuple[TargetId, ...]] = {}  # by the host's name and address
        self._rows: OrderedDict[str, str] = OrderedDict()
        self._agent_rows: dict[TargetId, str] = {}

    def update(self, fleet: FleetView) -> None:
        """Take over who is there now."""
        for _ in self.updating(fleet):
            pass

    def updating(self, fleet: FleetView) -> Iterator[None]:
        """The same in steps: a large fleet takes its time. The last step puts it in force."""
        vms: dict[str, TargetId] = {}
        on_host: dict[str, list[TargetId]] = {}
        for number, state in enumerate(fleet.targets.values(), 1):
            target = state.target
            # Link-local addresses repeat from host to host: they say nothing here.
            for key in (target.name, target.private_address, _number_of(target.name)):
                if key:
                    vms[key] = target.id
            host = fleet.hosts.get(target.host_id) if target.host_id is not None else None
            for name in {target.host_name, host and host.name, host and host.address}:
                if name:
                    on_host.setdefault(name, []).append(target.id)
            if number % LISTED_AT_ONCE == 0:
                yield
        for gone in self._agent_rows.keys() - fleet.targets.keys():
            del self._agent_rows[gone]
        self._vms = vms
        self._on_host = {name: tuple(ids[:TOLD_MAX]) for name, ids in on_host.items()}

    def learn(self, taught: Iterable[tuple[str, str]]) -> None:
        """Remember whose row of `host` it is, if it is anybody's whom we know."""
        for row, name in taught:
            if name in self._vms or name in self._on_host:
                self._rows[row] = name
                self._rows.move_to_end(row)
            if name in self._vms:
                self._agent_rows[self._vms[name]] = row
        while len(self._rows) > ROWS_KEPT:
            self._rows.popitem(last=False)

    def named(self, names: Iterable[str]) -> tuple[TargetId, ...]:
        """The VMs with these names."""
        return tuple(dict.fromkeys(self._vms[name] for name in sorted(names) if name in self._vms))

    def vms_of(self, mentions: Mentions) -> tuple[TargetId, ...]:
        """The VMs that a line names itself, or by the rows of their agents."""
        keys = {*mentions.names, *mentions.addresses}
        keys.update(f"#{number}" for number in mentions.numbers)
        keys.update(self._rows[row] for row in mentions.rows if row in self._rows)
        return self.named(keys)[:TOLD_MAX]

    def hosts_of(self, mentions: Mentions) -> frozenset[str]:
        """The hypervisor hosts that a line speaks of."""
        keys = {*mentions.host_names, *mentions.addresses}
        keys.update(self._rows[row] for row in mentions.rows if row in self._rows)
        return frozenset(key for key in keys if key in self._on_host)

    def are_others(self, mentions: Mentions, vms: Iterable[TargetId]) -> bool:
        """True if the rows that a line names are surely not those of the agents of these VMs."""
        own = [self._agent_rows.get(target_id) for target_id in vms]
        return bool(mentions.rows and own) and all(
            row is not None and row not in mentions.rows for row in own
        )

    def on_hosts(self, hosts: Iterable[str]) -> tuple[TargetId, ...]:
        """The VMs on these hosts."""
        found = [target_id for host in sorted(hosts) for target_id in self._on_host[host]]
        return tuple(dict.fromkeys(found))[:TOLD_MAX]


@dataclass(slots=True)
class Joined:
    """What came out of some records: lines by VM, and those of the server as a whole."""

    of_vms: dict[TargetId, list[LogLine]] = field(default_factory=dict)
    of_server: list[LogLine] = field(default_factory=list)

    def add(self, target_ids: Iterable[TargetId], line: LogLine) -> None:
        """Tell a line to each of these."""
        for target_id in target_ids:
            self.of_vms.setdefault(target_id, []).append(line)


@dataclass(slots=True)
class _Request:
    """What is known of one request: whom it named last, and lines that wait for a name."""

    about: tuple[TargetId, ...] = ()
    held: list[LogLine] = field(default_factory=list)


def _number_of(name: str) -> str | None:
    """The number in a system VM's name, as a key of its own."""
    _, _, rest = name.partition("-")
    number = rest.partition("-")[0]
    return f"#{number}" if number.isdigit() else None


class Joiner:
    """Joins one management server's log with the VMs."""

    def __init__(self, log: str, directory: Directory) -> None:
        self._log = log
        self._directory = directory
        self._requests: OrderedDict[str, _Request] = OrderedDict()

    def take(
        self,
        record: Record,
        sighting: Sighting,
        clock_offset: timedelta | None,
        joined: Joined,
    ) -> None:
        """Take one event in the order of the log."""
        mentions = mentions_in(whole_text(record))
        self._directory.learn(mentions.taught)
        line = self._line(record, sighting, clock_offset)
        if line.event in _ALWAYS_OF_THE_SERVER:
            joined.of_server.append(replace(line, concern=Concern.SERVER))
        else:
            self._give(line, mentions, self._request(record.log_id or record.job), joined)

    def note(self, named: Named, joined: Joined) -> None:
        """A line, event or not, that says whom its request is about."""
        vms = self._directory.named(named.names)
        request = self._request(named.request) if vms else None
        if request is not None:
            self._name(request, vms, joined)

    def _give(
        self, line: LogLine, mentions: Mentions, request: _Request | None, joined: Joined
    ) -> None:
        """Find out whose a line is: whom it names, else whom its request is about, else ..."""
        vms, hosts = self._directory.vms_of(mentions), self._directory.hosts_of(mentions)
        if vms and request is not None:
            self._name(request, vms, joined)
        about = vms or (request.about if request is not None else ())
        if hosts or self._directory.are_others(mentions, about):
            line = replace(line, concern=Concern.HOST)
        if about:
            joined.add(about, line)
        elif hosts:
            joined.add(self._directory.on_hosts(hosts), line)
        elif line.event in _OF_THE_SERVER:
            joined.of_server.append(replace(line, concern=Concern.SERVER))
        elif request is not None and len(request.held) < HELD_MAX:
            request.held.append(line)

    def _request(self, key: str | None) -> _Request | None:
        if not key:
            return None
        request = self._requests.setdefault(key, _Request())
        self._requests.move_to_end(key)
        if len(self._requests) > REQUESTS_KEPT:
            self._requests.popitem(last=False)
        return request

    def _name(self, request: _Request, vms: tuple[TargetId, ...], joined: Joined) -> None:
        for line in request.held:
            joined.add(vms, line)
        request.held.clear()
        request.about = vms

    def _line(self, record: Record, sighting: Sighting, clock_offset: timedelta | None) -> LogLine:
        text = sighting.text
        cause = next((one for one in reversed(record.trace) if one.startswith("Caused by:")), "")
        if cause:
            text = f"{text} {redact(cause, limit=CAUSE_CHARS_MAX)}"
        return LogLine(
            origin=Origin.MANAGEMENT,
            log=self._log,
            event=sighting.event,
            severity=sighting.severity,
            text=text,
            at=moment(sighting.logged_at, sighting.seen_at, clock_offset),
            seen_at=sighting.seen_at,
            logged_at=sighting.logged_at,
            clock_offset=clock_offset,
            job=record.log_id or record.job or "",
        )
