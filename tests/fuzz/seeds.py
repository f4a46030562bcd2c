"""Inputs to begin with: the samples of the packs, the logs of the unit tests, and a few streams."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from ruamel.yaml import YAML

from tests.fuzz import DICE_BYTES

ROOT = Path(__file__).parents[2]
PACKS = ROOT / "config" / "patterns"
LOGS = ROOT / "tests" / "unit"
SEED_BYTES_MAX = 4000
STREAMS = (
    b"\x00\x04one\n\x01\x08two\nthre\x00\x03e\n\n",
    b"\x00\x03a\nb\x0a\x00\x00\x02c\n\x09\x00",
    b"\x05\x02ab\x0b\x07\x00\x02d\n\x0d\x00\x00\x01e",
    b"\x0f\x01x\x00\x01\n\x0c\x09\x0e\x05K 12\n",
)
HEADS = (
    "",
    "2024-03-01 10:15:42,618 WARN  [cloud.agent.Agent] (main:null) ",
    "2025-06-23T06:50:39,496 ERROR [utils.nio.NioClient] (Agent-Handler-2:[]) ",
    "Mon Jun 23 06:50:01 AM UTC 2025 ",
    "Jun 23 06:50:01 s-1-VM cloud[812]: ",
    "2024-03-01 10:15:42,618 WARN  [c.c.a.m.AgentManagerImpl] (t-1:ctx-1 job-12) (logid:a1b2c3) ",
)


@cache
def seeds(reader: str) -> tuple[bytes, ...]:
    """Inputs for one reader, all different."""
    found: dict[bytes, None] = {}
    if reader == "tail":
        found.update(dict.fromkeys(STREAMS))
    for path in sorted(LOGS.rglob("*.log")):
        text = path.read_bytes()
        found.update(
            (text[at : at + SEED_BYTES_MAX], None)
            for at in range(0, min(len(text), 3 * SEED_BYTES_MAX), SEED_BYTES_MAX)
        )
    for number, sample in enumerate(samples()):
        head = "" if sample[:2] == "20" else HEADS[number % len(HEADS)]
        found[f"{head}{sample}\n".encode()[:SEED_BYTES_MAX]] = None
    return tuple(number.to_bytes(DICE_BYTES, "big") + text for number, text in enumerate(found))


def samples() -> Iterator[str]:
    """What the built-in packs say that they hit, and what they say that they just miss."""
    yaml = YAML(typ="safe")
    for path in sorted(PACKS.rglob("*.yaml")):
        for pattern in yaml.load(path.read_text(encoding="utf-8"))["patterns"]:
            for texts in pattern["samples"].values():
                yield from map(str, texts)
