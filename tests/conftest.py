"""What every test shares: nothing but the rule that CI leaves nothing out."""

import os

import pytest

REQUIRE_EVERYTHING = bool(os.environ.get("STACKWARD_REQUIRE_EVERYTHING"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Turn a skipped test into a failed one where everything is required."""
    report = yield
    if REQUIRE_EVERYTHING and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"left out although everything is required: {report.longrepr}"
    return report
