"""Several management servers, TLS, and how gently they are asked."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from stackward.errors import RefusalKind, Refused, TimedOut, Unreachable
from stackward.model.identity import JobId
from stackward.transports.cloudstack import CloudStackApi, CloudStackSettings
from tests.component.cloudstack.raw_server import (
    WITHIN,
    Answer,
    RawServer,
    client_of,
    http,
    refusal,
    refusing_url,
    scripted,
)
from tests.fakes.clock import FixedClock

JOB = JobId("job-1")
PENDING = {"queryAsyncJobResult": {"jobstatus": 0}}
CREDENTIALS_TEXT = "unable to verify user credentials and/or request signature"


def refusing(code: int, text: str = "no") -> Answer:
    return scripted({"queryAsyncJobResult": lambda heard: refusal(heard, code, text)})


async def html(heard, writer):
    writer.write(http(b"<html>", Content_Type="text/html"))


async def closes(heard, writer):
    writer.close()


async def silence(heard, writer):
    await asyncio.Event().wait()


async def ask(*servers: RawServer | str, times: int = 1, **settings: Any) -> None:
    async with client_of(*servers, **settings) as client:
        for _ in range(times):
            await client.job(JOB)


@pytest.mark.parametrize(
    "first",
    [html, closes, refusing(503), refusing(530), refusing(429), refusing(401, CREDENTIALS_TEXT)],
)
async def test_a_question_goes_to_the_next_server_when_one_gives_no_answer(first):
    async with RawServer(first) as broken, RawServer(scripted(PENDING)) as good:
        await ask(broken, good, times=3)
    connections = {heard.connection for heard in broken.heard}
    assert len(connections) <= 2  # aiohttp may ask once more over a fresh connection
    assert len(good.heard) == 3  # the one that answered is asked first from now on


async def test_a_question_goes_on_from_a_silent_server_to_the_next():
    async with RawServer(silence) as silent, RawServer(scripted(PENDING)) as good:
        await ask(silent, good, request_timeout=1.0)
    assert len(good.heard) == 1


async def test_a_question_goes_on_from_a_server_that_is_down_and_back_again():
    with refusing_url() as down:
        async with RawServer(scripted(PENDING)) as good:
            await ask(down, good, times=2)
    assert len(good.heard) == 2


@pytest.mark.parametrize("code", [430, 432, 531])
async def test_what_all_servers_would_answer_alike_is_asked_once(code):
    async with RawServer(refusing(code)) as first, RawServer(scripted(PENDING)) as second:
        with pytest.raises(Refused):
            await ask(first, second)
    assert second.heard == []


async def test_of_several_troubles_the_most_telling_is_raised_and_the_others_are_named():
    with refusing_url() as down:
        async with RawServer(refusing(401, CREDENTIALS_TEXT)) as no, RawServer(html) as odd:
            with pytest.raises(Refused) as caught:
                await ask(down, odd, no)
    assert caught.value.kind is RefusalKind.CREDENTIALS
    assert f"Cannot connect to {down.split('/')[2]}: Connection refused" in str(caught.value)
    assert "not answered with JSON" in str(caught.value)


async def test_no_server_at_all_is_unreachable():
    with pytest.raises(Unreachable):
        await ask()


# --- gently --------------------------------------------------------------------------------------


async def test_no_more_requests_are_under_way_than_allowed():
    under_way = most = 0

    async def answer(heard, writer):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        await scripted(PENDING)(heard, writer)

    async with (
        RawServer(answer) as server,
        client_of(server, concurrency_max=3) as client,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(20):
            group.create_task(client.job(JOB))
    assert len(server.heard) == 20
    assert most <= 3
    assert server.connections <= 3


async def test_requests_leave_at_the_rate_allowed():
    clock = FixedClock()
    began = clock.now()
    async with RawServer(scripted(PENDING)) as server:
        await ask(server, times=24, clock=clock, rate_per_second=4.0)
    # A second's worth may leave at once, the others follow at the rate.
    assert clock.now() - began == timedelta(seconds=20 / 4)


async def test_requests_expire_five_minutes_from_now():
    clock = FixedClock(datetime(2026, 3, 1, 23, 58, tzinfo=UTC))
    async with RawServer(scripted(PENDING)) as server, client_of(server, clock=clock) as client:
        await client.job(JOB)
    assert server.heard[0].params["expires"] == "2026-03-02T00:03:00+0000"


async def test_questions_share_a_kept_connection():
    async with RawServer(scripted(PENDING)) as server:
        await ask(server, times=10)
    assert server.connections == 1


async def test_a_question_survives_a_kept_connection_that_was_closed():
    async def closes_after_each_answer(heard, writer):
        await scripted(PENDING)(heard, writer)
        await writer.drain()
        writer.close()

    async with RawServer(closes_after_each_answer) as server:
        await ask(server, times=5)
    assert len(server.heard) == 5


# --- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that is its own authority, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "management server")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + built.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_a_server_is_believed_by_the_ca_file(certificate, tls):
    async with RawServer(scripted(PENDING), tls=tls) as server:
        await ask(server, ca_file=certificate)
    assert len(server.heard) == 1


async def test_a_server_of_an_unknown_authority_is_not_spoken_to(tls):
    async with RawServer(scripted(PENDING), tls=tls) as server, client_of(server) as client:
        with pytest.raises(Unreachable, match="certificate") as caught:
            await client.job(JOB)
    assert not caught.value.maybe_sent
    assert server.heard == []


async def test_verification_can_be_switched_off(tls):
    async with RawServer(scripted(PENDING), tls=tls) as server:
        await ask(server, verify_tls=False)
    assert len(server.heard) == 1


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_ca_file_that_cannot_be_used_is_named(content, tmp_path):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    async with client_of("https://127.0.0.1:1/client/api", ca_file=path) as client:
        with pytest.raises(Unreachable, match=r"ca\.pem") as caught:
            await client.job(JOB)
    assert not caught.value.maybe_sent


async def test_a_secret_that_cannot_be_read_sends_nothing():
    def unreadable():
        raise FileNotFoundError(2, "No such file", "/run/credentials/secret-key")

    async with RawServer(scripted(PENDING)) as server:
        settings = CloudStackSettings(
            endpoints=(server.url,), api_key="k", secret_key=unreadable, request_timeout=WITHIN
        )
        async with CloudStackApi(settings, FixedClock()) as client:
            with pytest.raises(Unreachable, match="secret key cannot be read"):
                await client.job(JOB)
    assert server.heard == []


async def test_a_silent_tls_handshake_ends_in_time_and_nothing_was_sent():
    async with RawServer(silence) as server:  # it waits for a request and gets a handshake
        url = server.url.replace("http:", "https:")
        async with client_of(url, request_timeout=0.5) as client:
            with pytest.raises(TimedOut) as caught:
                await client.job(JOB)
    assert server.connections == 1
    assert not caught.value.maybe_sent
