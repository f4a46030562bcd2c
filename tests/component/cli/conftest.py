import pytest

from tests.component.cli.shell import Shell


@pytest.fixture
def shell(monkeypatch, capsys):
    return Shell(monkeypatch, capsys)
