"""A block of facts of a healthy SSVM, as the loop sends it; a test states what differs.

The sections are shaped like those of a 4.20 system VM (Debian 12, systemd 252); names, addresses
and numbers are made up.
"""

from collections.abc import Mapping
from datetime import timedelta

from stackward.catalog.guest_reader import observe_block
from stackward.catalog.probe import ProbeThresholds
from stackward.model.guest import FactBlock
from stackward.model.identity import VmRole
from stackward.model.verdict import Failed, Observation, Passed, ProbeName, Sign, Unknown, Verdict
from tests.builders import NOW, a_target, ages_of

ROUND_TRIP = timedelta(milliseconds=200)
ASKED_AT = NOW - ROUND_TRIP
STORE = "/mnt/SecStorage/9f7c2a10-77aa-3b5e-8f0e-6d5a0d2b1c11"
MOUNT = f"mount:{STORE}"
BOOT_ID = "27fbaed0-22bc-4e09-8191-8ef84e1a7ab7"
INVOCATION = "0123456789abcdef0123456789abcdef"

THRESHOLDS = ProbeThresholds(
    disk_used_ratio_max=0.95,
    inodes_used_ratio_max=0.95,
    memory_available_ratio_min=0.03,
    clock_offset_max=timedelta(seconds=60),
    mount_hung_after=timedelta(seconds=10),
    slow_stale_after=timedelta(minutes=5),
)

UNIT = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "Result": "success",
    "ExecMainCode": "0",
    "ExecMainStatus": "0",
    "MainPID": "611",
    "NRestarts": "0",
    "InvocationID": INVOCATION,
    "ControlGroup": "/system.slice/cloud.service",
    "ActiveEnterTimestampMonotonic": "21000000",
}
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "clock": (f"{(NOW - ROUND_TRIP / 2).timestamp():.6f}",),
    "boot": (BOOT_ID,),
    "uptime": ("86400.25",),
    "load": ("0.12 0.08 0.01 1/120 4321",),
    "memory": ("MemTotal:        1014036 kB", "MemAvailable:     498120 kB"),
    "jvm": ("734",),
    "link": ("established", "0000000000000000FFFF00000C0200C0:203A 20001"),
    "unit": tuple(f"{name}={value}" for name, value in UNIT.items()),
    "conf": (
        "release Cloudstack Release 4.20.1.0 Mon 23 Jun 2025 06:50:01 AM UTC",
        "properties host=192.0.2.12,192.0.2.13@static",
        "properties port=8250",
        "cmdline type=secstorage",
        "cmdline host=192.0.2.12,192.0.2.13",
        "cmdline port=8250",
        "cmdline name=s-1-VM",
    ),
    "mounts": (
        "/dev/vda5 / ext4 rw",
        f"192.0.2.20:/export/secondary {STORE} nfs4 rw",
    ),
    "disk": ("655360 393216 360448 4096 163840 131072 /",),
    "files": ("210 4096",),
    MOUNT: (f"262144 131072 131072 1048576 1000000 900000 {STORE}",),
}
AGES = dict.fromkeys(("unit", "conf", "mounts", "disk", "files", MOUNT), timedelta(seconds=12))
STALE = THRESHOLDS.slow_stale_after + timedelta(seconds=1)


def a_block(*, without=(), ages=None, pending=None, **sections) -> FactBlock:
    """Sections by name; `mount` and `unit_state` (changes to the unit's properties) are short."""
    told = dict(SECTIONS)
    for name, lines in sections.items():
        told[MOUNT if name == "mount" else name.replace("__", ":")] = lines
    for name in without:
        told.pop(name)
    return FactBlock(
        tick=7,
        loop_version=1,
        sections=told,
        asked_at=ASKED_AT,
        received_at=NOW,
        ages=ages_of({**AGES, **(ages or {})}),
        pending=pending or {},
        size_bytes=900,
    )


def with_connects(block: FactBlock, age=timedelta(seconds=20), **lines: str) -> FactBlock:
    """The same block with own connects: `a` and `b` are the two addresses of host=."""
    names = {"a": "connect:192.0.2.12:8250", "b": "connect:192.0.2.13:8250"}
    told = {names[key]: (line,) for key, line in lines.items()}
    return block._replace(
        sections={**block.sections, **told},
        ages=ages_of({**block.ages, **dict.fromkeys(told, age)}),
    )


def unit(**changes: str) -> tuple[str, ...]:
    return tuple(f"{name}={value}" for name, value in {**UNIT, **changes}.items())


def observed(block: FactBlock, probe: ProbeName, role=VmRole.SECONDARY_STORAGE) -> Observation:
    observations, _, _ = observe_block(block, a_target(role=role), THRESHOLDS)
    (observation,) = [one for one in observations if one.probe is probe]
    return observation


def verdict(block: FactBlock, probe: ProbeName) -> Verdict:
    return observed(block, probe).verdict


def evidence_of_failure(block: FactBlock, probe: ProbeName, sign: Sign) -> str:
    answer = verdict(block, probe)
    assert isinstance(answer, Failed), answer
    assert answer.sign is sign
    return answer.evidence


def evidence_of_pass(block: FactBlock, probe: ProbeName) -> str:
    answer = verdict(block, probe)
    assert isinstance(answer, Passed), answer
    return answer.evidence


def reason_unknown(block: FactBlock, probe: ProbeName) -> str:
    answer = verdict(block, probe)
    assert isinstance(answer, Unknown), answer
    return answer.reason
