"""Between choosing a step and sending it, people and clocks may have been quicker."""

from dataclasses import replace
from datetime import timedelta

import pytest

from stackward.model.entry import Entry, EntryKind
from stackward.model.identity import HostId, JobId
from stackward.model.outcome import Outcome, OutcomeKind
from stackward.model.plan import ActionName, Mode
from tests.builders import RESTART, a_policy, a_rule
from tests.component.act.stage import Stage, a_step
from tests.fakes.clock import LoopClock
from tests.fakes.journal import MemoryJournal
from tests.fakes.virtual_loop import run_virtually

REBOOT = ActionName.REBOOT_SYSTEM_VM
MORE_CAREFUL = {
    "the whole observes": a_policy(mode=Mode.OBSERVE),
    "the whole advises": a_policy(mode=Mode.ADVISE),
    "the zone advises": a_policy(zone_modes={"north": Mode.ADVISE}),
    "the rule advises": a_policy(a_rule(mode=Mode.ADVISE)),
    "the rule is gone": a_policy(a_rule(name="another")),
    "the rule has other zones": a_policy(a_rule(every_zone=False)),
}


class HookedJournal(MemoryJournal):
    """Does something right after the BEGUN row is on disk."""

    def __init__(self):
        super().__init__()
        self.after_begun = lambda: None

    async def append(self, entry: Entry) -> int:
        sequence = await super().append(entry)
        if entry.kind is EntryKind.BEGUN:
            self.after_begun()
        return sequence


class JumpyClock(LoopClock):
    """A clock that can be set forward: `by_wall` alone, or both after a stop."""

    by_wall = 0.0
    by_both = 0.0

    def now(self):
        return super().now() + timedelta(seconds=self.by_wall)

    def monotonic(self):
        return super().monotonic() + self.by_both


def assert_nothing_was_sent(stage: Stage, outcome: Outcome, why: str) -> None:
    assert outcome.kind is OutcomeKind.WITHDRAWN
    assert why in outcome.reason
    assert stage.cloud.ledger == []


def run(stage: Stage, **tools) -> Outcome:
    return run_virtually(stage.run(stage.tools(**tools), a_step()))


@pytest.mark.parametrize("policy", MORE_CAREFUL.values(), ids=MORE_CAREFUL.keys())
def test_a_policy_made_more_careful_before_the_look_withdraws_the_step(policy):
    stage = Stage()
    stage.cloud.policy = policy
    outcome = run(stage)
    assert_nothing_was_sent(stage, outcome, "")
    assert EntryKind.BEGUN not in stage.kinds


@pytest.mark.parametrize("policy", MORE_CAREFUL.values(), ids=MORE_CAREFUL.keys())
def test_a_policy_made_more_careful_at_the_last_moment_withdraws_the_step(policy):
    journal = HookedJournal()
    stage = Stage(journal=journal)

    def make_careful():
        stage.cloud.policy = policy

    journal.after_begun = make_careful
    outcome = run(stage)
    assert_nothing_was_sent(stage, outcome, "")
    assert EntryKind.BEGUN in stage.kinds


def test_an_action_that_its_rule_has_lost_is_not_done():
    stage = Stage()
    stage.cloud.policy = a_policy(a_rule(ladder=(RESTART,)))
    outcome = run_virtually(stage.run(stage.tools(), a_step(REBOOT)))
    assert_nothing_was_sent(stage, outcome, "does not allow")


@pytest.mark.parametrize("clock", ["by_wall", "by_both"])
def test_a_daemon_that_was_stopped_for_two_minutes_does_not_act_on_what_it_saw_before(clock):
    jumpy, journal = JumpyClock(), HookedJournal()
    stage = Stage(journal=journal)
    journal.after_begun = lambda: setattr(jumpy, clock, 120.0)
    outcome = run(stage, clock=jumpy)
    assert_nothing_was_sent(stage, outcome, "held up")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"job_id": JobId("migration")}, "job migration"),
        ({"host_id": HostId("host-2")}, "hypervisor"),
        ({"control_address": "169.254.9.9"}, "has moved"),
    ],
)
def test_what_began_in_the_cloud_while_facts_were_awaited_withdraws_the_step(change, why):
    stage = Stage()
    stage.cloud.facts_age = 60.0

    def happen():
        stage.cloud.facts_age = 1.0
        stage.cloud.target = replace(stage.cloud.target, **change)

    async def play():
        stage.cloud.later(12, happen)
        return await stage.run(stage.tools(), a_step())

    assert_nothing_was_sent(stage, run_virtually(play()), why)


def test_a_disabled_zone_while_facts_were_awaited_withdraws_the_step():
    stage = Stage()
    stage.cloud.facts_age = 60.0

    def happen():
        stage.cloud.facts_age = 1.0
        stage.cloud.zone = replace(stage.cloud.zone, is_enabled=False)

    async def play():
        stage.cloud.later(12, happen)
        return await stage.run(stage.tools(), a_step())

    assert_nothing_was_sent(stage, run_virtually(play()), "is disabled")
