"""The keys of a rehearsal, made anew each time and written where a daemon can be pointed at them.

System VMs of one template share their host keys, as the real ones do: the image carries them.
"""

from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

_ALGORITHMS = ("ssh-ed25519", "ecdsa-sha2-nistp256")


@dataclass(slots=True)
class KeyRing:
    """`vm_key_path` is the one CloudStack key, in its own old form; `jump_key_path` ours."""

    directory: Path
    vm_key: asyncssh.SSHKey = field(init=False)
    jump_key: asyncssh.SSHKey = field(init=False)
    jump_host_key: asyncssh.SSHKey = field(init=False)
    _template_keys: dict[str, list[asyncssh.SSHKey]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.vm_key = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
        self.jump_key = asyncssh.generate_private_key("ssh-ed25519")
        self.jump_host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.directory.mkdir(parents=True, exist_ok=True)
        for path, key, form in (
            (self.vm_key_path, self.vm_key, "pkcs1-pem"),
            (self.jump_key_path, self.jump_key, "openssh"),
        ):
            path.touch(mode=0o600)
            path.write_bytes(key.export_private_key(form))

    @property
    def vm_key_path(self) -> Path:
        return self.directory / "id_rsa.cloud"

    @property
    def jump_key_path(self) -> Path:
        return self.directory / "id_jump"

    @property
    def known_hosts_path(self) -> Path:
        return self.directory / "known_hosts"

    def template_keys(self, template_id: str) -> list[asyncssh.SSHKey]:
        """The host keys in this template's image."""
        if template_id not in self._template_keys:
            self._template_keys[template_id] = self.other_host_keys()
        return self._template_keys[template_id]

    @staticmethod
    def other_host_keys() -> list[asyncssh.SSHKey]:
        """Host keys that nobody has seen before."""
        return [asyncssh.generate_private_key(name) for name in _ALGORITHMS]

    def write_known_hosts(self, places: dict[str, tuple[str, int]]) -> None:
        """One line for each hypervisor, under its address and its name."""
        key = self.jump_host_key.export_public_key("openssh").decode("ascii").strip()
        lines = [
            f"[{address}]:{port},[{name}]:{port},{name} {key}\n"
            for name, (address, port) in places.items()
        ]
        self.known_hosts_path.write_text("".join(lines), encoding="utf-8")


def allow_only(key: asyncssh.SSHKey) -> asyncssh.SSHAuthorizedKeys:
    """Public keys that may log in: this one."""
    return asyncssh.import_authorized_keys(key.export_public_key("openssh").decode("ascii"))
