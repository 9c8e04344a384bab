"""What TensorFlow Serving does with a configuration, without models, for tests of promotion.

It follows `ServerCore::ReloadConfig`: labels are assigned first, to loaded versions only (but for
labels that are new, given `--allow_version_labels_for_unavailable_models`); a refused label refuses
all; then versions are loaded, which takes until `load` is called, and others are unloaded at once.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import pathlib
import threading

import grpc
from google.protobuf import text_format
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

STATES = get_model_status_pb2.ModelVersionStatus


class RefusedError(Exception):
    """A configuration was refused."""


class FakeModelServer(model_service_pb2_grpc.ModelServiceServicer):
    """One model's versions and labels."""

    def __init__(self, broken: tuple[int, ...] = (), loads_at_once: bool = False) -> None:
        self.labels: dict[str, int] = {}
        self.loaded: set[int] = set()
        self.aspired: set[int] = set()
        self.broken, self.loads_at_once = set(broken), loads_at_once
        self.max_loaded = 0
        self.seen: list[tuple[dict[str, int], set[int]]] = []

    def start(self, path: pathlib.Path) -> None:
        """Starts with a file, as a new process; it waits for its first versions."""
        self.labels, self.loaded = {}, set()
        self.poll(path)
        self.load()

    def poll(self, path: pathlib.Path) -> None:
        """Looks at the file, as `--model_config_file_poll_wait_seconds` makes it do."""
        config = model_server_config_pb2.ModelServerConfig()
        self.reload(text_format.Parse(path.read_text(), config))

    def reload(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        (model,) = config.model_config_list.config
        for label, version in model.version_labels.items():
            is_new = self.labels.get(label, version) == version
            if version not in self.loaded and not is_new:
                raise RefusedError(f"Request to assign label to version {version}")
        self.labels = dict(model.version_labels)
        self.aspired = set(model.model_version_policy.specific.versions)
        assert set(self.labels.values()) <= self.aspired
        self.loaded &= self.aspired
        self.seen.append((self.labels, self.aspired))
        if self.loads_at_once:
            self.load()

    def load(self) -> None:
        """Loads what the last configuration listed."""
        self.loaded |= self.aspired - self.broken
        self.max_loaded = max(self.max_loaded, len(self.loaded))

    def HandleReloadConfigRequest(self, request, context):  # noqa: N802
        response = model_management_pb2.ReloadConfigResponse()
        try:
            self.reload(request.config)
        except RefusedError as error:
            response.status.error_code = 9  # FAILED_PRECONDITION
            response.status.error_message = str(error)
            return response
        threading.Timer(0.15, self.load).start()
        return response

    def GetModelStatus(self, request, context):  # noqa: N802
        response = get_model_status_pb2.GetModelStatusResponse()
        for version in self.aspired:
            status = response.model_version_status.add(version=version, state=STATES.LOADING)
            if version in self.loaded:
                status.state = STATES.AVAILABLE
            elif version in self.broken:
                status.state = STATES.END
                status.status.error_message = "Op type not registered"
        return response


@contextlib.contextmanager
def running(server: FakeModelServer):
    """Serves it on a free port; yields `host:port`."""
    grpc_server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(server, grpc_server)
    port = grpc_server.add_insecure_port("localhost:0")
    grpc_server.start()
    try:
        yield f"localhost:{port}"
    finally:
        grpc_server.stop(None)
