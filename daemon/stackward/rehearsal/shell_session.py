"""One SSH session inside a system VM: a real bash, and nothing of it left when the session ends.

Bytes go straight from the channel to the process's pipes and back, held up when either side is
full. The process leads a group of its own; when the channel closes, the whole group is killed, as
sshd's hang-up would end it.
"""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import timedelta

import asyncssh

_BASH = "/bin/bash"
_CLOCK = re.compile(rb"(\x1e=clock\x1f)(\d+\.\d+)")
_STDERR = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellPlace:
    """Where sessions run. `clock_offset` is asked at each output: the VM's clock against ours."""

    environment: Mapping[str, str]
    directory: str
    clock_offset: Callable[[], timedelta]


class _Process(asyncio.SubprocessProtocol):
    """The process's side."""

    def __init__(self, session: "ShellSession") -> None:
        self._session = session
        self._exit: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._session.process_started(transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._session.process_said(fd, data)

    def pause_writing(self) -> None:
        self._session.hold_input(is_full=True)

    def resume_writing(self) -> None:
        # Not at once: of a pipe that is closed in this call, what was written in it too is lost.
        asyncio.get_running_loop().call_soon(self._let_in)

    def _let_in(self) -> None:
        self._session.hold_input(is_full=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has exited and its pipes are closed."""
        del exc
        self._session.process_over()


class ShellSession(asyncssh.SSHServerSession[bytes]):
    """The channel's side. `sessions` is the set of those that still have a process."""

    def __init__(
        self,
        place: ShellPlace,
        sessions: set["ShellSession"],
        spawn: Callable[[Coroutine[None, None, None]], object],
    ) -> None:
        self._place = place
        self._spawn = spawn
        self._sessions = sessions
        self._command: str | None = None
        self._channel: asyncssh.SSHServerChannel[bytes] | None = None
        self._process: asyncio.SubprocessTransport | None = None
        self._is_over = False
        self._early = bytearray()  # input before the process was there
        self._has_eof = False
        self.ended = asyncio.Event()

    # --- told by the channel ----------------------------------------------------------------------

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan

    def exec_requested(self, command: str) -> bool:
        self._command = command
        return True

    def shell_requested(self) -> bool:
        return True

    def session_started(self) -> None:
        self._spawn(self._run())

    async def _run(self) -> None:
        arguments = ["--norc", "--noprofile"]
        if self._command is not None:
            arguments += ["-c", self._command]
        self._sessions.add(self)
        loop = asyncio.get_running_loop()
        try:
            await loop.subprocess_exec(
                lambda: _Process(self),
                _BASH,
                *arguments,
                env=dict(self._place.environment),
                cwd=self._place.directory,
                start_new_session=True,
            )
        except OSError:
            self._finish(127)

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        del datatype
        pipe = self._input()
        if pipe is None:
            self._early += data
        elif not pipe.is_closing():
            pipe.write(data)

    def eof_received(self) -> bool:
        self._has_eof = True
        pipe = self._input()
        if pipe is not None:
            pipe.close()
        return True

    def pause_writing(self) -> None:
        for pipe in self._outputs():
            pipe.pause_reading()

    def resume_writing(self) -> None:
        for pipe in self._outputs():
            if not pipe.is_closing():
                pipe.resume_reading()

    def signal_received(self, signal: str) -> None:
        del signal
        self.kill()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._channel = None
        self._is_over = True
        self.kill()

    # --- told by the process ----------------------------------------------------------------------

    def process_started(self, process: asyncio.SubprocessTransport) -> None:
        self._process = process
        if self._is_over:  # the channel was closed while bash was being started
            self.kill()
            return
        pipe = self._input()
        if pipe is not None:
            pipe.write(bytes(self._early))
            self._early.clear()
            if self._has_eof:
                pipe.close()

    def process_said(self, fd: int, data: bytes) -> None:
        if self._channel is None:
            return
        offset = self._place.clock_offset().total_seconds()
        if offset:
            data = _CLOCK.sub(lambda m: b"%s%.6f" % (m[1], float(m[2]) + offset), data)
        with contextlib.suppress(OSError):  # closing this moment: connection_lost follows
            if fd == _STDERR:
                self._channel.write(data, asyncssh.EXTENDED_DATA_STDERR)
            else:
                self._channel.write(data)

    def process_over(self) -> None:
        process, self._process = self._process, None
        code = None if process is None else process.get_returncode()
        if process is not None:
            process.close()
        self._finish(255 if code is None else code)

    def hold_input(self, *, is_full: bool) -> None:
        """The process does not read: neither do we."""
        if self._channel is None:
            return
        if is_full:
            self._channel.pause_reading()
        else:
            self._channel.resume_reading()

    # --- ending -----------------------------------------------------------------------------------

    def kill(self) -> None:
        """End the process and all that it has started; what left the group loses its pipes.

        The transport itself is closed when the exit is known: closing it now could reap the
        process before asyncio's watcher does.
        """
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.get_pid(), signal.SIGKILL)
        for fd in (0, 1, 2):
            pipe = self._process.get_pipe_transport(fd)
            if pipe is not None:
                pipe.close()

    def _finish(self, code: int) -> None:
        self._sessions.discard(self)
        self.ended.set()
        channel, self._channel = self._channel, None
        if channel is None:
            return
        with contextlib.suppress(OSError):
            if code < 0:
                channel.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
            else:
                channel.exit(code)

    def _input(self) -> asyncio.WriteTransport | None:
        pipe = None if self._process is None else self._process.get_pipe_transport(0)
        return pipe if isinstance(pipe, asyncio.WriteTransport) else None

    def _outputs(self) -> list[asyncio.ReadTransport]:
        if self._process is None:
            return []
        pipes = (self._process.get_pipe_transport(fd) for fd in (1, 2))
        return [pipe for pipe in pipes if isinstance(pipe, asyncio.ReadTransport)]
