"""The schema of everything that the daemon asks: CloudStack, its database, the VMs over SSH."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from stackward.config.secrets import SecretRef
from stackward.config.strict import Endpoint, FilePattern, Name, Port, StrictModel, TimeZone
from stackward.model.verdict import ProbeName


class CloudStackSettings(StrictModel):
    """The CloudStack API: whom to ask, as whom, and how gently."""

    endpoints: Annotated[tuple[Endpoint, ...], Field(min_length=1, max_length=16)]
    """URLs of the API, one per management server, in order of preference. Reads fail over from one
    to the next; whatever changes state goes to one of them, once."""
    api_key: SecretRef
    """API key of the daemon's own account. It needs listSystemVms, listHosts, listZones and
    listApis; to reboot also rebootSystemVm, listAsyncJobs and queryAsyncJobResult."""
    secret_key: SecretRef
    """Secret key of the same account; requests are signed with it and it is never sent."""
    ca_file: Path | None = None
    """PEM file with the authorities that may have signed the servers' certificates. Without it:
    those of the system."""
    verify_tls: bool = True
    """Check the servers' certificates. Switched off, anybody on the way can read and change
    everything; give `ca_file` instead."""
    listing_interval_seconds: Annotated[float, Field(ge=0.5, le=30)] = 20.0
    """Seconds between two listings of the cloud. Longer: a recreated VM is found later. Shorter:
    more load on the management servers."""
    listing_timeout_seconds: Annotated[float, Field(ge=1, le=600)] = 60.0
    """Seconds that one listing may take with all its pages. Too short: a large cloud is never
    listed whole. Too long: a hanging server is found out late."""
    request_timeout_seconds: Annotated[float, Field(ge=0.5, le=120)] = 10.0
    """Seconds that one request may take, the wait for a free slot included."""
    request_expires_seconds: Annotated[float, Field(ge=30, le=900)] = 300.0
    """Seconds for which a signature is good. Too short: clocks that differ make every request
    fail. CloudStack refuses more than 15 minutes."""
    capabilities_interval_seconds: Annotated[float, Field(ge=10, le=86400)] = 600.0
    """Seconds between two questions what the account may call."""
    concurrency_max: Annotated[int, Field(ge=1, le=64)] = 8
    """Requests under way at once, over all endpoints. Too many crowd out people and tools."""
    requests_per_second_max: Annotated[float, Field(ge=0.1, le=1000)] = 20.0
    """Requests per second. CloudStack's own throttle, where it is on, allows 25 by default."""
    reply_bytes_max: Annotated[int, Field(ge=65536, le=268435456)] = 32 * 1024 * 1024
    """Bytes of one reply, unpacked. Longer replies are refused: they would fill the memory."""
    page_size: Annotated[int, Field(ge=1, le=500)] = 500
    """Rows per page. More than the global setting default.page.size is refused by CloudStack."""


class DatabaseSettings(StrictModel):
    """CloudStack's database, read only: second witness, and the inventory while the API is down."""

    host: Name
    """Name or address of the database server; a replica is the better choice."""
    port: Port = 3306
    """TCP port of the database server."""
    user: Name
    """A user with nothing but SELECT on the database."""
    password: SecretRef
    """Password of that user."""
    name: Name = "cloud"
    """Name of CloudStack's main database."""
    ca_file: Path | None = None
    """PEM file with the authorities that may have signed the server's certificate. With it: TLS or
    nothing. Without it: no TLS."""
    interval_seconds: Annotated[float, Field(ge=1, le=3600)] = 30.0
    """Seconds between two questions. Longer: the second witness is stale and proves less."""
    timeout_seconds: Annotated[float, Field(ge=0.5, le=120)] = 10.0
    """Seconds that one answer may take, connecting included."""
    rows_max: Annotated[int, Field(ge=100, le=1000000)] = 50_000
    """Rows of one answer. A larger cloud is not told at all rather than told in part."""


class HypervisorSettings(StrictModel):
    """Where sshd of one hypervisor listens, if not where CloudStack and `jump_port` say."""

    address: Name | None = None
    """Name or address to connect to instead of the one that CloudStack tells."""
    port: Port | None = None
    """TCP port of its sshd instead of `jump_port`."""


class SshSettings(StrictModel):
    """The ways into the system VMs: one kept connection per VM, mostly through its hypervisor."""

    enabled: bool = True
    """Look into the VMs. Switched off, only CloudStack is asked and no agent is ever restarted."""
    vm_keys: Annotated[tuple[SecretRef, ...], Field(max_length=16)] = ()
    """Private keys that the system VMs accept: CloudStack's own, `id_rsa.cloud` on every
    hypervisor. Several while the key is being changed."""
    vm_user: Name = "root"
    """User on the system VMs."""
    vm_port: Port = 3922
    """TCP port of sshd on the system VMs."""
    vm_port_overrides: dict[Name, Port] = Field(default_factory=dict)
    """Ports by control address, for rehearsals where system VMs share one machine."""
    jump_keys: Annotated[tuple[SecretRef, ...], Field(max_length=16)] = ()
    """Private keys that the hypervisors accept. Not needed where VMs are reached without a jump
    (VMware, Hyper-V)."""
    jump_user: Name = "root"
    """User on the hypervisors. It needs no shell, only port forwarding to port 3922."""
    jump_port: Port = 22
    """TCP port of sshd on the hypervisors."""
    hypervisors: dict[Name, HypervisorSettings] = Field(default_factory=dict)
    """Exceptions, by the hypervisor's name in CloudStack, its address or its id."""
    known_hosts: Path = Path("known_hosts")
    """Host keys of the hypervisors in the form of OpenSSH. One that is not in it is refused. Keys
    of system VMs do not belong here: they are pinned by template when first seen."""
    agent_socket: Path | None = None
    """Socket of an SSH agent that holds keys. Without it no agent is asked."""
    poll_interval_seconds: Annotated[float, Field(ge=0.2, le=300)] = 15.0
    """Seconds between two questions to one VM. Shorter: faults are seen sooner for more CPU.
    `thresholds.stale_after_seconds` must be at least twice as long."""
    poll_timeout_seconds: Annotated[float, Field(ge=0.2, le=120)] = 10.0
    """Seconds to wait for an answer before the question counts as not answered."""
    polls_max: Annotated[int, Field(ge=1, le=100000)] = 1024
    """Questions under way at once in all. Too few: one hung zone delays the rest."""
    polls_per_zone_max: Annotated[int, Field(ge=1, le=100000)] = 512
    """Questions under way at once in one zone."""
    polls_per_hypervisor_max: Annotated[int, Field(ge=1, le=10000)] = 64
    """Questions under way at once through one hypervisor."""
    connect_timeout_seconds: Annotated[float, Field(ge=0.5, le=120)] = 10.0
    """Seconds for one TCP connection, to the hypervisor or onwards to the VM."""
    login_timeout_seconds: Annotated[float, Field(ge=0.5, le=120)] = 15.0
    """Seconds for one login, the exchange of keys included."""
    keepalive_interval_seconds: Annotated[float, Field(ge=0.5, le=300)] = 15.0
    """Seconds of silence on a VM's connection until it is asked whether it lives."""
    jump_keepalive_interval_seconds: Annotated[float, Field(ge=0.5, le=300)] = 3.0
    """The same for a hypervisor. Keep it the shorter one: a dead hypervisor must be found out
    before the VMs behind it are blamed."""
    keepalive_count_max: Annotated[int, Field(ge=1, le=10)] = 2
    """Questions without an answer until a connection counts as broken."""
    handshakes_max: Annotated[int, Field(ge=1, le=1024)] = 32
    """Logins under way at once in all. More: a restart of the daemon is a burst of CPU."""
    jump_handshakes_max: Annotated[int, Field(ge=1, le=100)] = 4
    """Logins under way at once through one hypervisor. sshd drops them at random from 10 on
    (MaxStartups)."""
    back_off_seconds_min: Annotated[float, Field(ge=0.1, le=300)] = 2.0
    """Seconds until a connection that failed is tried again; doubled each time, with jitter."""
    back_off_seconds_max: Annotated[float, Field(ge=0.1, le=3600)] = 300.0
    """The longest such wait. Longer: a VM that is back is seen later."""


class FactsSettings(StrictModel):
    """How often the loop on the VM asks what needs a process there, each at its own pace.

    What costs no process is read at every question (`ssh.poll_interval_seconds`).
    """

    unit_interval_seconds: Annotated[float, Field(ge=0.2, le=3600)] = 15.0
    """Seconds between two questions to systemd about cloud.service."""
    slow_interval_seconds: Annotated[float, Field(ge=0.2, le=3600)] = 30.0
    """Seconds between two touches of the mounts. A mount that hangs is found out by this."""
    disk_interval_seconds: Annotated[float, Field(ge=0.2, le=3600)] = 60.0
    """Seconds between two readings of space and inodes."""
    connect_interval_seconds: Annotated[float, Field(ge=1, le=86400)] = 600.0
    """Seconds between two own connects to the management servers, made only while the agent has
    none. Each makes the server log a failed handshake, so keep it long."""
    connect_retry_interval_seconds: Annotated[float, Field(ge=1, le=86400)] = 120.0
    """The same after a connect that failed."""
    dead_man_seconds: Annotated[float, Field(ge=1, le=3600)] = 120.0
    """Seconds without a question after which the loop on the VM ends by itself. It must be longer
    than the interval of questions, or every answer begins with a new start."""


class LogsSettings(StrictModel):
    """The log of each system VM."""

    follow: bool = True
    """Follow the log. Switched off, no agent is restarted: the proof of success is a log line."""
    path: Annotated[str, Field(pattern=r"^/[\x20-\x7e]{1,1000}$")] = "/var/log/cloud.log"
    """Path of the log on the VM."""
    bytes_per_second_max: Annotated[int, Field(ge=65536, le=1 << 30)] = 8 * 1024 * 1024
    """Bytes that are read of one log in a second, over some seconds. In a storm the rest waits on
    the VM, and what is rotated away there meanwhile is a gap. Far more than a log usually writes,
    so that it catches up; too much, and one VM's storm takes the daemon's processor."""
    pattern_files: Annotated[tuple[FilePattern, ...], Field(max_length=100)] = ()
    """Files or globs with patterns of your own, beside the built-in ones. A glob that matches
    nothing is a mistake."""


class ManagementLogSettings(StrictModel):
    """The log of one management server."""

    name: Name
    """What the log is called in sentences and metrics, such as the server's name."""
    path: Annotated[str, Field(pattern=r"^/[\x20-\x7e]{1,1000}$")] = (
        "/var/log/cloudstack/management/management-server.log"
    )
    """Path of the log, there or on this machine."""
    time_zone: TimeZone = "UTC"
    """Zone of the times in the log, by its name in the tz database: the server writes its own local
    time. A wrong one is found out by the newest lines, if they are far from now."""
    address: Name | None = None
    """Name or address of the server, to read the log there over SSH. Without it the log is a file
    on this machine."""
    port: Port = 22
    """TCP port of the server's sshd."""
    user: Name = "root"
    """User on the server. It needs nothing but to read the log."""
    keys: Annotated[tuple[SecretRef, ...], Field(max_length=16)] = ()
    """Private keys that the server accepts. Without any: `ssh.jump_keys`."""
    known_hosts: Path | None = None
    """The server's host key in the form of OpenSSH; a key that is not in it is refused. Without it:
    `ssh.known_hosts`."""


class ProbesSettings(StrictModel):
    """The questions themselves."""

    switch_off: tuple[ProbeName, ...] = ()
    """Probes whose answers do not count. What only they can see is then never found."""
