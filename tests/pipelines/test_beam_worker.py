"""What a Beam worker is told that a runner of another language starts in this environment."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from apache_beam.portability.api import (
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    endpoints_pb2,
)
from apache_beam.runners.worker import sdk_worker_main
from google.protobuf import json_format, text_format

from pipelines.beam_worker import main


class Runner(beam_provision_api_pb2_grpc.ProvisionServiceServicer):
    """A runner that knows one worker."""

    def GetProvisionInfo(self, request, context):  # noqa: N802
        if dict(context.invocation_metadata()).get("worker_id") != "1-2":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such worker")
        info = beam_provision_api_pb2.ProvisionInfo(
            control_endpoint=endpoints_pb2.ApiServiceDescriptor(url="localhost:1"),
            logging_endpoint=endpoints_pb2.ApiServiceDescriptor(url="localhost:2"),
            runner_capabilities=["one", "two"],
        )
        json_format.ParseDict({"beam:option:job_name:v1": "nightly"}, info.pipeline_options)
        return beam_provision_api_pb2.GetProvisionInfoResponse(info=info)


@pytest.fixture
def runner():
    server = grpc.server(ThreadPoolExecutor(1))
    beam_provision_api_pb2_grpc.add_ProvisionServiceServicer_to_server(Runner(), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    yield f"localhost:{port}"
    server.stop(None)


def test_the_worker_learns_its_job_from_the_runner(runner, monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(sdk_worker_main, "main", lambda _: None)
    main(["--id=1-2", f"--provision_endpoint={runner}", "--control_endpoint=ignored"])

    def url(name: str) -> str:
        parsed = text_format.Parse(os.environ[name], endpoints_pb2.ApiServiceDescriptor())
        return parsed.url

    assert os.environ["WORKER_ID"] == "1-2"
    assert url("CONTROL_API_SERVICE_DESCRIPTOR") == "localhost:1"
    assert url("LOGGING_API_SERVICE_DESCRIPTOR") == "localhost:2"
    assert os.environ["RUNNER_CAPABILITIES"].split() == ["one", "two"]
    options = json.loads(os.environ["PIPELINE_OPTIONS"])
    assert options == {"beam:option:job_name:v1": "nightly"}
