"""What CloudStack says of a VM and of its agent: states to verdicts.

The states are VirtualMachine.State and Status (facts: state machines). States on the way from one
to another are `Unknown`: nobody can tell yet how they end.
"""

from stackward.model.target import AgentState, CloudState, DatabaseWitness, Target
from stackward.model.verdict import Failed, Passed, Sign, Unknown, Verdict

_VM_DOWN = frozenset(
    {CloudState.STOPPED, CloudState.ERROR, CloudState.DESTROYED, CloudState.SHUTDOWN}
)
_AGENT_DOWN = frozenset(
    {
        AgentState.DISCONNECTED,
        AgentState.ALERT,
        AgentState.DOWN,
        AgentState.ERROR,
        AgentState.REMOVED,
    }
)


def interpret_state(target: Target) -> Verdict:
    """Is the VM Running?"""
    if target.is_running:
        return Passed("Running")
    if target.cloud_state in _VM_DOWN:
        return Failed(Sign.VM_NOT_RUNNING, f"CloudStack says the VM is {target.cloud_state}")
    return Unknown(f"the VM is {target.cloud_state}")


def interpret_agent(target: Target) -> Verdict:
    """Is its agent Up, by the API?"""
    if not target.is_running:
        return Unknown("the VM is not running")
    if target.agent_state is AgentState.ABSENT:
        return Failed(Sign.AGENT_ABSENT, "CloudStack has no agent for this VM: it never connected")
    return _agent(target.agent_state, Sign.AGENT_NOT_UP, "CloudStack")


def interpret_database(witness: DatabaseWitness, target: Target) -> Verdict:
    """Is its agent Up, by the host row in the database?"""
    if not target.is_running:
        return Unknown("the VM is not running")
    state = witness.agent_states.get(target.id)
    if state is None:
        return Unknown("the database did not tell of this VM")
    if state is AgentState.ABSENT:
        return Failed(Sign.DATABASE_AGENT_NOT_UP, "the database has no host row for this agent")
    return _agent(state, Sign.DATABASE_AGENT_NOT_UP, "the database")


def _agent(state: AgentState, sign: Sign, who: str) -> Verdict:
    if state is AgentState.UP:
        return Passed("the agent is Up")
    if state in _AGENT_DOWN:
        return Failed(sign, f"{who} says the agent is {state}")
    if state is AgentState.NOT_TOLD:
        return Unknown(f"{who} does not tell the agent's state")
    return Unknown(f"{who} says the agent is {state}")
