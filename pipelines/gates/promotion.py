"""What a verdict says of a version that is to be promoted."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from fairness_losses.errors import InvalidInputError
from pipelines.gates.evaluate import check_verdict


def promotable(path: pathlib.Path, model: str, version: int | None) -> int:
    """Returns the version of a model that a verdict lets through.

    Args:
        path: The `verdict.json`.
        model: Name of the model.
        version: What is to be promoted; by default what the verdict is about.

    Raises:
        GateError: A gate did not hold.
        InvalidInputError: The verdict is about another version, or about several.
    """
    verdict = _read(path)
    check_verdict(verdict, path)
    prefix = f"{model}/"
    about = [name for name in verdict["model_versions"] if name.startswith(prefix)]
    numbers = [name.removeprefix(prefix) for name in about]
    versions = [int(number) for number in numbers if number.isdecimal()]
    if version is None and len(versions) == 1:
        return versions[0]
    if version not in versions or len(verdict["model_versions"]) > 1:
        known = ", ".join(verdict["model_versions"]) or "no version"
        raise InvalidInputError(
            f"{path}: the verdict is about {known}, not about the version of `{model}` to promote "
            "alone. Give the verdict of an audit of its lists."
        )
    return version


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        verdict = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise InvalidInputError(f"{path}: no JSON: {error}.") from error
    if not isinstance(verdict, dict) or not {"passed", "gates", "model_versions"} <= verdict.keys():
        raise InvalidInputError(f"{path}: no verdict of `fairtowers gate`.")
    return verdict
