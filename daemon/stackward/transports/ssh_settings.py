"""What the SSH transport is told at start: users, keys, ports, time limits and byte limits.

Nothing here opens anything. The configuration compiles to these values; nothing else makes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from stackward.model.target import HypervisorHost

# A private key: the path of a file, or its content (from a systemd credential). PEM or OpenSSH
# form; RSA, ECDSA or Ed25519. CloudStack calls its file id_rsa whatever is in it.
KeySource = Path | bytes

# AES-GCM before asyncssh's own favourite costs half per tick. The ends of the lists are for the
# sshd of the oldest templates (Debian 9) and hypervisors.
CIPHERS = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes256-ctr",
)
KEY_EXCHANGES = (
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group-exchange-sha256",
    "diffie-hellman-group14-sha256",
    "diffie-hellman-group16-sha512",
)
MACS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)
HOST_KEY_ALGORITHMS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SshSettings:
    """Everything about SSH that an operator may set.

    `known_hosts` is for hypervisors alone and is strict always: a hypervisor whose key is not in
    it, under its name or its address, is refused. It is read again for every new connection.

    `jump_ports` and `jump_addresses` are looked up by a host's CloudStack name, then its address,
    then its id. `vm_port_overrides`, by control address, exists for rehearsals, where the system
    VMs of one machine cannot all listen on one port; real ones all listen on `vm_port`.

    The jump's keep-alive is the quicker one: a silent jump must be found out before the VMs behind
    it are blamed, so `jump_keepalive_interval` times (`keepalive_count_max` + 1) should be less
    than `connect_timeout`.

    `flood_bytes_max` ends a command that talks on after its allowed output is full.
    """

    known_hosts: Path
    vm_keys: tuple[KeySource, ...] = field(default=(), repr=False)
    jump_keys: tuple[KeySource, ...] = field(default=(), repr=False)
    agent_socket: Path | None = None  # None: no agent is asked, whatever the environment says
    vm_user: str = "root"
    vm_port: int = 3922
    vm_port_overrides: Mapping[str, int] = field(default_factory=dict)
    jump_user: str = "root"
    jump_port: int = 22
    jump_ports: Mapping[str, int] = field(default_factory=dict)
    jump_addresses: Mapping[str, str] = field(default_factory=dict)

    connect_timeout: timedelta = timedelta(seconds=10)
    login_timeout: timedelta = timedelta(seconds=15)
    follow_timeout: timedelta = timedelta(seconds=60)  # from asking to the first place in the log
    vm_keepalive_interval: timedelta = timedelta(seconds=15)
    jump_keepalive_interval: timedelta = timedelta(seconds=3)
    keepalive_count_max: int = 2
    back_off_min: timedelta = timedelta(seconds=2)
    back_off_max: timedelta = timedelta(minutes=5)

    handshakes_max: int = 32
    jump_handshakes_max: int = 4  # sshd drops logins at random from 10 unfinished ones on

    block_bytes_max: int = 512 * 1024
    tail_bytes_max: int = 64 * 1024  # lines waiting for a slow reader, beside one SSH window
    flood_bytes_max: int = 4 * 1024 * 1024

    def jump_place(self, host: HypervisorHost) -> tuple[str | None, int]:
        """Where sshd of this hypervisor listens; None: CloudStack gives no address."""
        names = [name for name in (host.name, host.address, host.id) if name]
        address = next(
            (self.jump_addresses[name] for name in names if name in self.jump_addresses),
            host.address,
        )
        port = next((self.jump_ports[name] for name in names if name in self.jump_ports), None)
        return address, self.jump_port if port is None else port

    def port_of_vm(self, control_address: str) -> int:
        """Where sshd of a system VM listens."""
        return self.vm_port_overrides.get(control_address, self.vm_port)
