"""What a `models.config` asks for: which versions of which models, in which folders."""

from __future__ import annotations

import pathlib
from typing import Any

from serving.models_config import MODELS_ROOT
from serving.server.errors import Code, StatusError, invalid


def validate(config: Any) -> None:
    """Checks what TensorFlow Serving checks, with its messages.

    Args:
        config: `ModelServerConfig`.

    Raises:
        StatusError: It cannot be served.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
            "ModelConfigList is currently supported"
        )
    names = set()
    for model in config.model_config_list.config:
        if model.name in names:
            raise invalid(f"Illegal to list model {model.name} multiple times in config list")
        names.add(model.name)
        if not model.base_path.startswith("/"):
            raise invalid(
                f"Expected model {model.name} to have an absolute path or URI; got "
                f"base_path()={model.base_path}"
            )
        if not model.model_platform:
            raise invalid("Illegal setting neither model_type(deprecated) nor model_platform.")
        if model.model_platform != "tensorflow":
            raise invalid(
                f"Model {model.name} requests unsupported platform {model.model_platform}"
            )


def base_path(model: Any, mount: pathlib.Path) -> pathlib.Path:
    """Finds the folder of a model's versions.

    Args:
        model: `ModelConfig`.
        mount: What a container would see as `/models`; a path in there that does not exist is
            looked for here.
    """
    path = pathlib.Path(model.base_path)
    if model.base_path.startswith(MODELS_ROOT) and not path.is_dir():
        return mount / model.base_path[len(MODELS_ROOT) :]
    return path


def wanted_versions(model: Any, folder: pathlib.Path) -> dict[int, pathlib.Path]:
    """Looks which versions exist and are asked for.

    Args:
        model: `ModelConfig`; without a policy the latest version is meant.
        folder: Holds a folder per version, whose name is a number.

    Returns:
        Folders by version.

    Raises:
        StatusError: There is no such folder.
    """
    try:
        found = {int(p.name): p for p in folder.iterdir() if p.name.isdecimal() and p.is_dir()}
    except OSError as error:
        raise StatusError(
            Code.NOT_FOUND, f"Could not find base path {folder} for servable {model.name}"
        ) from error
    policy = model.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        chosen = set(found)
    elif kind == "specific":
        chosen = set(policy.specific.versions)
    else:
        chosen = set(sorted(found)[-(policy.latest.num_versions or 1) :])
    return {version: found[version] for version in sorted(chosen & set(found))}
