"""The promise across a crash, at every point where one can strike.

The daemon is killed at each of its calls to the world: right before the call has effect, right
after, and by an orderly stop; then again in the middle of its recovery; and at moments in between
while a request is on its way. What the world's own ledger says afterwards must hold: at most one
request per intent, none without its BEGUN row, and every intent has one outcome that is true.

The last tests prove that these can fail: daemons broken on purpose do not pass.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from stackward.act.errand import Errand, conclude, resumed
from stackward.act.executor import Executor
from stackward.act.recovery import recover
from stackward.act.sending import send
from stackward.act.tools import ActSettings, Tools
from stackward.errors import JournalError, TimedOut
from stackward.model.entry import EntryKind, OpenIntent
from stackward.model.event import StepFinished
from stackward.model.identity import IntentId
from stackward.model.outcome import Outcome, OutcomeKind
from stackward.model.plan import ActionName, Step
from stackward.ports import JobStatus
from tests.builders import HOST
from tests.component.act.stage import Stage, a_step
from tests.fakes.journal import CLOSING
from tests.fakes.kill import Killed, KillSwitch, Manner
from tests.fakes.small_cloud import Faults
from tests.fakes.virtual_loop import run_virtually

ID = IntentId("intent-1")
RESTART, REBOOT = ActionName.RESTART_AGENT, ActionName.REBOOT_SYSTEM_VM
ACTIONS = [RESTART, REBOOT]

Runner = Callable[[Tools, Step], Awaitable[object]]
Recoverer = Callable[[Sequence[OpenIntent], Tools], Awaitable[None]]


@dataclass(frozen=True)
class Daemon:
    """The two halves under test; broken ones are put in their place."""

    run: Runner
    recover: Recoverer = recover


REAL = Daemon(run=lambda tools, step: Executor(tools).run(step, ID))

WEATHERS: dict[str, Faults] = {
    "fair": Faults(),
    "reply lost": Faults(reply=TimedOut("silence")),
    "request lost": Faults(request=TimedOut("silence")),
    "slow": Faults(arrival=12.0),
    "arrives after its deadline": Faults(arrival=40.0),
    "agent stays dead": Faults(agent_stays_dead=True),
    "job lies": Faults(job_lies=True),
    "job fails": Faults(job_ends_as=JobStatus.FAILED),
}


# Short windows: the protocol is the same, and a sweep plays hundreds of lives.
HASTY = ActSettings(facts_within=10.0, arrival_slack=30.0, failed_job_look=15.0, recovery_look=30.0)


def a_hasty_step(action: ActionName) -> Step:
    return a_step(action, verify_within=timedelta(seconds=40))


async def attempt(stage: Stage, switch: KillSwitch, what: Callable[[Tools], Awaitable[object]]):
    """One life of a daemon. It ends by itself, or by the switch."""

    async def live() -> None:
        await what(stage.tools(switch, settings=HASTY))

    task = asyncio.get_running_loop().create_task(live())
    await asyncio.wait([task])
    if not task.cancelled() and (error := task.exception()) is not None:
        while isinstance(error, BaseExceptionGroup):
            (error,) = error.exceptions
        assert isinstance(error, Killed), error


async def one_life(stage: Stage, daemon: Daemon, step: Step, switch: KillSwitch) -> None:
    await attempt(stage, switch, lambda tools: daemon.run(tools, step))


async def restart(stage: Stage, daemon: Daemon, switch: KillSwitch) -> None:
    stage.cloud.forget_the_log()

    async def wake_up(tools: Tools) -> None:
        await daemon.recover(await tools.journal.open_intents(), tools)

    await attempt(stage, switch, wake_up)


def check_the_books(stage: Stage) -> None:
    """What must hold when the dust has settled, by the world's ledger and by the journal."""
    cloud, journal = stage.cloud, stage.journal
    for number, request in enumerate(cloud.ledger, start=1):
        assert request.begun_before >= number, "a request without a BEGUN row of its own before it"
    assert len(cloud.ledger) <= journal.count(EntryKind.INTENT), "more requests than intents"
    for intent in journal.of(EntryKind.INTENT):
        closings = [
            entry
            for entry in journal.written
            if entry.intent_id == intent.intent_id and entry.kind in CLOSING
        ]
        assert len(closings) == 1, f"{len(closings)} outcomes"
        outcome = closings[0].outcome
        assert outcome is not None
        if any(request.has_effect for request in cloud.ledger):
            assert outcome.kind is not OutcomeKind.WITHDRAWN, "withdrawn, and it was done"
        if outcome.kind is OutcomeKind.SUCCEEDED:
            assert cloud.ledger, "succeeded, and nothing arrived"
            assert cloud.is_well, "succeeded, and the agent is dead"
        finished = [event for event in stage.sink.events if isinstance(event, StepFinished)]
        assert all(event.outcome == outcome for event in finished)


def a_stage(weather: Faults) -> Stage:
    stage = Stage()
    stage.cloud.faults = replace(weather)
    return stage


def points_of(daemon: Daemon, action: ActionName, weather: Faults) -> list[int]:
    """The calls of an undisturbed life. Of a long wait's equal calls only the first and last."""
    stage, switch = a_stage(weather), KillSwitch()
    run_virtually(one_life(stage, daemon, a_hasty_step(action), switch))
    calls = switch.calls
    return [
        number + 1
        for number in range(len(calls))
        if len(set(calls[max(0, number - 1) : number + 2])) > 1 or number in (0, len(calls) - 1)
    ]


def play_one(
    daemon: Daemon, action: ActionName, weather: Faults, first: KillSwitch, *then: KillSwitch
) -> Stage:
    """A life that ends at `first`, restarts that end at `then`, a last restart that may finish."""
    stage = a_stage(weather)

    async def play() -> None:
        await one_life(stage, daemon, a_hasty_step(action), first)
        for switch in then:
            await restart(stage, daemon, switch)
        await restart(stage, daemon, KillSwitch())
        await asyncio.sleep(600)  # what is still on its way arrives

    run_virtually(play())
    return stage


def sweep(daemon: Daemon, action: ActionName, weather: Faults) -> int:
    """Die at every call in every manner. Returns how many deaths there were."""
    deaths = 0
    for at in points_of(daemon, action, weather):
        for manner in Manner:
            check_the_books(play_one(daemon, action, weather, KillSwitch(at, manner)))
            deaths += 1
    return deaths


@pytest.mark.parametrize("weather", WEATHERS)
@pytest.mark.parametrize("action", ACTIONS)
def test_at_most_one_request_per_intent_wherever_it_dies(action: ActionName, weather: str):
    assert sweep(REAL, action, WEATHERS[weather]) >= 30


@pytest.mark.parametrize("action", ACTIONS)
def test_dying_again_in_recovery_sends_nothing_either(action: ActionName):
    weather = WEATHERS["fair"]
    for first in points_of(REAL, action, weather)[2::3]:
        for second in range(1, 12, 3):
            stage = play_one(
                REAL,
                action,
                weather,
                KillSwitch(first, Manner.AFTER),
                KillSwitch(second, Manner.AFTER),
                KillSwitch(second, Manner.BEFORE),
            )
            check_the_books(stage)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_request_on_its_way_when_the_daemon_dies_is_never_sent_again(action: ActionName):
    for arrival in (5.0, 25.0, 50.0):
        for seconds in range(1, 40, 5):
            stage = a_stage(Faults(arrival=arrival))

            async def play(stage: Stage = stage, seconds: float = seconds + 0.05) -> None:
                try:
                    async with asyncio.timeout(seconds):
                        await Executor(stage.tools(settings=HASTY)).run(a_hasty_step(action), ID)
                except TimeoutError:
                    pass
                await restart(stage, REAL, KillSwitch())
                await asyncio.sleep(600)

            run_virtually(play())
            check_the_books(stage)


def test_the_sweep_meets_every_kind_of_end():
    """It would be empty if all deaths came before anything was sent, or after all was over."""
    seen: set[OutcomeKind] = set()
    requests: set[int] = set()
    for action in ACTIONS:
        for at in points_of(REAL, action, Faults()):
            for manner in Manner:
                stage = play_one(REAL, action, Faults(), KillSwitch(at, manner))
                seen.update(outcome.kind for outcome in stage.outcomes)
                requests.add(len(stage.cloud.ledger))
    assert seen >= {OutcomeKind.SUCCEEDED, OutcomeKind.WITHDRAWN, OutcomeKind.UNKNOWN}
    assert requests == {0, 1}


# --- daemons that are broken on purpose


def _resumed(found: OpenIntent) -> Errand:
    errand = resumed(found)
    assert errand is not None
    return errand


async def send_again(found: Sequence[OpenIntent], tools: Tools) -> None:
    """Takes an open intent for one that was not sent, and sends it."""
    for intent in found:
        target = (await tools.api.look(_resumed(intent).target_id)).target
        assert target is not None
        await send(tools, _resumed(intent), target, HOST)
    await recover(found, tools)


async def withdraw_all(found: Sequence[OpenIntent], tools: Tools) -> None:
    """Believes that what it does not remember did not happen."""
    for intent in found:
        await conclude(tools, intent.intent, Outcome(OutcomeKind.WITHDRAWN, "forgotten"))


async def forget_all(found: Sequence[OpenIntent], tools: Tools) -> None:
    """Starts with a clean slate."""


async def believe_all(found: Sequence[OpenIntent], tools: Tools) -> None:
    """Takes a row for the deed."""
    for intent in found:
        await conclude(tools, intent.intent, Outcome(OutcomeKind.SUCCEEDED, "it says so"))


async def send_first(tools: Tools, step: Step) -> None:
    """Sends, and then writes that it is about to send."""

    class Late:
        """A journal that lets BEGUN wait."""

        def __init__(self) -> None:
            self.held = False

        async def append(self, entry):
            if entry.kind is EntryKind.BEGUN:
                self.entry = entry
                return 0
            if entry.kind in (EntryKind.ACCEPTED, EntryKind.OUTCOME) and hasattr(self, "entry"):
                await tools.journal.append(self.entry)
                del self.entry
            return await tools.journal.append(entry)

    await Executor(replace(tools, journal=Late())).run(step, ID)  # type: ignore[arg-type]


async def try_twice(tools: Tools, step: Step) -> None:
    """Sends once more when no answer came."""
    try:
        async with asyncio.timeout(5):
            await Executor(tools).run(step, ID)
    except TimeoutError:
        found = await tools.journal.open_intents()
        await send_again(found, tools)


BROKEN = {
    "sends again in recovery": Daemon(REAL.run, send_again),
    "withdraws what it forgot": Daemon(REAL.run, withdraw_all),
    "leaves intents open": Daemon(REAL.run, forget_all),
    "believes its own rows": Daemon(REAL.run, believe_all),
    "sends before BEGUN": Daemon(send_first),
    "sends again without an answer": Daemon(try_twice),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_broken_daemon_does_not_pass(action: ActionName, name: str):
    weather = WEATHERS["slow"] if "answer" in name else WEATHERS["fair"]
    with pytest.raises(AssertionError):
        sweep(BROKEN[name], action, weather)


def test_the_row_is_written_before_the_request_and_not_only_asked_for():
    """A BEGUN row that fails stops the request even where the journal recovers at once."""
    stage = Stage()

    class FailsOnce:
        failed = False

        async def append(self, entry):
            if entry.kind is EntryKind.BEGUN and not self.failed:
                self.failed = True
                raise JournalError("disk full")
            return await stage.journal.append(entry)

    run_virtually(Executor(stage.tools(journal=FailsOnce())).run(a_step(), ID))
    assert stage.cloud.ledger == []
    check_the_books(stage)
