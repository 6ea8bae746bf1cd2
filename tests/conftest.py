"""Shared by all tests: few threads, the data folder, and what waits for a full run."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

from pathlib import Path

import pytest

from gdm_course.environment import on
from tests import system


def pytest_collection_modifyitems(config, items):
    """Skip what is marked `full` unless GDM_FULL=1, and `data` without GDM_DATA_DIR."""
    no_data = not os.environ.get("GDM_DATA_DIR")
    for item in items:
        if item.get_closest_marker("full") and not on("GDM_FULL"):
            item.add_marker(
                pytest.mark.skip(reason="full budget: set GDM_FULL=1 to run it")
            )
        if item.get_closest_marker("data") and no_data:
            item.add_marker(
                pytest.mark.skip(reason="needs the data sets: set GDM_DATA_DIR")
            )


def pytest_report_header(config):
    """Say at the start which programs of the system are missing."""
    return system.opening(system.missing())


def pytest_terminal_summary(terminalreporter):
    """Say at the end how many tests that cost."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = [report.longrepr[2] for report in skipped]
    for line in system.closing(system.missing(), reasons):
        terminalreporter.write_line(line, yellow=True)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return Path(__file__).resolve().parent.parent
