"""Secrets do not get through."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stackward.catalog.redact import MASK, redact

# A loaded machine is no reason to fail.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SECRET = "Hunter2Zx9"


@pytest.mark.parametrize(
    "text",
    [
        f"External authenticator failed authentication request for vm 7 with sid {SECRET}",
        f"Authentication failed for vm: 7 with sid: {SECRET}",
        f'{{"sid": "{SECRET}", "port": 1}}',
        f"/ajax?token=1&sid={SECRET}&w=100",
        f"Added username=admin, password={SECRET}for host 192.0.2.1",
        f"Property consoleproxy.encryptorPassword: {SECRET} {SECRET}",
        f"template=domP vmpassword={SECRET} type=consoleproxy",
        f"keystore_password={SECRET}",
        f"keystore passphrase: {SECRET}",
        f'{{"secretkey": "{SECRET} \\" {SECRET}", "name": "x"}}',
        f"GET /client/api?command=listZones&apikey={SECRET}&signature={SECRET}%3D&response=json",
        f"nfs://user:{SECRET}@192.0.2.9/export",
        f"Authorization: Bearer {SECRET}.{SECRET}",
        f"Authorization: Basic {SECRET}==",
        f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}",
        f"keystore-cert-import a.properties a.jks ssh -----BEGIN~RSA~PRIVATE~KEY-----^{SECRET}^",
        f"Timed out: /usr/local/cloud/scripts/util/keystore-setup a.properties a.jks {SECRET} 365",
        f"Access ticket expired or has been modified. vmId: 12token: {SECRET}",
        f"mysql -u cloud --password {SECRET} cloud",
        f"token='{SECRET} {SECRET}'",
        f"PASSWORD = {SECRET}",
    ],
)
def test_a_secret_is_taken_out(text):
    assert SECRET not in redact(text)
    assert MASK in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "Failed to load keystore, using trust all manager",
        "Ready command is processed for agent id = 7",
        "Property consoleproxy.httpListenPort: 80",
        "nfs://192.0.2.50/export/secondary",
        "the resident said so, considered inside",
        "basic authentication failed",
        "2024-03-04 05:06:01,101 INFO  [cloud.agent.Agent] (main:null) Agent started",
        "SSL error caught during unwrap data: certificate_unknown, for local address=/192.0.2.7:1",
    ],
)
def test_what_is_no_secret_stays(text):
    assert redact(text) == text


def test_a_long_text_is_cut_after_redacting():
    text = redact("x" * 480 + f" password={SECRET}" + "y" * 200, limit=500)
    assert len(text) == 500
    assert SECRET not in text


WORDS = st.sampled_from(
    [
        "sid",
        "password",
        " ",
        "=",
        ":",
        "://",
        "@",
        '"',
        "'",
        "\\",
        "\n",
        "--",
        "token",
        "[redacted]",
        "Bearer ",
        "Basic ",
        "Property ",
        "x9Z",
        "api",
        "key",
        ",",
        "-----BEGIN PRIVATE KEY-----",
    ]
)


@PATIENT
@given(st.lists(WORDS | st.text(max_size=3), max_size=25).map("".join))
@example("sid: sid: x")
@example("password=password=x")
def test_redacting_twice_is_redacting_once(text):
    once = redact(text)
    assert redact(once) == once
