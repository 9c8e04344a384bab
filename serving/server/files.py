"""The files that a TensorFlow Serving binary would be given."""

from __future__ import annotations

import dataclasses
import pathlib

from fairness_losses.errors import InvalidInputError
from serving.models_config import MODELS_FILE
from serving.server_configs import BATCHING_FILE, MONITORING_FILE


@dataclasses.dataclass(frozen=True)
class Files:
    """What to serve, and how.

    Attributes:
        models: The `models.config`.
        batching: The `batching.config`, or None for a call of the graph per request.
        monitoring: The `monitoring.config`, or None for no metrics.
        mount: What a container would see as `/models`.
    """

    models: pathlib.Path
    batching: pathlib.Path | None
    monitoring: pathlib.Path | None
    mount: pathlib.Path


def find_files(
    models: pathlib.Path,
    batching: pathlib.Path | None = None,
    monitoring: pathlib.Path | None = None,
    mount: pathlib.Path | None = None,
    with_batching: bool = True,
) -> Files:
    """Finds the configuration files.

    Args:
        models: The `models.config`, or a folder that holds it.
        batching: The `batching.config`; by default that of the folder, if there is one.
        monitoring: The `monitoring.config`; by default that of the folder, if there is one.
        mount: What containers see as `/models`; by default the folder above.
        with_batching: Whether requests are merged.

    Raises:
        InvalidInputError: There is no `models.config`.
    """
    folder = models if models.is_dir() else models.parent
    file = models / MODELS_FILE if models.is_dir() else models
    if not file.is_file():
        raise InvalidInputError(
            f"{models}: should be a `{MODELS_FILE}` or a folder that holds one, such as the "
            "`serving/<name>` of a run."
        )
    if models.is_dir():
        batching = batching or _if_there(folder / BATCHING_FILE)
        monitoring = monitoring or _if_there(folder / MONITORING_FILE)
    mount = mount or folder.resolve().parent
    return Files(file, batching if with_batching else None, monitoring, mount)


def _if_there(path: pathlib.Path) -> pathlib.Path | None:
    return path if path.is_file() else None
