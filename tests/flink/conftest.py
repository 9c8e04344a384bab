"""A cluster for all tests of a session; a test that fails shows the end of its logs."""

from collections.abc import Iterator

import pytest
from flink_cluster import FlinkCluster


@pytest.fixture(scope="session")
def flink(tmp_path_factory) -> Iterator[FlinkCluster]:
    """A running cluster of two task managers with two slots each."""
    with FlinkCluster(tmp_path_factory.mktemp("flink")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def flink_args(flink) -> list[str]:
    """Options of Beam that run a pipeline on the cluster, a task on each task manager."""
    return flink.beam_args()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    if report.failed and "flink" in item.funcargs:
        report.sections.append(("logs of Flink", item.funcargs["flink"].log_tails()))
    return report
