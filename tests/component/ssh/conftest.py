"""A cloud on loopback for each test."""

import pytest

from tests.component.ssh.servers import a_cloud


@pytest.fixture
async def cloud(tmp_path):
    async with a_cloud(tmp_path) as running:
        yield running
