"""The word to systemd: ready, alive, what we do, stopping (sd_notify(3)).

A datagram to the socket named in NOTIFY_SOCKET; without it every call does nothing. The watchdog
is fed by completed rounds, so a stuck loop starves it.
"""

import os
import socket


class ServiceManager:
    """Speaks to the service manager that started us, if there is one."""

    def __init__(self, address: str | None, watchdog_usec: str | None = None) -> None:
        self._socket: socket.socket | None = None
        self._address = ""
        if address and address[0] in "/@":
            self._address = "\0" + address[1:] if address[0] == "@" else address
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        self.watchdog_seconds = (
            int(watchdog_usec) / 1e6 if watchdog_usec and watchdog_usec.isdigit() else None
        )
        self._status = ""

    @classmethod
    def from_environment(cls) -> "ServiceManager":
        """Read the variables that systemd sets, and take them out of the environment."""
        return cls(os.environ.pop("NOTIFY_SOCKET", None), os.environ.pop("WATCHDOG_USEC", None))

    def ready(self, status: str) -> None:
        """The daemon serves."""
        self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def alive(self, status: str) -> None:
        """A round was completed."""
        if status != self._status:
            self._status = status
            self._send(f"WATCHDOG=1\nSTATUS={_one_line(status)}")
        else:
            self._send("WATCHDOG=1")

    def reloading(self, monotonic_usec: int) -> None:
        """A reload has begun; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_usec}")

    def stopping(self) -> None:
        """The daemon is going down."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """Nothing more is said."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError:
            # A full or vanished socket must not stop the watch; the watchdog speaks for itself.
            return


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
