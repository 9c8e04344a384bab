"""The batching and monitoring configurations that TensorFlow Serving reads at its start."""

from __future__ import annotations

import pathlib

from serving.whole_files import write_text

BATCHING_FILE = "batching.config"
MONITORING_FILE = "monitoring.config"

# Padding lets requests with exclusion lists of different lengths share a batch. The server pads
# with the first value of a request's tensor: an id that is excluded anyway. Clients should pad
# query features that are lists themselves, to one length.
_BATCHING = """\
max_batch_size { value: 256 }
batch_timeout_micros { value: 1000 }
max_enqueued_batches { value: 1000 }
num_batch_threads { value: 4 }
pad_variable_length_inputs: true
"""

_MONITORING = """\
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""


def write_server_configs(model_dir: pathlib.Path) -> None:
    """Writes `batching.config` and `monitoring.config` beside the versions of a model.

    Give them to the server's flags `--batching_parameters_file` (with `--enable_batching`) and
    `--monitoring_config_file`.
    """
    write_text(_BATCHING, model_dir / BATCHING_FILE)
    write_text(_MONITORING, model_dir / MONITORING_FILE)
