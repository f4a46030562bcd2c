"""Whatever comes in whatever order: memory stays bounded, late news harmless, and replay agrees."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stackward.core.assess import assess
from stackward.core.episodes import advance_episode, mark_escalated
from stackward.core.inventory import fold_inventory
from stackward.core.reduce import fold_zone_actions, reduce
from stackward.core.replay import replay
from stackward.core.state import ATTEMPTS_KEPT, SIGHTINGS_KEPT, TargetState
from stackward.errors import Leg
from stackward.model.diagnosis import DiagnosisCode, Subject
from stackward.model.entry import Entry, EntryKind, StoredEntry
from stackward.model.event import (
    PathTold,
    Sighted,
    StepBegun,
    StepFinished,
    StepStarted,
    TargetEvent,
)
from stackward.model.guest import GuestMarks
from stackward.model.health import Health, HealthState, Overall
from stackward.model.identity import IntentId, ServiceId, TargetId, ZoneId
from stackward.model.outcome import Outcome, OutcomeKind
from stackward.model.plan import ActionName, Escalation
from stackward.model.sighting import EventClass, Severity, Sighting
from stackward.model.target import CloudState
from stackward.model.verdict import Failed, Passed, ProbeName, Sign, Unknown
from tests.builders import (
    DEAD_AGENT,
    NOW,
    VM,
    ZONE,
    a_fleet,
    a_policy,
    a_position,
    a_state,
    a_target,
    an_episode,
    an_inventory,
    observed,
    seconds,
)
from tests.judging import judge

STEADY = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

moments = st.integers(-5, 60).map(lambda second: NOW + seconds(second))
verdicts = st.sampled_from(
    [Passed(), Failed(Sign.UNIT_FAILED, ""), Failed(Sign.UNIT_EXITED, ""), Unknown("")]
)
intents = st.sampled_from([IntentId(f"intent-{n}") for n in range(3)])
actions = st.sampled_from(list(ActionName))
observations = st.builds(
    lambda probe, verdict, at, boot: observed(
        (probe, verdict), at=at, marks=GuestMarks(boot_id=boot)
    ),
    st.sampled_from([ProbeName.AGENT_UNIT, ProbeName.DISK]),
    verdicts,
    moments,
    st.sampled_from([None, "boot-1", "boot-2"]),
)
paths = st.builds(
    PathTold,
    target_id=st.just(VM),
    leg=st.sampled_from([None, Leg.INNER_TCP, Leg.JUMP_TCP]),
    detail=st.just(""),
    at=moments,
)
sightings = st.builds(
    lambda offset, at, event: Sighted(
        target_id=VM,
        sightings=(
            Sighting(
                event=event,
                severity=Severity.INFO,
                pattern="",
                text="",
                line_start=a_position(offset),
                seen_at=at,
            ),
        ),
        position=a_position(offset + 10),
        at=at,
    ),
    st.integers(0, 50).map(lambda n: n * 10),
    moments,
    st.sampled_from([EventClass.AGENT_READY, EventClass.OOM]),
)
step_events = st.one_of(
    st.builds(
        StepStarted,
        target_id=st.just(VM),
        intent_id=intents,
        action=actions,
        episode_id=st.just("episode-1"),
        at=moments,
    ),
    st.builds(StepBegun, target_id=st.just(VM), intent_id=intents, at=moments),
    st.builds(
        StepFinished,
        target_id=st.just(VM),
        intent_id=intents,
        action=actions,
        outcome=st.sampled_from([Outcome(kind, "") for kind in OutcomeKind]),
        at=moments,
    ),
)
events: st.SearchStrategy[TargetEvent] = st.one_of(observations, paths, sightings, step_events)


@STEADY
@given(st.lists(events, max_size=40), st.booleans())
def test_memory_stays_sane_and_bounded_whatever_comes(
    happened: list[TargetEvent], has_episode: bool
):
    state = a_state(episode=an_episode() if has_episode else None)
    for event in happened:
        state = reduce(state, event)
        assert len(state.log.recent) <= SIGHTINGS_KEPT
        for memory in state.probes.values():
            assert memory.since <= memory.observed_at
            assert min(memory.failed_in_a_row, memory.passed_in_a_row) == 0
        if state.episode is not None:
            assert len(state.episode.attempts) <= ATTEMPTS_KEPT
        assert assess(state, a_policy(), NOW).state in HealthState


@STEADY
@given(st.lists(events, max_size=20))
def test_the_same_event_twice_is_the_same_as_once(happened: list[TargetEvent]):
    once = twice = a_state(episode=an_episode())
    for event in happened:
        once = reduce(once, event)
        twice = reduce(reduce(twice, event), event)
    assert once == twice


@STEADY
@given(st.lists(observations, min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_what_is_older_than_the_newest_changes_nothing(news, dice):
    state = a_state(probes={})
    for event in sorted(news, key=lambda one: one.observed_at):
        state = reduce(state, event)
    late = dice.choice(news)
    assert reduce(state, late).probes == state.probes


# --- replay agrees with the living memory ------------------------------------------------------

SICK = Health(HealthState.UNHEALTHY, Overall.FAILED)
WELL = Health(HealthState.HEALTHY, Overall.PASSED)
FOUND = judge(a_fleet(a_state("v-2-VM", *DEAD_AGENT), a_state("s-1-VM"))).diagnoses[VM]
CALL = Escalation(
    subject=Subject(target_id=VM),
    subject_name="v-2-VM",
    diagnosis=DiagnosisCode.AGENT_DOWN,
    sentence="",
    advice="",
)
Act = str | tuple[ActionName, bool, OutcomeKind]
acts: st.SearchStrategy[Act] = st.one_of(
    st.sampled_from(["fall ill", "get well", "call", "call for another cause"]),
    st.tuples(actions, st.booleans(), st.sampled_from(list(OutcomeKind))),
)


class _Life:
    """One VM lived through twice: in memory, and as rows of a journal."""

    def __init__(self) -> None:
        self.state: TargetState = a_state(probes={})
        self.rows: list[Entry] = []
        self.zone_actions: Mapping[ZoneId, tuple[datetime, ...]] = {}
        self._now = NOW
        self._count = 0

    def live(self, act: Act) -> None:
        self._now += timedelta(seconds=90)
        self._count += 1
        match act:
            case "fall ill":
                self._judge(SICK)
            case "get well":
                self._judge(WELL)
            case "call":
                self._call(CALL)
            case "call for another cause":
                self._call(replace(CALL, diagnosis=DiagnosisCode.AGENT_DISCONNECTED))
            case (action, is_begun, kind):
                self._step(action, is_begun, kind)
            case _:
                raise AssertionError(act)

    def _call(self, call: Escalation) -> None:
        self.state, rows = mark_escalated(self.state, call, self._now)
        self.rows += rows

    def _judge(self, health: Health) -> None:
        self.state, rows = advance_episode(
            self.state, health, FOUND, self._now, f"episode-{self._count}"
        )
        self.rows += rows

    def _step(self, action: ActionName, is_begun: bool, kind: OutcomeKind) -> None:
        intent = IntentId(f"intent-{self._count}")
        episode_id = self.state.episode.id if self.state.episode else ""
        if kind is OutcomeKind.WOULD_HAVE:
            self._tell(self._finished(intent, action, kind))
            self._write(EntryKind.WOULD_HAVE, intent, action, kind)
            return
        self._tell(
            StepStarted(
                target_id=VM, intent_id=intent, action=action, episode_id=episode_id, at=self._now
            )
        )
        self._write(EntryKind.INTENT, intent, action)
        if is_begun or kind is not OutcomeKind.WITHDRAWN:
            self._now += timedelta(seconds=1)
            self._tell(StepBegun(target_id=VM, intent_id=intent, at=self._now))
            self._write(EntryKind.BEGUN, intent, None)
            window = a_policy().limits.zone_window
            self.zone_actions = fold_zone_actions(self.zone_actions, ZONE.id, self._now, window)
        self._now += timedelta(seconds=1)
        self._tell(self._finished(intent, action, kind))
        self._write(EntryKind.OUTCOME, intent, None, kind)

    def _finished(self, intent: IntentId, action: ActionName, kind: OutcomeKind) -> StepFinished:
        outcome = Outcome(kind, "")
        return StepFinished(
            target_id=VM, intent_id=intent, action=action, outcome=outcome, at=self._now
        )

    def _tell(self, event: TargetEvent) -> None:
        self.state = reduce(self.state, event)

    def _write(
        self,
        kind: EntryKind,
        intent: IntentId,
        action: ActionName | None,
        outcome: OutcomeKind | None = None,
    ) -> None:
        row = Entry(
            kind=kind,
            at=self._now,
            text="",
            target_id=VM,
            zone_id=ZONE.id,
            intent_id=intent,
            action=action,
            outcome=Outcome(outcome, "") if outcome is not None else None,
        )
        self.rows.append(row)


@STEADY
@given(st.lists(acts, max_size=25))
def test_a_restart_remembers_what_the_living_daemon_knew(lived):
    life = _Life()
    for act in lived:
        life.live(act)
    stored = [StoredEntry(number, row) for number, row in enumerate(life.rows, start=1)]
    remembered = replay(stored, a_policy())
    recalled = remembered.recall(a_state(probes={}))
    if recalled.episode is not None:  # that it is on the way back is seen anew
        recalled = recalled._replace(episode=replace(recalled.episode, well_since=None))
    known = life.state
    if known.episode is not None:
        known = known._replace(episode=replace(known.episode, well_since=None))
    assert recalled == known
    assert remembered.zone_actions == life.zone_actions


@STEADY
@given(
    st.lists(st.lists(st.sampled_from(["s-1-VM", "v-2-VM", "v-9-VM"]), unique=True), max_size=8),
    st.lists(st.booleans(), min_size=8, max_size=8),
)
def test_listings_lead_to_what_the_last_whole_one_says(listings, holes):
    targets: dict[TargetId, TargetState] = {}
    departed: Mapping[ServiceId, TargetId] = {}
    at = NOW
    for listed, has_holes in zip(listings, holes, strict=False):
        at += seconds(1000)
        vms = [a_target(name, cloud_state=CloudState.RUNNING) for name in listed]
        unreadable = ("row",) if has_holes else ()
        fold = fold_inventory(
            targets, an_inventory(*vms, at=at, unreadable=unreadable), at, departed
        )
        before = set(targets)
        targets |= {state.target.id: state for state in fold.changed}
        for target_id in fold.gone:
            del targets[target_id]
        departed = fold.departed
        wanted = {vm.id for vm in vms}
        assert set(targets) == (wanted | before if has_holes else wanted)
        assert not set(departed.values()) & {s.predecessor_id for s in targets.values()}
