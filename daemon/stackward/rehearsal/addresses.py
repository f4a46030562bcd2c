"""Loopback addresses of this rehearsal's own.

Linux lets anybody bind all of 127.0.0.0/8. A rehearsal claims one 127.N.0.0/16 for itself, so that
fixed ports (3922) clash with nobody and a port that was closed by a fault is still ours when the
fault is over. Where that cannot be had, everything shares 127.0.0.1.
"""

import random
import socket

# Held open as the claim; nobody connects to it.
_CLAIM_PORT = 39220
_SHARED = "127.0.0.1"


class Addresses:
    """`of(block, index)` is an address: block 0 the cloud's own, 1 hypervisors, 2 system VMs."""

    def __init__(self) -> None:
        self._claim: socket.socket | None = None
        self._network = 0
        candidates = list(range(20, 250))
        random.SystemRandom().shuffle(candidates)  # two rehearsals that start at once
        for network in candidates:
            claim = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                claim.bind((f"127.{network}.0.1", _CLAIM_PORT))
                claim.listen(1)
            except OSError:
                claim.close()
                continue
            self._claim, self._network = claim, network
            break

    @property
    def is_own(self) -> bool:
        """False when everything has to share 127.0.0.1."""
        return self._claim is not None

    def of(self, block: int, index: int) -> str:
        if self._claim is None:
            return _SHARED
        high, low = divmod(index, 250)
        return f"127.{self._network}.{block * 50 + high % 50}.{low + 2}"

    def close(self) -> None:
        if self._claim is not None:
            self._claim.close()
            self._claim = None
