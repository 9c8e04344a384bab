"""Starts a Beam worker in the environment that this package is installed in.

For runners that are not in Python and start their workers themselves, such as Flink with
`--environment_type=PROCESS`. Does what the `boot` of Beam's containers does, except for installing
packages. Source: Beam, `sdks/python/container/boot.go`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import grpc
from apache_beam.portability.api import beam_provision_api_pb2, beam_provision_api_pb2_grpc
from apache_beam.runners.worker import sdk_worker_main
from apache_beam.runners.worker.worker_id_interceptor import WorkerIdInterceptor
from google.protobuf import json_format, text_format

_TIMEOUT_SECONDS = 60


def main(arguments: Sequence[str] | None = None) -> None:
    """Asks the runner for its job and works for it until it ends.

    Args:
        arguments: Those of a container's `boot`; by default of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--id", required=True, help="Name of this worker.")
    parser.add_argument("--provision_endpoint", required=True, help="Where the runner answers.")
    # The runner passes the other endpoints, too, or leaves them to its answer.
    known, _ = parser.parse_known_args(arguments)
    os.environ.update(_environment(known.id, known.provision_endpoint))
    sdk_worker_main.main(sys.argv)


def _environment(worker_id: str, endpoint: str) -> dict[str, str]:
    """The variables by which Beam's worker knows its job."""
    with grpc.insecure_channel(endpoint) as plain:
        channel = grpc.intercept_channel(plain, WorkerIdInterceptor(worker_id))
        stub = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        request = beam_provision_api_pb2.GetProvisionInfoRequest()
        info = stub.GetProvisionInfo(request, timeout=_TIMEOUT_SECONDS).info
    return {
        "WORKER_ID": worker_id,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
        "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(info.control_endpoint),
        "LOGGING_API_SERVICE_DESCRIPTOR": text_format.MessageToString(info.logging_endpoint),
    }


if __name__ == "__main__":
    main()
