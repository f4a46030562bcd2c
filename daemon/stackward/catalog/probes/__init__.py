"""The probes: every question the daemon has, and the readers of the answers.

What lives here: the table of them, and the readers of what CloudStack itself tells; blocks of
facts are read in guest_reader.py. A probe is a pure function in a file of its own; files do not
know each other. A new one needs a line in the table and tests for each of its three verdicts.
"""

from collections.abc import Mapping
from datetime import datetime

from stackward.catalog.probe import EVERY_ROLE, GuestProbe
from stackward.catalog.probes.agent import interpret_link, interpret_process, interpret_unit
from stackward.catalog.probes.clock import interpret_clock
from stackward.catalog.probes.cloud import interpret_agent, interpret_database, interpret_state
from stackward.catalog.probes.disk import interpret_disk
from stackward.catalog.probes.management import interpret_management
from stackward.catalog.probes.memory import interpret_memory
from stackward.catalog.probes.storage import interpret_storage
from stackward.model.identity import VmRole
from stackward.model.target import DatabaseWitness, Target, Witness
from stackward.model.verdict import Observation, ProbeName, Source

PROBES_INSIDE: tuple[GuestProbe, ...] = (
    GuestProbe(ProbeName.AGENT_UNIT, EVERY_ROLE, interpret_unit, is_lasting=True),
    GuestProbe(ProbeName.AGENT_PROCESS, EVERY_ROLE, interpret_process, is_lasting=True),
    GuestProbe(ProbeName.AGENT_LINK, EVERY_ROLE, interpret_link, is_lasting=True),
    GuestProbe(ProbeName.MANAGEMENT, EVERY_ROLE, interpret_management, is_lasting=True),
    GuestProbe(
        ProbeName.STORAGE, frozenset({VmRole.SECONDARY_STORAGE}), interpret_storage, is_lasting=True
    ),
    GuestProbe(ProbeName.DISK, EVERY_ROLE, interpret_disk, is_lasting=True),
    GuestProbe(ProbeName.MEMORY, EVERY_ROLE, interpret_memory),
    GuestProbe(ProbeName.CLOCK, EVERY_ROLE, interpret_clock),
)
PROBES_OF: Mapping[VmRole, tuple[GuestProbe, ...]] = {
    role: tuple(probe for probe in PROBES_INSIDE if role in probe.roles) for role in VmRole
}


def observe_target(target: Target, at: datetime) -> tuple[Observation, ...]:
    """What a listing says. Where the database stands in for the API, it speaks as the database."""
    running = interpret_state(target)
    if target.witness is Witness.DATABASE:
        told = DatabaseWitness(at, {target.id: target.agent_state})
        return (
            Observation(target.id, ProbeName.CLOUD_STATE, Source.DATABASE, running, at),
            *observe_database(told, target),
        )
    return (
        Observation(target.id, ProbeName.CLOUD_STATE, Source.API, running, at),
        Observation(target.id, ProbeName.CLOUD_AGENT, Source.API, interpret_agent(target), at),
    )


def observe_database(witness: DatabaseWitness, target: Target) -> tuple[Observation, ...]:
    """What the database says of one VM's agent."""
    verdict = interpret_database(witness, target)
    at = witness.observed_at
    return (Observation(target.id, ProbeName.DATABASE_AGENT, Source.DATABASE, verdict, at),)
