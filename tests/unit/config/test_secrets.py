"""Secrets: fetched from where the settings say, and shown by nothing."""

import copy
import pickle
from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.unit.config.saying import KEY

from stackward.config.secrets import Fetched, NotFetched, Secret, SecretRef, Use, fetch


def ref(**place: object) -> SecretRef:
    return SecretRef.model_validate(place)


def secret_text(found: Fetched | NotFetched) -> str:
    assert isinstance(found, Fetched)
    return found.secret.reveal()


def why_not(found: Fetched | NotFetched) -> str:
    assert isinstance(found, NotFetched)
    return found.message


def test_a_secret_is_shown_by_reveal_alone():
    secret = Secret("hunter2")
    shown = [repr(secret), str(secret), f"{secret}", f"{[secret]}", "%s" % secret]  # noqa: UP031  all ways
    shown += [repr(ref(value="hunter2")), ref(value="hunter2").model_dump_json()]
    shown += [repr(Fetched(secret)), str(ref(value="hunter2").model_dump())]
    assert not [text for text in shown if "hunter2" in text]
    assert secret.reveal() == "hunter2"


def test_a_secret_is_not_pickled_but_can_be_copied_and_compared():
    secret = Secret("hunter2")
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(ref(value="hunter2"))
    assert copy.copy(secret) is secret
    assert copy.deepcopy(secret) is secret
    assert len({secret, Secret("hunter2"), Secret("other")}) == 2
    assert secret != "hunter2"


@pytest.mark.parametrize("value", [5, True, ["hunter2"], {"hunter2": 1}, None, "", 1.5])
def test_a_wrong_type_for_a_secret_is_refused_without_repeating_it(value):
    with pytest.raises(ValidationError) as raised:
        ref(value=value)
    assert "hunter2" not in str(raised.value)


def test_each_place_gives_its_secret(tmp_path: Path):
    (tmp_path / "secret").write_text("from-file\n")
    environment = {"NAME": "from-env", "CREDENTIALS_DIRECTORY": str(tmp_path)}
    for place, text in (
        (ref(file="secret"), "from-file"),
        (ref(file=str(tmp_path / "secret")), "from-file"),
        (ref(credential="secret"), "from-file"),
        (ref(env="NAME"), "from-env"),
        (ref(value="from-value"), "from-value"),
    ):
        assert secret_text(fetch(place, Use.WORD, tmp_path, environment)) == text


def test_a_secret_in_clear_or_open_to_others_is_warned_of(tmp_path: Path):
    file = tmp_path / "secret"
    file.write_text("x")
    for mode, is_warned in ((0o600, False), (0o640, False), (0o644, True), (0o602, True)):
        file.chmod(mode)
        found = fetch(ref(file="secret"), Use.WORD, tmp_path, {})
        assert isinstance(found, Fetched)
        assert bool(found.warning) is is_warned
    found = fetch(ref(value="x"), Use.WORD, tmp_path, {})
    assert isinstance(found, Fetched)
    assert "in clear" in found.warning


def test_what_only_the_service_can_see_is_told_apart_from_what_is_missing(tmp_path: Path):
    elsewhere = [ref(env="NAME"), ref(credential="secret")]
    missing = [ref(file="gone"), ref(file=".")]
    for place in (*elsewhere, *missing):
        found = fetch(place, Use.WORD, tmp_path, {})
        assert isinstance(found, NotFetched)
        assert found.is_elsewhere is (place in elsewhere)
    gone = fetch(ref(credential="gone"), Use.WORD, tmp_path, {"CREDENTIALS_DIRECTORY": "/nowhere"})
    assert "no such file" in why_not(gone)


@pytest.mark.parametrize(
    ("use", "text", "message"),
    [
        (Use.WORD, "\n", "is empty"),
        (Use.WORD, "two words", "spaces"),
        (Use.WORD, "two\nlines", "line breaks"),
        (Use.WORD, "nul\0byte", "odd characters"),
        (Use.PASSWORD, "two\nlines", "line breaks"),
        (Use.PRIVATE_KEY, "ssh-rsa AAAA you@example", "is no private key"),
        (Use.PRIVATE_KEY, KEY.replace("OPENSSH", "ENCRYPTED"), "passphrase"),
    ],
)
def test_a_secret_that_cannot_be_right_is_refused(tmp_path: Path, use, text, message):
    (tmp_path / "secret").write_text(text)
    assert message in why_not(fetch(ref(file="secret"), use, tmp_path, {}))


def test_a_password_may_hold_spaces_and_a_key_ends_with_a_line_break(tmp_path: Path):
    assert secret_text(fetch(ref(value="two words"), Use.PASSWORD, tmp_path, {})) == "two words"
    assert secret_text(fetch(ref(value=KEY.strip()), Use.PRIVATE_KEY, tmp_path, {})) == KEY


def test_a_secret_that_is_no_text_or_too_long_is_refused(tmp_path: Path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "long").write_bytes(b"x" * 70000)
    assert "is not text" in why_not(fetch(ref(file="binary"), Use.WORD, tmp_path, {}))
    assert "is larger than" in why_not(fetch(ref(file="long"), Use.WORD, tmp_path, {}))
