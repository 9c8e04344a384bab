"""`models.config`: which versions of a model a server loads, and where its labels point."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from fairness_losses.errors import InvalidInputError
from serving.server import text_protos
from serving.whole_files import write_text

MODELS_FILE = "models.config"

MODELS_ROOT = "/models/"
"""Where the published images of TensorFlow Serving look for models."""


@dataclasses.dataclass(frozen=True)
class Served:
    """What a server is told of a model.

    Attributes:
        versions: Those it loads, ascending.
        labels: Label to version; each is one of `versions`.
    """

    versions: tuple[int, ...]
    labels: Mapping[str, int]


def read_models_config(model_dir: pathlib.Path) -> Served:
    """Reads the file beside a model's versions; of one that is not there, nothing is served.

    Args:
        model_dir: Folder of the model; its name is the model's.

    Raises:
        InvalidInputError: The file cannot be read, or is not of this model.
    """
    path = model_dir / MODELS_FILE
    if not path.is_file():
        return Served((), {})
    models = text_protos.read_models_config(path).model_config_list.config
    if [model.name for model in models] != [model_dir.name]:
        raise InvalidInputError(
            f"{path}: should configure the model `{model_dir.name}`, and no other. Received: "
            f"{', '.join(model.name for model in models) or 'none'}."
        )
    policy = models[0].model_version_policy
    return Served(tuple(policy.specific.versions), dict(models[0].version_labels))


def write_models_config(model_dir: pathlib.Path, served: Served) -> None:
    """Replaces the file in one step: who reads it sees the old or the new one."""
    write_text(str(as_proto(model_dir.name, served)), model_dir / MODELS_FILE)


def as_proto(name: str, served: Served) -> Any:
    """Returns a `ModelServerConfig`.

    Its folder is the model's in `MODELS_ROOT`.
    """
    from tensorflow_serving.config import model_server_config_pb2

    configs = model_server_config_pb2.ModelServerConfig()
    config = configs.model_config_list.config.add()
    config.name = name
    config.base_path = f"{MODELS_ROOT}{name}"
    config.model_platform = "tensorflow"
    config.model_version_policy.specific.versions.extend(served.versions)
    config.version_labels.update(served.labels)
    return configs
