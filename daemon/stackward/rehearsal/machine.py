"""The inside of a system VM: it boots, systemd starts the agent, the agent connects and talks.

No file and no socket here. Whoever looks inside looks at an `Inside`: a directory tree with real
tools in front of it, a canned block for load tests, or nothing at all.
"""

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from stackward.rehearsal.agent_log import AgentLog
from stackward.rehearsal.clock import world_now
from stackward.rehearsal.inventory import SystemVm
from stackward.rehearsal.unit import Unit
from stackward.rehearsal.world import World

# Time until a JVM that cannot start has found that out: "instant", as in a crash loop.
_CRASH_SECONDS = 0.02
_CANNOT_START = 67  # AG/Agent.java ExitStatus.Error


class Affliction(StrEnum):
    """What is wrong inside, until somebody takes it away."""

    CRASHES_UNTIL_FAILED = (
        "crashes-until-failed"  # each start dies at once; ends when systemd gives up
    )
    CRASHES = "crashes"  # each start dies at once, for ever
    NO_MANAGEMENT = "no-management"  # nobody takes a connect where host= points
    NO_HANDSHAKE = "no-handshake"  # the connect is taken, and TLS fails


class Link(StrEnum):
    """The agent's link to its management server."""

    NONE = "none"
    STARTUP = "startup"  # startup command sent
    READY = "ready"
    CLOSED_THERE = "closed-there"  # the server has closed it, the JVM has not noticed


class Inside(Protocol):
    """What can be seen inside."""

    def booted(self, machine: "GuestMachine") -> None: ...
    def changed(self, machine: "GuestMachine") -> None:
        """The unit, the JVM or its link is not what it was."""
        ...

    def log(self, lines: Sequence[str]) -> None: ...
    def gone_down(self) -> None: ...
    def discard(self) -> None: ...


class NothingInside:
    """For clouds of which only the API is rehearsed."""

    def booted(self, machine: "GuestMachine") -> None: ...
    def changed(self, machine: "GuestMachine") -> None: ...
    def log(self, lines: Sequence[str]) -> None: ...
    def gone_down(self) -> None: ...
    def discard(self) -> None: ...


class GuestMachine:
    """One VM's life. `management` is where its agent connects to, `host:port`."""

    def __init__(self, world: World, vm: SystemVm, inside: Inside, management: str) -> None:
        self.vm = vm
        self.inside = inside
        self.management = management
        self.boot_id = ""
        self.booted_at = vm.created_at
        self.is_on = False
        self.is_up = False  # booted: sshd answers
        self.link = Link.NONE
        self.afflictions: set[Affliction] = set()
        self.clock_offset = timedelta(0)
        self._world = world
        self._pace = world.settings.pace
        self._log = AgentLog(world.settings.release, vm, management)
        self._life = 0  # grows whenever a boot or a JVM begins or ends
        self._chatter = 0
        self._is_mute = False
        self.unit = Unit(
            world.timers,
            world.dice,
            restart_seconds=self._pace.unit_restart,
            stop_seconds=self._pace.unit_stop,
            started=self._jvm_started,
            ended=self._jvm_ended,
            changed=self._unit_changed,
        )

    def now(self) -> datetime:
        """The VM's own idea of the time."""
        return world_now() + self.clock_offset

    # --- power ------------------------------------------------------------------------------------

    def power_on(self) -> None:
        self.is_on = True
        self._life += 1
        self._in_this_life(self._pace.boot, self._booted)

    def run_since(self, moment: datetime) -> None:
        """Be up and connected since long ago: how the world begins."""
        self.is_on = self.is_up = True
        self.booted_at = moment
        self._begin_boot()
        self._is_mute = True
        self.unit.boot(self.booted_at)
        self.unit.forget_starts()
        self._is_mute = False
        self._life += 1  # the start that the unit has just made is over long ago
        self.link = Link.READY
        self._say(self._log.boot(moment))
        for lines in (self._log.started, self._log.connecting, self._log.connected):
            self._say(lines(moment + self._seconds(30)))
        self._say(self._log.ready(moment + self._seconds(32), self._agent_number))
        self.inside.changed(self)
        self._keep_talking()

    def power_off(self) -> None:
        """A clean shutdown."""
        if not self.is_on:
            return
        if self.is_up:
            self.unit.shut_down()
        self.is_on = self.is_up = False
        self._life += 1
        self.inside.gone_down()

    def discard(self) -> None:
        self.inside.discard()

    def _booted(self) -> None:
        self.is_up = True
        self.booted_at = world_now()
        self._begin_boot()
        self._say(self._log.boot(self.now()))
        self.unit.boot(self.booted_at)

    def _begin_boot(self) -> None:
        self.boot_id = str(uuid.UUID(int=self._world.dice.getrandbits(128), version=4))
        self.inside.booted(self)

    # --- the agent --------------------------------------------------------------------------------

    @property
    def _agent_number(self) -> int:
        return 0 if self.vm.agent is None else self.vm.agent.number

    def _jvm_started(self) -> None:
        self._life += 1
        self.link = Link.NONE
        if self.afflictions & {Affliction.CRASHES, Affliction.CRASHES_UNTIL_FAILED}:
            self._in_this_life(_CRASH_SECONDS, self._crash)
            return
        self._say(self._log.started(self.now()))
        self._in_this_life(self._pace.agent_start * 0.2, self._connect)

    def _crash(self) -> None:
        self._say(self._log.crashed(self.now()))
        self.unit.jvm_exited(_CANNOT_START)

    def _jvm_ended(self, is_clean: bool) -> None:
        self._life += 1
        was, self.link = self.link, Link.NONE
        if is_clean:
            self._say(self._log.stopping(self.now()))
        if was in (Link.STARTUP, Link.READY):
            tell = self._world.agent_said_goodbye if is_clean else self._world.agent_link_closed
            tell(self.vm)

    def _connect(self) -> None:
        self._say(self._log.connecting(self.now()))
        if Affliction.NO_MANAGEMENT in self.afflictions:
            self._say(self._log.refused(self.now()))
            self._in_this_life(self._pace.agent_retry, self._connect)
            return
        if Affliction.NO_HANDSHAKE in self.afflictions:
            self._say(self._log.handshake_failed(self.now()))
            self._in_this_life(self._pace.agent_retry, self._connect)
            return
        self._set_link(Link.STARTUP)
        self._say(self._log.connected(self.now()))
        self._world.agent_connecting(self.vm)
        self._in_this_life(self._pace.agent_start * 0.5, self._become_ready)

    def _become_ready(self) -> None:
        self._set_link(Link.READY)
        # The line is on disk before anybody is told: whoever sees Up will find it.
        self._say(self._log.ready(self.now(), self._agent_number))
        self._world.agent_ready(self.vm)
        self._keep_talking()

    def _keep_talking(self) -> None:
        self._in_this_life(self._pace.chatter, self._chat)

    def _chat(self) -> None:
        self._chatter += 1
        self._say(self._log.chatter(self.now(), self._chatter))
        self._keep_talking()

    # --- what may befall it (the faults) ----------------------------------------------------------

    def kill_jvm(self, code: int) -> None:
        """The JVM ends with this exit code, without a goodbye."""
        self.unit.jvm_exited(code)

    def lose_management(self) -> None:
        """The link breaks and no new one can be made."""
        self.afflictions.add(Affliction.NO_MANAGEMENT)
        self._drop_link()

    def lift(self, affliction: Affliction) -> None:
        """It is over; the agent finds out at its next attempt."""
        self.afflictions.discard(affliction)

    def be_rejected(self) -> None:
        """As if the agent had never got through: no row, no link."""
        self.afflictions.add(Affliction.NO_HANDSHAKE)
        self._drop_link()
        self._world.forget_agent(self.vm)

    def hang(self) -> None:
        """The JVM stands still. Its socket stays established until the server gives it up."""
        if self.unit.state.active != "active":
            return
        self._life += 1  # whatever it was about to do
        self.unit.is_deaf = True
        self._world.agent_went_silent(self.vm)
        self._in_this_life(self._pace.ping_timeout, lambda: self._set_link(Link.CLOSED_THERE))

    def wake(self) -> None:
        """It goes on; if the management server has given it up, it connects anew."""
        if not self.unit.is_deaf:
            return
        self.unit.is_deaf = False
        if self.link is Link.CLOSED_THERE:
            self._drop_link()
        else:
            self._world.agent_spoke_again(self.vm)
            self._life += 1
            self._keep_talking()

    def _drop_link(self) -> None:
        self._life += 1
        if self.link in (Link.STARTUP, Link.READY):
            self._say(self._log.lost(self.now()))
            self._world.agent_link_closed(self.vm)
        self._set_link(Link.NONE)
        if self.unit.state.active == "active" and not self.unit.is_deaf:
            self._in_this_life(self._pace.agent_retry, self._connect)

    # --- telling ----------------------------------------------------------------------------------

    def _unit_changed(self) -> None:
        if self.unit.state.active == "failed":
            self.afflictions.discard(Affliction.CRASHES_UNTIL_FAILED)
        self.inside.changed(self)

    def _set_link(self, link: Link) -> None:
        if link is not self.link:
            self.link = link
            self.inside.changed(self)

    def _say(self, lines: Sequence[str]) -> None:
        if not self._is_mute:
            self.inside.log(lines)

    def _in_this_life(self, seconds: float, action: Callable[[], None]) -> None:
        """Do this later, unless the JVM or the machine has begun another life by then."""
        life = self._life

        def unless_over() -> None:
            if self._life == life:
                action()

        self._world.timers.after(seconds, unless_over)

    @staticmethod
    def _seconds(number: float) -> timedelta:
        return timedelta(seconds=number)
