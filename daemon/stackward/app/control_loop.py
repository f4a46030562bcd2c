"""The heart, and deliberately dull: take events in, and once a round decide and publish.

It is the only owner and the only writer of state, the only caller of the planner, and what the
watchdog watches. A round visits what changed, what is sick, and whoever has an answer that has just
grown too old: time alone changes nothing else in a VM that is well.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from stackward.app.bulletin import Bulletin
from stackward.app.inbox import Inbox
from stackward.app.lag import until_beat
from stackward.app.notebook import Notebook
from stackward.app.picture import Picture
from stackward.app.tally import Tally
from stackward.core.assess import assess
from stackward.core.correlate import with_outcome
from stackward.core.diagnose import diagnose_fleet, diagnose_target, suppress
from stackward.core.episodes import advance_episode, close_gone, mark_escalated, new_escalations
from stackward.core.evidence import fresh_until, read_evidence
from stackward.core.planner import make_plan
from stackward.core.policy import Policy
from stackward.core.promises import broken_promises
from stackward.core.snapshot import Snapshot, Totals
from stackward.core.state import FleetView, TargetState
from stackward.model.diagnosis import Diagnosis
from stackward.model.entry import Entry, EntryKind
from stackward.model.event import (
    Event,
    Observed,
    PathTold,
    Sighted,
    SourceTold,
    TargetsListed,
)
from stackward.model.health import Health, HealthState, Overall
from stackward.model.identity import IntentId, TargetId
from stackward.model.plan import Mode, Plan, Step
from stackward.model.target import Capabilities
from stackward.ports import Clock, DemotionSwitch, Log, PauseSwitch

# Between two slices everybody else has a turn: a listing of a large fleet comes in one go.
EVENTS_PER_SLICE = 50
JUDGED_PER_SLICE = 50
TAKE_EVERY_SECONDS = 0.8
# So far behind the poll slots (observe/prober.py) most answers are there, and what they are made of
# is still near the processor.
TAKE_BEHIND_SECONDS = 0.03
# Slewing is gentler than this between two rounds, and evidence bears as much (core/evidence.py).
CLOCK_JUMP = timedelta(seconds=5)

Diagnoses = Mapping[TargetId, tuple[Diagnosis, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """What the loop reads from the other rooms each round, and whom it calls."""

    pause: PauseSwitch
    demotion: DemotionSwitch
    capabilities: Callable[[], Capabilities | None]
    count: Callable[[], Totals]  # what the other rooms have counted
    new_intent_id: Callable[[], IntentId]
    start_step: Callable[[Step, IntentId], None]
    held_back_by: Callable[[], str]  # why no step is begun, at start and at the end; "": nothing
    feed_watchdog: Callable[[str], None]


class ControlLoop:
    """Runs rounds until cancelled. `policy` may be replaced between rounds (a reload)."""

    def __init__(
        self,
        inbox: Inbox,
        bulletin: Bulletin,
        picture: Picture,
        notebook: Notebook,
        neighbours: Neighbours,
        clock: Clock,
        log: Log,
        *,
        policy: Policy,
        round_seconds: float = 1.0,
    ) -> None:
        self._inbox = inbox
        self._bulletin = bulletin
        self._picture = picture
        self._notebook = notebook
        self._neighbours = neighbours
        self._clock = clock
        self._log = log
        self._round_seconds = round_seconds
        self._tally = Tally(log)
        self._health: dict[TargetId, Health] = {}
        self._unwell: dict[TargetId, Health] = {}  # those of them that are not plainly well
        self._diagnoses: dict[TargetId, tuple[Diagnosis, ...]] = {}  # only where there are any
        self._fresh_until: dict[TargetId, datetime] = {}  # of the plainly well; true or too early
        self._paused_by: str | None = None
        self._last_plan: Plan | None = None
        self._round_number = 0
        self._episodes = 0
        self._started_at = clock.now()
        self._clocks_read = (self._started_at, clock.monotonic())
        self.policy = self._judged_by = policy
        self.config_loaded_at = self._started_at
        self.config_reload_ok = True

    async def run(self) -> None:
        """Take events and make rounds until cancelled."""
        while True:
            await self._take_events(self._clock.monotonic() + self._round_seconds)
            await self._round()

    async def _take_events(self, until: float) -> None:
        """Take what comes about once a second: to wake up for each event costs more than it."""
        while True:
            events = self._inbox.take(EVENTS_PER_SLICE)
            if events:
                moment = self._clock.now()
                for event in events:
                    self._fold(event, moment)
            now = self._clock.monotonic()
            if now >= until:
                return
            pause = until_beat(now - TAKE_BEHIND_SECONDS, TAKE_EVERY_SECONDS)
            await self._clock.sleep(0 if len(self._inbox) else min(until - now, pause))

    def _fold(self, event: Event, now: datetime) -> None:
        if isinstance(event, Sighted):
            event = replace(event, at=min(event.at, now))  # its lines will not be told again
        if _told_at(event, now) > now + CLOCK_JUMP:
            return  # told before the clock went back; it will be told again
        for state in self._picture.fold(event, now, self.policy.limits.zone_window):
            closed = close_gone(state, now)
            self._notebook.note(with_outcome(closed, state, self._picture.management_logs, now))
            for known in (self._health, self._unwell, self._diagnoses, self._fresh_until):
                known.pop(state.target.id, None)
        target_id = getattr(event, "target_id", None)
        self._tally.note_event(event, self._picture.targets.get(target_id) if target_id else None)

    async def _round(self) -> None:
        began = self._clock.monotonic()
        inbox_length = len(self._inbox)
        now = self._clock.now()
        self._note_clock(now)
        self._note_pause(now)
        view = self._view()
        visited = await self._judge(view, now)
        fleet_diagnoses = diagnose_fleet(view, self._diagnoses, self._unwell, self.policy, now)
        diagnoses = suppress(self._diagnoses, fleet_diagnoses)
        if self._advance_episodes(visited, diagnoses, now):
            view = replace(view, targets=dict(self._picture.targets))
        plan = self._plan(view, diagnoses, fleet_diagnoses, now)
        self._tally.note_plan(plan)
        self._note_calls(plan, now)
        await self._notebook.write()
        await self._save_logs()
        if not self._neighbours.held_back_by() and not self._notebook.trouble:
            self._hand_out(plan)
        self._round_number += 1
        self._bulletin.publish(
            Snapshot(
                taken_at=now,
                started_at=self._started_at,
                round_number=self._round_number,
                fleet=replace(view, journal_trouble=self._notebook.trouble),
                policy=self.policy,
                health=dict(self._health),
                diagnoses=diagnoses,
                fleet_diagnoses=fleet_diagnoses,
                plan=plan,
                totals=replace(
                    self._tally.totals(self._neighbours.count()),
                    events_dropped=dict(self._inbox.dropped),
                ),
                round_duration=timedelta(seconds=self._clock.monotonic() - began),
                inbox_length=inbox_length,
                is_ready=self._picture.inventory_at is not None,
                config_loaded_at=self.config_loaded_at,
                config_reload_ok=self.config_reload_ok,
            )
        )
        self._neighbours.feed_watchdog(self._status_line())

    async def _save_logs(self) -> None:
        """Save what was read since all were saved; all of them when their turn has come."""
        is_turn_of_all = self._notebook.is_turn_of_all_logs
        await self._notebook.save_logs(self._picture.logs(everything=is_turn_of_all))
        if is_turn_of_all and not self._notebook.trouble:
            self._picture.read_on.clear()

    def _view(self) -> FleetView:
        return self._picture.view(
            # A step that is shown and not begun would be a riddle: what holds it back is told.
            pause_reason=self._paused_by or self._neighbours.held_back_by() or None,
            demotion=self._neighbours.demotion.reason,
            journal_trouble=self._notebook.trouble,
            capabilities=self._neighbours.capabilities(),
        )

    async def _judge(self, view: FleetView, now: datetime) -> list[TargetId]:
        """Judge whoever is due, and tell whom."""
        due = self._due(now)
        for number, target_id in enumerate(due, 1):
            state = self._picture.targets[target_id]
            evidence = read_evidence(state, self.policy, now)
            health = assess(state, self.policy, now, evidence)
            found = diagnose_target(state, self.policy, now, view, evidence)
            self._keep(state, health, found)
            if number % JUDGED_PER_SLICE == 0:
                await self._clock.sleep(0)
        return sorted(due)

    def _due(self, now: datetime) -> set[TargetId]:
        """Whoever changed, is not plainly well, or has an answer that has grown too old.

        Most VMs have answered anew by then, and have only to be looked at again later.
        """
        targets = self._picture.targets
        if self.policy is not self._judged_by:
            self._judged_by = self.policy
            self._picture.dirty.update(targets)
        due = self._picture.dirty | self._unwell.keys()
        self._picture.dirty.clear()
        for target_id, until in self._fresh_until.items():
            if until < now:
                renewed = fresh_until(targets[target_id], self.policy)
                self._fresh_until[target_id] = renewed
                if renewed < now:
                    due.add(target_id)
        return due & targets.keys()

    def _keep(self, state: TargetState, health: Health, found: tuple[Diagnosis, ...]) -> None:
        target_id = state.target.id
        self._health[target_id] = health
        if health.state is HealthState.HEALTHY and not health.reasons:
            self._unwell.pop(target_id, None)
            self._fresh_until[target_id] = fresh_until(state, self.policy)
        else:
            self._unwell[target_id] = health
            self._fresh_until.pop(target_id, None)
        if found:
            self._diagnoses[target_id] = found
        else:
            self._diagnoses.pop(target_id, None)

    def _advance_episodes(
        self, visited: Iterable[TargetId], diagnoses: Diagnoses, now: datetime
    ) -> bool:
        """True when that changed anything."""
        is_changed = False
        name = f"{now:%Y%m%dT%H%M%S}"
        for target_id in visited:
            state = self._picture.targets[target_id]
            self._episodes += 1
            advanced, entries = advance_episode(
                state,
                self._health[target_id],
                diagnoses.get(target_id, ()),
                now,
                f"{name}-{self._episodes}",
            )
            if advanced is not state:
                self._picture.targets[target_id] = advanced
                is_changed = True
            self._notebook.note(with_outcome(entries, state, self._picture.management_logs, now))
        return is_changed

    def _plan(
        self,
        view: FleetView,
        diagnoses: Diagnoses,
        fleet_diagnoses: tuple[Diagnosis, ...],
        now: datetime,
    ) -> Plan:
        """A plan that keeps its promises; one that does not is refused, loudly and for good."""
        plan = make_plan(view, self._unwell, diagnoses, fleet_diagnoses, self.policy, now)
        again = make_plan(view, self._unwell, diagnoses, fleet_diagnoses, self.policy, now)
        broken = broken_promises(plan, view, self.policy, now, self._unwell, again=again)
        if not broken:
            return plan
        details = tuple(f"{one.promise.value}: {one.detail}" for one in broken)
        self._log.error("promise broken", promises="; ".join(details))
        if self._neighbours.demotion.reason is None:
            self._neighbours.demotion.demote("; ".join(details), now)
            text = "A plan broke a promise; from now on the daemon only advises."
            self._notebook.note(
                [Entry(kind=EntryKind.DEMOTED, at=now, text=text, evidence=details)]
            )
        return replace(plan, steps=())

    def _hand_out(self, plan: Plan) -> None:
        for step in plan.steps:
            if step.mode is Mode.OBSERVE:
                continue
            # Set here already, so that the next round cannot choose the step again.
            intent_id = self._neighbours.new_intent_id()
            state = self._picture.targets[step.target_id]
            self._picture.put(state._replace(in_flight=intent_id, in_flight_action=step.action))
            self._neighbours.start_step(step, intent_id)

    def _note_clock(self, now: datetime) -> None:
        """The two clocks should agree on how long it is since the last round."""
        before, monotonic_before = self._clocks_read
        monotonic = self._clock.monotonic()
        self._clocks_read = (now, monotonic)
        jump = now - before - timedelta(seconds=monotonic - monotonic_before)
        if abs(jump) > CLOCK_JUMP:
            self._log.warning("the clock has jumped", seconds=round(jump.total_seconds(), 1))
            self._picture.set_clock_by(jump, now)
        elif now < before:
            self._picture.dirty.update(self._picture.targets)  # answers may lie in the future now

    def _note_pause(self, now: datetime) -> None:
        pause = self._neighbours.pause.read()
        reason = f"{pause.reason} (by {pause.by})" if pause is not None else None
        if reason == self._paused_by:
            return
        self._paused_by = reason
        if reason is None:
            self._log.info("resumed")
            self._notebook.note([Entry(kind=EntryKind.RESUMED, at=now, text="Resumed.")])
        else:
            self._log.warning("paused", reason=reason)
            self._notebook.note([Entry(kind=EntryKind.PAUSED, at=now, text=f"Paused: {reason}")])

    def _note_calls(self, plan: Plan, now: datetime) -> None:
        """Journal that a person was called: once per episode and cause, else when it appears."""
        targets = self._picture.targets
        with_episode = frozenset(
            target_id
            for call in plan.escalations
            if (target_id := call.subject.target_id) is not None
            and target_id in targets
            and targets[target_id].episode is not None
        )
        for call in plan.escalations:
            called = call.subject.target_id
            if called is not None and called in with_episode:
                targets[called], entries = mark_escalated(targets[called], call, now)
                self._notebook.note(entries)
        self._notebook.note(new_escalations(self._last_plan, plan, with_episode))
        self._last_plan = plan

    def _status_line(self) -> str:
        verdicts = Counter(health.verdict for health in self._unwell.values())
        verdicts[Overall.PASSED] += len(self._health) - len(self._unwell)
        told = sorted(verdict for verdict, count in verdicts.items() if count)
        words = ", ".join(f"{verdicts[verdict]} {verdict.value}" for verdict in told)
        paused = " (paused)" if self._paused_by is not None else ""
        return f"mode {self.policy.mode.value}{paused}: {words or 'no VM known yet'}"


def _told_at(event: Event, now: datetime) -> datetime:
    """When an event says it was told; steps are never doubted."""
    match event:
        case TargetsListed(inventory):
            return inventory.observed_at
        case Observed():
            return event.observed_at
        case SourceTold() | PathTold() | Sighted():
            return event.at
        case _:
            return now
