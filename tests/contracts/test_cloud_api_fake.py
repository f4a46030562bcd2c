"""The small cloud of the executor's tests keeps the contract of the CloudStack API."""

import pytest

from stackward.model.identity import TargetId
from tests.contracts.cloud_api import CLAIMS, Stage
from tests.fakes.journal import MemoryJournal
from tests.fakes.small_cloud import SmallCloud
from tests.fakes.virtual_loop import run_virtually


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.__name__)
def test_the_small_cloud_keeps_the_contract(claim):
    async def run() -> None:
        cloud = SmallCloud(MemoryJournal())

        def destroy(_: TargetId) -> None:
            cloud.is_gone = True

        await claim(Stage(cloud, cloud.clock, cloud.target.id, destroy))

    run_virtually(run())
