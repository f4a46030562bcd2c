"""Two log files beside each other, without a daemon: where the fault of one VM lies, and by what.

The files are a management server's log and the logs of one system VM, in any order, plain or gzip,
of any size in bounded memory. What the daemon would know of the VM is read from the files or told
by hand: its name, its address, its host, and by how much each clock was wrong.
"""

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from pathlib import Path
from typing import TypeVar

from stackward.app.classify import (
    SHORT_BYTES,
    Classifier,
    UnreadableError,
    crash,
    first_lines,
    last_written,
    whole_lines,
)
from stackward.catalog.log_files import VM_SOURCES, FileAssembler, LogSource, guess_source
from stackward.catalog.mentions import (
    lines_that_name,
    lines_that_teach,
    names_by_request,
    names_in,
    taught_in,
)
from stackward.catalog.records import Record
from stackward.catalog.sieve import Sieve
from stackward.catalog.signatures import Hit, SignatureSet
from stackward.config.patterns import load_patterns
from stackward.core.clues import clue_of
from stackward.core.correlate import Scene, decide
from stackward.core.state import FleetView, TargetState
from stackward.core.timeline import fold_management_log, is_idle, keep, own_lines
from stackward.model.correlation import Correlation, LogLine, ManagementLog, Timeline
from stackward.model.event import ManagementLogTold
from stackward.model.identity import TargetId, VmRole, ZoneId
from stackward.model.sighting import EventClass, Sighting
from stackward.model.target import AgentState, CloudState, Target
from stackward.observe.joining import Directory, Joined, Joiner

SERVER = "management server"
NAMELESS = "the VM"  # no file says its name, nor that of another
AFTER_TROUBLE = timedelta(minutes=5)
_VM = TargetId("the VM")
_EPOCH = datetime.fromtimestamp(0, UTC)
# What a line says beyond these is no time, and there is room on both sides to reckon with.
_TIMES = (datetime(1900, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC))
_STAMP = re.compile(rb"^(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d),\d{3} ", re.MULTILINE)


_Said = TypeVar("_Said", Sighting, Record)


class NoVmError(Exception):
    """The files name several VMs, and do not say of which they are to be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was told by hand. Offsets are a clock less the true time; `until` ends the reading."""

    vm: str | None = None
    address: str | None = None
    host: str | None = None
    vm_offset: timedelta = timedelta(0)
    management_offset: timedelta = timedelta(0)
    zone: tzinfo = UTC
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome, and of which VM. Its notes tell also what makes the files doubtful."""

    vm: str
    correlation: Correlation


@cache
def _classifier() -> Classifier:
    return Classifier()


@cache
def _patterns() -> SignatureSet:
    return load_patterns((), source=LogSource.MANAGEMENT)


def correlate_files(files: Sequence[str], asked: Asked) -> Found:
    """Read them all. UnreadableError, or NoVmError when nobody can say whose logs they are."""
    management, own = _sorted(files)
    told = [_timely(one.sighting) for file in own for one in _classifier().events(file)]
    learned = _learned(management, own)
    name = asked.vm or _name(learned, told)
    of_vm = keep(Timeline(), _within(own_lines(told, asked.vm_offset.total_seconds()), asked))
    side = _ManagementSide(name, asked, learned, told)
    for file in management:
        side.read(file)
    log = side.log
    lines = (*of_vm.lines, *side.timeline.lines, *(log.timeline.lines if log is not None else ()))
    scene = Scene(
        name=name,
        lines=lines,
        now=_end(lines, log),
        logs={log.name: log} if log is not None else {},
        clock_offset=asked.vm_offset,
    )
    notes = (
        *_other_names(asked.vm, learned),
        *_apart(learned.own_times, asked.vm_offset, side.spoke),
    )
    decided = decide(scene)
    return Found(name, replace(decided, notes=(*notes, *decided.notes)))


def _sorted(files: Sequence[str]) -> tuple[list[str], list[str]]:
    """Logs of management servers, and those of the VM, by what they say."""
    management, own = [], []
    for file in files:
        if file == "-" or (Path(file).exists() and not Path(file).is_file()):
            raise UnreadableError(f"{file}: is read several times, so it has to be a file")
        with closing(whole_lines(file)) as blocks:
            source = guess_source(first_lines(next(blocks, b"")))
        if source is LogSource.MANAGEMENT:
            management.append(file)
        elif source in VM_SOURCES:
            own.append(file)
        else:
            raise UnreadableError(f"{file}: is the log of neither a management server nor a VM")
    return management, own


# --- whose logs they are --------------------------------------------------------------------------


@dataclass(slots=True)
class _Learned:
    """Names of system VMs in the VM's own logs and in the server's, and rows of `host`.

    `own_times` are first and last ones in blocks of the VM's logs, on its clock.
    """

    own: Counter[str] = field(default_factory=Counter)
    own_times: list[datetime] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    rows: dict[str, str] = field(default_factory=dict)


def _learned(management: Sequence[str], own: Sequence[str]) -> _Learned:
    learned = _Learned()
    for files, names in ((own, learned.own), (management, learned.others)):
        for block in (block for file in files for block in whole_lines(file)):
            names.update(name for line in lines_that_name(block) for name in names_in(line))
            if files is management:
                for line in lines_that_teach(block):
                    learned.rows.update(taught_in(line))
            else:
                stamps = _STAMP.findall(block)
                learned.own_times += _times_of({*stamps[:1], *stamps[-1:]}, UTC)
    return learned


def _name(learned: _Learned, told: Sequence[Sighting]) -> str:
    if learned.own:
        return learned.own.most_common(1)[0][0]
    for row in _agent_rows(told):
        if learned.rows.get(row) in learned.others:
            return learned.rows[row]
    if len(learned.others) == 1:
        return next(iter(learned.others))
    if not learned.others:
        return NAMELESS
    known = ", ".join(name for name, _ in learned.others.most_common(10))
    raise NoVmError(f"say of which VM, by --vm; the files name {known}")


def _agent_rows(told: Sequence[Sighting]) -> list[str]:
    """The rows of `host` that the agent got, the newest first."""
    ready = [one for one in told if one.event is EventClass.AGENT_READY]
    return [one.fields["agent_id"] for one in reversed(ready) if "agent_id" in one.fields]


def _directory(name: str, asked: Asked, rows: Iterable[tuple[str, str]]) -> Directory:
    """A cloud of one VM."""
    role = VmRole.SECONDARY_STORAGE if name.startswith("s") else VmRole.CONSOLE_PROXY
    target = Target(
        id=_VM,
        name=name,
        role=role,
        zone_id=ZoneId(""),
        zone_name="",
        cloud_state=CloudState.UNKNOWN,
        agent_state=AgentState.NOT_TOLD,
        host_name=asked.host,
        private_address=asked.address,
    )
    state = TargetState(target=target, first_seen_at=_EPOCH, listed_at=_EPOCH, state_since=_EPOCH)
    directory = Directory()
    directory.update(FleetView(targets={_VM: state}, zones={}, hosts={}))
    directory.learn(rows)
    return directory


# --- what they say --------------------------------------------------------------------------------


class _ManagementSide:
    """What the management servers say of the VM. `log` None: no file of theirs was given.

    `spoke` is from when to when they said anything, on our clock.
    """

    def __init__(
        self, name: str, asked: Asked, learned: _Learned, told: Sequence[Sighting]
    ) -> None:
        self.timeline = Timeline()
        self.log: ManagementLog | None = None
        self.spoke: tuple[datetime, datetime] | None = None
        rows = {**learned.rows, **dict.fromkeys(_agent_rows(told), name)}
        self._directory = _directory(name, asked, rows.items())
        self._asked = asked
        self._signatures = _patterns()

    def read(self, file: str) -> None:
        """Take one log; of a rotated one give the older first."""
        assembler = FileAssembler(
            LogSource.MANAGEMENT, read_at=last_written(file), zone=self._asked.zone
        )
        sieve = Sieve(self._signatures, None, assembler, crash)
        joiner, lines, size = Joiner(SERVER, self._directory), 0, 0
        for block in whole_lines(file):
            self._hear(block)
            names = deque(names_by_request(block))
            sieve.is_in_haste = size > SHORT_BYTES
            for hit in sieve.read(block, _EPOCH):
                record, joined = hit.record or assembler.head(hit.line, hit.place), Joined()
                while names and record and names[0].line <= record.line_start.offset - lines:
                    joiner.note(names.popleft(), joined)
                self._take(sieve, hit, record, joiner, joined)
            joined = Joined()
            for named in names:
                joiner.note(named, joined)
            self._keep(joined, None)
            lines, size = lines + block.count(b"\n"), size + len(block)
        for hit in sieve.judged(assembler.close(), _EPOCH):
            self._take(sieve, hit, hit.record, joiner, Joined())

    def _take(
        self, sieve: Sieve, hit: Hit, record: Record | None, joiner: Joiner, joined: Joined
    ) -> None:
        if record is not None and not is_idle(hit.event):
            record = _timely(record)
            at = record.logged_at and self._true(record.logged_at)
            sighting = sieve.tell(hit, at or _EPOCH)
            if sighting is not None:
                joiner.take(record, _timely(sighting), self._asked.management_offset, joined)
        self._keep(joined, record)

    def _keep(self, joined: Joined, record: Record | None) -> None:
        if joined.of_vms:
            self.timeline = keep(self.timeline, _within(joined.of_vms[_VM], self._asked))
        if joined.of_server and record is not None and record.logged_at is not None:
            self._fold(record.logged_at, lines=tuple(_within(joined.of_server, self._asked)))

    def _hear(self, block: bytes) -> None:
        """In which minutes the server spoke, of whatever."""
        stamps = _STAMP.findall(block)
        minutes = {stamp[:16]: stamp for stamp in reversed(stamps)}  # the first of each
        ends = {stamp[:16]: stamp for stamp in stamps}
        for at in _times_of({*minutes.values(), *ends.values()}, self._asked.zone):
            true = self._true(at)
            first, last = self.spoke or (true, true)
            self.spoke = min(first, true), max(last, true)
            self._fold(at, spoke_at=true)

    def _true(self, at: datetime) -> datetime:
        return at.astimezone(UTC) - self._asked.management_offset

    def _fold(
        self, at: datetime, *, spoke_at: datetime | None = None, lines: tuple[LogLine, ...] = ()
    ) -> None:
        event = ManagementLogTold(
            name=SERVER,
            is_followed=True,
            at=at,
            clock_offset=self._asked.management_offset,
            spoke_at=spoke_at,
            lines=lines,
        )
        self.log = fold_management_log(self.log, event)


def _timely(said: _Said) -> _Said:
    """Without a time that cannot be."""
    if said.logged_at is None or _TIMES[0] < said.logged_at < _TIMES[1]:
        return said
    return said._replace(logged_at=None)


def _times_of(stamps: Iterable[bytes], zone: tzinfo) -> Iterator[datetime]:
    """What these stamps say, in their order; those that cannot be are left out."""
    for stamp in sorted(stamps):
        try:
            at = datetime.fromisoformat(stamp.decode()).replace(tzinfo=zone)
        except ValueError:
            continue
        if _TIMES[0] < at < _TIMES[1]:
            yield at


def _within(lines: Iterable[LogLine], asked: Asked) -> Iterator[LogLine]:
    """Without what was said later than is wanted."""
    return (line for line in lines if asked.until is None or line.at <= asked.until)


def _end(lines: Sequence[LogLine], log: ManagementLog | None) -> datetime:
    """The end of what is looked at: shortly after the last line that tells of any trouble.

    A server is not silent where its file ends.
    """
    troubles = [line.last_at or line.at for line in lines if clue_of(line) is not None]
    end = max(troubles or [line.at for line in lines], default=_EPOCH) + AFTER_TROUBLE
    if log is not None and log.spoke_in:
        end = min(end, max(log.spoke_in[-1], end - AFTER_TROUBLE))
    return end


# --- what makes it doubtful ----------------------------------------------------------------------


def _other_names(vm: str | None, learned: _Learned) -> Iterator[str]:
    """The VM that was asked for is not that of the logs."""
    for whose, names in (("VM's", learned.own), ("server's", learned.others)):
        if vm is not None and names and vm not in names:
            known = ", ".join(name for name, _ in names.most_common(3))
            yield f"No line of the {whose} log names {vm}; it names {known}."


def _apart(
    own_times: Sequence[datetime], offset: timedelta, spoke: tuple[datetime, datetime] | None
) -> Iterator[str]:
    """The logs have no time in common."""
    if not own_times or spoke is None:
        return
    first, last = min(own_times) - offset, max(own_times) - offset
    if last < spoke[0] - AFTER_TROUBLE or first > spoke[1] + AFTER_TROUBLE:
        yield (
            f"The VM's log is of {_span(first, last)}, the server's of {_span(*spoke)} (UTC): they"
            " have no time in common. Is --time-zone right, or an offset?"
        )


def _span(first: datetime, last: datetime) -> str:
    return f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
