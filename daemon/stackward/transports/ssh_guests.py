"""The ways into system VMs: `ports.Guests` over SSH.

One connection per hypervisor, shared by the VMs behind it; one connection per VM through it, with
one channel for facts, one for the log tail, and one more while an action runs. What is said on a
channel is in ssh_channels.py, which ways there are in ssh_pool.py, and the library in ssh.py.

Rules of this module:

1. Hypervisor keys are strict. VM keys are pinned per template, since its VMs share them.
2. A way that failed is left alone for its back-off: the failure is told again, nothing is tried.
   A jump that fails costs one attempt, however many VMs wait for it.
3. Nothing waits for the other side to close: a child in D state never would.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from random import Random

from stackward.catalog.fact_loop import FactLoopSettings
from stackward.catalog.log_tail import LogTailSettings
from stackward.errors import (
    Garbled,
    JournalError,
    Leg,
    RefusalKind,
    Refused,
    TimedOut,
    TransportError,
    Unreachable,
)
from stackward.model.guest import CommandReply, FactBlock, LogChunk, LogPosition
from stackward.model.identity import TargetId, TemplateId
from stackward.model.target import HypervisorHost, Target
from stackward.ports import Clock, HostKeys, Log
from stackward.transports.ssh import SshDoor, SshWay
from stackward.transports.ssh_channels import CommandChannel, FactChannel, LoopKit, TailChannel
from stackward.transports.ssh_limits import turn
from stackward.transports.ssh_pool import Jump, Pool, Vm
from stackward.transports.ssh_settings import SshSettings

SILENCES_MAX = 2  # unanswered ticks in a row, then the connection is made anew
CLOSE_SECONDS = 2.0


class SshGuests:
    """`ports.Guests` over SSH."""

    def __init__(
        self,
        settings: SshSettings,
        host_keys: HostKeys,
        clock: Clock,
        log: Log,
        dice: Random,
        *,
        facts: FactLoopSettings | None = None,
        tail: LogTailSettings | None = None,
        loop: LoopKit | None = None,
    ) -> None:
        self._settings = settings
        self._host_keys = host_keys
        self._clock = clock
        self._log = log
        self._facts = facts or FactLoopSettings()
        self._tail = tail or LogTailSettings()
        self._loop = loop or LoopKit()
        self._door = SshDoor(settings, dice)
        self._pool = Pool(settings, clock, dice)
        self._turns = asyncio.Semaphore(settings.handshakes_max)
        self._first_use = asyncio.Lock()

    async def ask(
        self, target: Target, host: HypervisorHost | None, tick: int, *, timeout: float
    ) -> FactBlock:
        """The block of this tick; ticks of one VM must never repeat."""
        deadline = asyncio.get_running_loop().time() + timeout
        vm = self._pool.vm(target, host)
        if not vm.asking.locked():
            async with vm.asking:
                return await self._ask(vm, tick, deadline)
        waiting_for = f"another question to {vm.name}"
        async with turn(vm.asking, deadline, waiting_for=waiting_for, leg=Leg.CHANNEL):
            return await self._ask(vm, tick, deadline)

    async def _ask(self, vm: Vm, tick: int, deadline: float) -> FactBlock:
        facts = vm.facts
        if facts is None or facts.failure is not None:
            facts = await self._fact_channel(vm, deadline)
        try:
            block = await facts.ask(tick, deadline)
        except TransportError as error:
            _not_answered(vm, error)
            raise
        vm.silences = 0
        vm.back_off.succeeded()
        return block

    async def run(
        self,
        target: Target,
        host: HypervisorHost | None,
        command: str,
        *,
        timeout: float,
        output_bytes_max: int = 65536,
    ) -> CommandReply:
        """One command for an action, without input; standard error is part of its output."""
        deadline = asyncio.get_running_loop().time() + timeout
        vm = self._pool.vm(target, host)
        way = await self._way(vm, deadline)
        conversation = CommandChannel(
            vm.place.said,
            bytes_max=output_bytes_max,
            flood_bytes_max=self._settings.flood_bytes_max,
        )
        try:
            await way.open(conversation, command, deadline)
            conversation.start()
            return await conversation.reply(deadline)
        except TransportError as error:
            error.maybe_sent = conversation.was_opened
            raise
        finally:
            conversation.close()

    async def follow(
        self, target: Target, host: HypervisorHost | None, resume: LogPosition | None
    ) -> AsyncIterator[LogChunk]:
        """The log from `resume` on, until something breaks."""
        patience = self._settings.follow_timeout.total_seconds()
        deadline = asyncio.get_running_loop().time() + patience
        vm = self._pool.vm(target, host)
        way = await self._way(vm, deadline)
        conversation = TailChannel(
            vm.place.said,
            self._clock,
            self._tail,
            self._loop,
            resume,
            bytes_max=self._settings.tail_bytes_max,
        )
        try:
            command = self._loop.tail_command(self._tail, resume)
            await way.open(conversation, command, deadline, is_stream=True)
            conversation.start()
            async with aclosing(conversation.chunks(deadline)) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            conversation.close()

    async def retain(self, target_ids: frozenset[TargetId]) -> None:
        """Close every connection to targets not named, and jumps without targets."""
        await _settle(self._pool.retain(target_ids))

    async def close(self) -> None:
        """Close everything; nothing can be asked afterwards."""
        await _settle(self._pool.close())

    async def _fact_channel(self, vm: Vm, deadline: float) -> FactChannel:
        vm.facts = None
        vm.back_off.check()
        way = await self._way(vm, deadline)
        facts = FactChannel(
            vm.place.said,
            self._clock,
            self._door.deadlines,
            self._facts,
            self._loop,
            self._settings.block_bytes_max,
        )
        try:
            await way.open(facts, self._loop.fact_command(), deadline)
        except TransportError as error:
            _count(vm, error)
            raise
        facts.start()
        vm.facts = facts
        return facts

    async def _way(self, vm: Vm, deadline: float) -> SshWay:
        """The VM's connection; made if there is none, by one asker while the others wait."""
        if vm.way is not None and not vm.way.is_closed:
            return vm.way
        waiting_for = f"another login to {vm.place.said}"
        # That one may itself be waiting for the jump: then there the way is broken.
        leg = Leg.INNER_TCP if vm.jump is None or vm.jump.is_open else Leg.JUMP_TCP
        async with turn(vm.lock, deadline, waiting_for=waiting_for, leg=leg):
            if vm.way is not None and not vm.way.is_closed:
                return vm.way
            vm.back_off.check()
            way = await self._log_in(vm, deadline)
            if vm.left:
                way.abort(vm.left)
                raise Unreachable(f"{vm.place.said}: {vm.left}", leg=Leg.CHANNEL, maybe_sent=False)
            vm.way, vm.facts = way, None
            return way

    async def _log_in(self, vm: Vm, deadline: float) -> SshWay:
        jump_way, gates = None, [self._turns]
        if vm.jump is not None:
            jump_way = await self._jump_way(vm.jump, deadline)
            gates = [vm.jump.turns, self._turns]
        async with AsyncExitStack() as turns:
            for gate in gates:
                waiting_for = f"its turn to log in to {vm.place.said}"
                await turns.enter_async_context(
                    turn(gate, deadline, waiting_for=waiting_for, leg=Leg.INNER_TCP)
                )
            try:
                way = await self._log_in_trusted(vm, jump_way, deadline)
            except TransportError as error:
                _count(vm, error)
                raise
        if vm.jump is not None:
            vm.jump.back_off.succeeded()
        return way

    async def _jump_way(self, jump: Jump, deadline: float) -> SshWay:
        """The hypervisor's connection; made by one asker for all its VMs."""
        if jump.way is not None and not jump.way.is_closed:
            return jump.way
        said = jump.place.said
        async with turn(jump.lock, deadline, waiting_for=f"the login to {said}", leg=Leg.JUMP_TCP):
            if jump.way is not None and not jump.way.is_closed:
                return jump.way
            jump.back_off.check()
            waiting_for = f"its turn to log in to {said}"
            async with turn(self._turns, deadline, waiting_for=waiting_for, leg=Leg.JUMP_TCP):
                try:
                    way = await self._door.log_in_to_jump(jump.place, deadline)
                except TransportError as error:
                    jump.back_off.failed(error)
                    raise
            if jump.left:
                way.abort(jump.left)
                raise way.broken()
            way.on_lost = jump.back_off.failed
            jump.way = way
            return way

    async def _log_in_trusted(self, vm: Vm, jump: SshWay | None, deadline: float) -> SshWay:
        """Log in, and see to it that the key shown is one pinned for the template.

        Without a pin the first key is pinned. When another VM of the template was quicker, and
        with another key, the second login decides, restricted to the types pinned.
        """
        if vm.template_id is None:
            text = f"{vm.place.said}: CloudStack tells no template, so no host key can be expected"
            raise Refused(text, kind=RefusalKind.OTHER, leg=Leg.INNER_TCP, maybe_sent=False)
        for _ in range(2):
            pins = await self._pins(vm, vm.template_id, deadline)
            way, key = await self._door.log_in_to_vm(vm.place, deadline, jump, pins)
            if pins:
                return way
            try:
                if await self._pin_first(vm, vm.template_id, key, deadline):
                    return way
            except BaseException:
                way.abort("its host key could not be pinned")
                raise
            way.abort("another key was pinned meanwhile")
        raise Unreachable(
            f"{vm.place.said}: its template's pinned keys vanished", leg=Leg.INNER_HOST_KEY
        )

    async def _pin_first(self, vm: Vm, template_id: TemplateId, key: str, deadline: float) -> bool:
        """Pin the key if none is pinned; False when there is one and it is another."""
        waiting_for = "the pinned host keys"
        async with turn(self._first_use, deadline, waiting_for=waiting_for, leg=Leg.INNER_TCP):
            pins = await self._pins(vm, template_id, deadline)
            if pins:
                return key in pins
            try:
                async with asyncio.timeout_at(deadline):
                    await self._host_keys.pin(template_id, key, first_seen_on=vm.name)
            except (JournalError, TimeoutError) as error:
                raise _no_pins(vm, error) from error
        self._log.info("host key pinned", template=template_id, first_seen_on=vm.name, key=key)
        return True

    async def _pins(self, vm: Vm, template_id: TemplateId, deadline: float) -> frozenset[str]:
        try:
            async with asyncio.timeout_at(deadline):
                return await self._host_keys.pinned(template_id)
        except (JournalError, TimeoutError) as error:
            raise _no_pins(vm, error) from error


def _no_pins(vm: Vm, error: Exception) -> Unreachable:
    # Not the host key's leg: nothing is known of the VM's key.
    text = f"{vm.place.said} is not let in: the pinned host keys cannot be read or written: {error}"
    return Unreachable(text, leg=Leg.INNER_TCP, maybe_sent=False)


def _count(vm: Vm, error: TransportError) -> None:
    """A failure keeps the VM's way closed for a while, unless it was its jump's."""
    if error.leg is not Leg.JUMP_TCP:
        vm.back_off.failed(error)


def _not_answered(vm: Vm, error: TransportError) -> None:
    """One silence may be a busy moment; the second one, or anything worse, ends what there is."""
    match error:
        case TimedOut():
            vm.silences += 1
            if vm.silences < SILENCES_MAX:
                return
            vm.drop(f"{SILENCES_MAX} ticks in a row were not answered")
        case Garbled():  # what is left of such a channel might never go away by itself
            vm.drop("its facts could not be read")
        case _:
            pass  # the channel is gone by itself
    vm.facts = None
    _count(vm, error)


async def _settle(closing: list[SshWay]) -> None:
    """Give what is closing a moment, not more."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            for way in closing:
                await way.wait_closed()
    except TimeoutError:
        return
