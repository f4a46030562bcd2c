"""The signature is the one that the server computes."""

import string
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl

import pytest
from cs import CloudStack
from hypothesis import given, settings
from hypothesis import strategies as st

from stackward.transports.signing import encode_value, sign, signed_form, text_to_sign

SECRET = "SKey-1_y"
PARAMS = {
    "command": "listSystemVms",
    "response": "json",
    "apikey": "AKey-1_x",
    "signatureversion": "3",
    "expires": "2030-01-02T03:04:05+0000",
    "keyword": "a b*~é/+'()!:[x]",
}

no_hurry = settings(deadline=None)  # a busy machine is no bug

# The other client leaves `~` as it is, which Java does not: the one known difference.
texts = st.text(st.characters(exclude_characters="~", exclude_categories=["Cs"]), max_size=40)
names = st.text(string.ascii_lowercase + string.digits + "[].", min_size=1, max_size=12)


def test_the_text_to_sign_is_that_of_a_java_run():
    assert text_to_sign(PARAMS) == (
        "apikey=akey-1_x&command=listsystemvms&expires=2030-01-02t03%3a04%3a05%2b0000"
        "&keyword=a%20b*%7e%c3%a9%2f%2b%27%28%29%21%3a%5bx%5d&response=json&signatureversion=3"
    )


def test_the_signature_is_that_of_a_java_run():
    assert sign(PARAMS, SECRET) == "HTIUGYk1q15OkG++tcRbqDbPGBU="


@no_hurry
@given(st.dictionaries(names, texts, max_size=8), st.text(min_size=1, max_size=40))
def test_an_independent_client_signs_alike(params, secret):
    theirs = dict(params)
    client: Any = CloudStack(endpoint="http://127.0.0.1/", key="key", secret=secret)
    client._sign(theirs)
    assert sign(params, secret) == theirs["signature"]


def test_a_tilde_is_encoded_as_java_does():
    assert encode_value("a~b") == "a%7Eb"


@no_hurry
@given(st.dictionaries(names.map(lambda name: f"x{name}"), texts, max_size=8))
def test_a_form_carries_every_value_unchanged_and_its_signature(params):
    expires_at = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    form = signed_form(params, api_key="AKey", secret_key="SKey", expires_at=expires_at)
    sent = dict(parse_qsl(form, keep_blank_values=True, strict_parsing=True))
    signature = sent.pop("signature")
    assert params.items() <= sent.items()
    assert signature == sign(sent, "SKey")


@pytest.mark.parametrize("hours", [0, 2, -11])
def test_expiry_is_told_in_utc_and_in_the_form_that_every_version_reads(hours):
    moment = datetime(2030, 1, 2, 12, tzinfo=UTC).astimezone(timezone(timedelta(hours=hours)))
    form = signed_form({}, api_key="a", secret_key="s", expires_at=moment)
    assert dict(parse_qsl(form))["expires"] == "2030-01-02T12:00:00+0000"
