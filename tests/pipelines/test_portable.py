"""The job as a portable runner's job server receives it."""

import pytest
from apache_beam.portability import common_urns
from apache_beam.runners.portability.portable_runner import PortableRunner
from small_log import config, write_files

from pipelines.examples.pipeline import examples_pipeline


@pytest.mark.parametrize("runner", ["SparkRunner", "PortableRunner"])
def test_the_job_for_spark_is_constructed(tmp_path, runner):
    """That a Spark cluster runs it is not known: no job server for it was to be had."""
    workers = ["--environment_type=EXTERNAL", "--environment_config=localhost:50000"]
    run = config(write_files(tmp_path))
    pipeline = examples_pipeline(run, None, tmp_path / "out", [f"--runner={runner}", *workers])
    proto = PortableRunner.get_proto_pipeline(pipeline, pipeline.options)
    used = {t.environment_id for t in proto.components.transforms.values() if t.environment_id}
    urns = {proto.components.environments[environment].urn for environment in used}
    assert urns == {common_urns.environments.EXTERNAL.urn}
    names = {t.unique_name for t in proto.components.transforms.values()}
    assert {"Read log", "Look ids up", "Order rows", "Write shards", "Finish"} <= names
