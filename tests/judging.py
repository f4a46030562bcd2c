"""The judgement of one round, whole, as the control loop makes it: for tests of the core."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from stackward.core.assess import assess
from stackward.core.diagnose import diagnose_fleet, diagnose_target, suppress
from stackward.core.guards import GUARDS, GuardFunction
from stackward.core.planner import make_plan
from stackward.core.policy import Policy
from stackward.core.promises import broken_promises
from stackward.core.state import FleetView
from stackward.model.diagnosis import Diagnosis
from stackward.model.health import Health
from stackward.model.identity import TargetId
from stackward.model.plan import BrokenPromise, Guard, Plan
from tests.builders import NOW, a_policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    fleet: FleetView
    policy: Policy
    now: datetime
    health: Mapping[TargetId, Health]
    diagnoses: Mapping[TargetId, tuple[Diagnosis, ...]]
    fleet_diagnoses: tuple[Diagnosis, ...]
    plan: Plan

    def broken(self, again: Plan | None = None) -> tuple[BrokenPromise, ...]:
        return broken_promises(
            self.plan, self.fleet, self.policy, self.now, self.health, again=again
        )


def judge(
    fleet: FleetView,
    policy: Policy | None = None,
    now: datetime = NOW,
    guards: Mapping[Guard, GuardFunction] = GUARDS,
) -> Judgement:
    """Assess, diagnose and plan for every target of a fleet."""
    policy = policy or a_policy()
    health = {one: assess(state, policy, now) for one, state in fleet.targets.items()}
    found = {
        one: diagnose_target(state, policy, now, fleet) for one, state in fleet.targets.items()
    }
    fleet_diagnoses = diagnose_fleet(fleet, found, health, policy, now)
    diagnoses = suppress(found, fleet_diagnoses)
    plan = make_plan(fleet, health, diagnoses, fleet_diagnoses, policy, now, guards=guards)
    return Judgement(
        fleet=fleet,
        policy=policy,
        now=now,
        health=health,
        diagnoses=diagnoses,
        fleet_diagnoses=fleet_diagnoses,
        plan=plan,
    )


def without(*names: Guard) -> Mapping[Guard, GuardFunction]:
    """The guards, with a hole: for planting a planner that is broken."""
    return {name: guard for name, guard in GUARDS.items() if name not in names}
