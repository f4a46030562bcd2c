"""Can a management server be reached from inside the VM?

The agent's own connection is the best proof. Only without it has the loop tried to connect; what
it tried is believed as long as it is fresh. CloudStack keeps the addresses in two places, and an
agent that was never told of a change stands with the old ones: where they differ, that is said.
"""

from stackward.catalog.facts import CONNECT, AddressFacts, ConnectFacts, GuestFacts, Unreadable
from stackward.catalog.probe import Answer, ProbeThresholds
from stackward.model.verdict import Failed, Passed, Sign, Unknown


def interpret_management(facts: GuestFacts, thresholds: ProbeThresholds) -> Answer:
    """Does any address in `host=` take a connect?"""
    if not isinstance(facts.link, Unreadable) and facts.link.peer is not None:
        return Answer(Passed(f"the agent is connected to {facts.link.peer}"))
    if isinstance(facts.addresses, Unreadable):
        return Answer(Unknown(facts.addresses.reason))
    wanted = _wanted(facts.addresses)
    note = _difference(facts.addresses)
    tried = [connect for connect in facts.connects if connect.address in wanted]
    fresh = [connect for connect in tried if connect.age <= thresholds.slow_stale_after]
    open_ones = [connect for connect in fresh if connect.is_open]
    if open_ones:
        newest = min(open_ones, key=lambda connect: connect.age)
        return Answer(Passed(f"{newest.address} takes connects{note}"), (CONNECT + newest.address,))
    missing = wanted - {connect.address for connect in fresh}
    if missing:
        names = ", ".join(sorted(missing))
        why = "last tried too long ago" if missing <= {c.address for c in tried} else "not tried"
        return Answer(Unknown(f"{names}: {why} ({_how(fresh) or 'nothing known yet'}){note}"))
    return Answer(
        Failed(
            Sign.MANAGEMENT_UNREACHABLE,
            f"no management server can be reached from inside: {_how(fresh)}{note}",
        ),
        tuple(CONNECT + connect.address for connect in fresh),
    )


def _wanted(addresses: AddressFacts) -> frozenset[str]:
    hosts = addresses.properties_hosts or addresses.cmdline_hosts
    return frozenset(f"{host}:{addresses.port}" for host in hosts)


def _how(connects: list[ConnectFacts]) -> str:
    return ", ".join(f"{connect.address} {connect.how}" for connect in connects)


def _difference(addresses: AddressFacts) -> str:
    inside, boot = addresses.properties_hosts, addresses.cmdline_hosts
    if not inside or not boot or set(inside) == set(boot):
        return ""
    return f"; agent.properties says {','.join(inside)}, the boot arguments {','.join(boot)}"
