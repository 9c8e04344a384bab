"""Writes what deploys a model: for Docker Compose, Kubernetes, and an image with ScaNN's ops."""

from __future__ import annotations

import importlib.resources
import pathlib
import re

import jinja2

from serving.models_config import MODELS_FILE
from serving.promotion import POLL_SECONDS
from serving.server_configs import BATCHING_FILE, MONITORING_FILE
from serving.whole_files import write_text

DEPLOY_DIR = "deploy"
GRPC_PORT, REST_PORT = 8500, 8501
METRICS_PATH = "/monitoring/prometheus/metrics"

TF_SERVING_VERSION = "2.16.1"
STOCK_IMAGE = f"tensorflow/serving:{TF_SERVING_VERSION}"
SCANN_IMAGE = f"tf-serving-scann:{TF_SERVING_VERSION}"
"""What `Dockerfile` is built as; nobody publishes one of this version."""

_TEMPLATES = ("docker-compose.yaml", "kubernetes.yaml")


def write_deploy_files(model_dir: pathlib.Path, requires_scann_ops: bool) -> None:
    """Writes `deploy/` into the folder of a model; files of before are replaced.

    Args:
        model_dir: Folder of the model; its name is the model's.
        requires_scann_ops: Whether its newest version needs a server with ScaNN's ops.
    """
    folder = model_dir / DEPLOY_DIR
    folder.mkdir(exist_ok=True)
    here = importlib.resources.files("serving.deploy")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    values = {
        "model": model_dir.name,
        "app": resource_name(model_dir.name),
        "image": SCANN_IMAGE if requires_scann_ops else STOCK_IMAGE,
        "builds_image": requires_scann_ops,
        "flags": server_flags(model_dir.name),
        "grpc_port": GRPC_PORT,
        "rest_port": REST_PORT,
        "metrics_path": METRICS_PATH,
    }
    for name in _TEMPLATES:
        template = environment.from_string((here / f"{name}.j2").read_text(encoding="utf-8"))
        write_text(template.render(values), folder / name)
    write_text((here / "Dockerfile").read_text(encoding="utf-8"), folder / "Dockerfile")


def server_flags(model: str) -> list[str]:
    """Returns the flags of `tensorflow_model_server` for a model in `/models/<model>`."""
    folder = f"/models/{model}"
    return [
        f"--model_config_file={folder}/{MODELS_FILE}",
        f"--model_config_file_poll_wait_seconds={POLL_SECONDS:.0f}",
        # Without it, a server does not start with labels: it assigns them before it loads.
        "--allow_version_labels_for_unavailable_models=true",
        # A version that cannot be loaded says so at once, rather than after five minutes.
        "--max_num_load_retries=0",
        "--enable_batching=true",
        f"--batching_parameters_file={folder}/{BATCHING_FILE}",
        f"--monitoring_config_file={folder}/{MONITORING_FILE}",
    ]


def resource_name(model: str) -> str:
    """Returns a name that Kubernetes takes: RFC 1123, and short enough to add to."""
    return re.sub(r"[^a-z0-9]+", "-", model.lower())[:50].strip("-")
