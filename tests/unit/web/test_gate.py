"""Who may use a write endpoint."""

import pytest

from stackward.web.gate import why_refused

NONE: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:9787", None),
        ("127.0.0.1:9787", "http://127.0.0.1:9787"),
        ("[::1]:9787", "http://[::1]:9787"),
        ("127.8.9.10", None),
        ("LOCALHOST", None),
    ],
)
def test_our_own_hosts_may_write(host, origin):
    assert why_refused(host, origin, NONE) is None


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (None, None),
        ("", None),
        ("evil.example", None),
        ("localhost.evil.example", None),
        ("127.0.0.1.evil.example:9787", None),
        ("10.0.0.1:9787", None),
        ("localhost", "http://evil.example"),
        ("localhost", "null"),
        ("localhost", "http://localhost.evil.example:9787"),
        ("localhost", "http://user@evil.example"),
    ],
)
def test_a_foreign_host_or_page_may_not(host, origin):
    assert why_refused(host, origin, NONE) is not None


def test_hosts_that_the_operator_listed_may():
    assert why_refused("ward.example:443", None, frozenset({"ward.example"})) is None
