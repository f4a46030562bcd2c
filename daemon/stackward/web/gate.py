"""Who may use a write endpoint: nobody that a foreign web page could have sent.

A page on another site can make a browser send requests here (a forged form, a rebound DNS name).
So a write must name a host that is ours in `Host`, and a same-host `Origin` if it has one at all.
"""

from ipaddress import ip_address


def host_of(authority: str) -> str:
    """The host part of `host:port` or `[v6]:port`, lower case."""
    text = authority.strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0] if text.count(":") == 1 else text


def is_ours(authority: str, allowed: frozenset[str]) -> bool:
    """True for loopback names and addresses and for the hosts that the operator listed."""
    host = host_of(authority)
    if host == "localhost" or host in allowed:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def why_refused(host: str | None, origin: str | None, allowed: frozenset[str]) -> str | None:
    """The reason to refuse a write, None if there is none."""
    if host is None or not is_ours(host, allowed):
        return f"the Host header names a foreign host ({(host or 'none')[:80]})"
    if origin is not None and not is_ours(origin.partition("://")[2] or origin, allowed):
        return f"the request comes from a foreign page (Origin {origin[:80]})"
    return None
