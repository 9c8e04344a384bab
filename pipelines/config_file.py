"""Reads a run configuration from YAML and says in words what is wrong with it."""

from __future__ import annotations

import difflib
import pathlib
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from fairness_losses.errors import InvalidInputError
from pipelines.config import RunConfig

Model = TypeVar("Model", bound=BaseModel)


def load_config(path: str | pathlib.Path, data: str | None = None) -> RunConfig:
    """Reads and checks a run configuration.

    Args:
        path: YAML file.
        data: Overrides `data.directory`.

    Returns:
        The configuration, its paths resolved: those of the user's files against
        `data.directory`, and that itself, like any other, against the folder of the YAML.

    Raises:
        InvalidInputError: The file is missing, is not YAML, or a key or value is wrong; the
            message names each and, for an unknown key, the nearest known one.
    """
    path = pathlib.Path(path)
    return _resolve_paths(load_settings(path, RunConfig), path.parent.resolve(), data)


def load_settings(path: str | pathlib.Path, model: type[Model]) -> Model:
    """Reads and checks settings of any kind, their paths as they are written.

    Args:
        path: YAML file.
        model: The kind.

    Raises:
        InvalidInputError: As `load_config`.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InvalidInputError(f"{path}: there is no such configuration file.")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path}: not a YAML file: {error}") from error
    if not isinstance(raw, dict):
        raise InvalidInputError(f"{path}: should be a YAML mapping of keys to values.")
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise InvalidInputError(_explain(error, path, model)) from error


def _explain(error: ValidationError, path: pathlib.Path, model: type[BaseModel]) -> str:
    return f"{path}: " + " ".join(_sentence(problem, model) for problem in error.errors())


def _sentence(problem: ErrorDetails, model: type[BaseModel]) -> str:
    """What is wrong with one key or value."""
    where, known = _locate(problem["loc"], model)
    message, value = problem["msg"].removeprefix("Value error, ").rstrip("."), problem["input"]
    match problem["type"]:
        case "missing":
            return f"`{where}` is needed."
        case "extra_forbidden":
            return f"`{where}` is not a known key{_nearest(str(problem['loc'][-1]), known)}"
        case "union_tag_not_found":
            return f"`{where}.kind` is needed."
        case "union_tag_invalid":
            where, value = f"{where}.kind", problem["ctx"]["tag"]
            message = f"Input should be one of {problem['ctx']['expected_tags']}"
        case "model_type" | "model_attributes_type" | "dict_type":
            message = "Input should be a mapping of keys to values"
    if not where:
        return f"{message[0].upper()}{message[1:]}."
    received = "" if isinstance(value, dict | list) else f" Received: {value!r}."
    if message.startswith("Input should"):
        return f"`{where}` {message.removeprefix('Input ')}.{received}"
    return f"`{where}`: {message[0].lower()}{message[1:]}.{received}"


def _locate(loc: tuple[int | str, ...], model: type[BaseModel]) -> tuple[str, list[str]]:
    """Where an error is.

    Args:
        loc: As pydantic gives it. Behind a discriminated union it holds the tag, too, which is no
            key of the YAML.
        model: The settings that it is in.

    Returns:
        The path in the YAML, and the keys that are known where its last key is.
    """
    written: list[str] = []
    known: list[str] = []
    models: list[type[BaseModel]] = [model]
    is_name = False
    for key in loc:
        if len(models) > 1 and isinstance(key, str):
            models = [m for m in models if key in get_args(m.model_fields["kind"].annotation)]
            continue
        written.append(str(key))
        if isinstance(key, str) and not is_name:
            fields = models[0].model_fields if models else {}
            known = list(fields)
            annotation = fields[key].annotation if key in fields else None
            models = _settings_in(annotation)
            # The keys of a mapping are names that somebody has given, and known to nobody else.
            is_name = get_origin(annotation) is dict
        else:
            is_name = False
    return ".".join(written), known


def _settings_in(annotation: Any) -> list[type[BaseModel]]:
    """The settings that a type consists of: those in a list, or the members of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for argument in get_args(annotation) for m in _settings_in(argument)]


def _nearest(key: str, known: list[str]) -> str:
    """The end of a sentence that says what else could be meant."""
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f"; did you mean `{close[0]}`?"
    return f"; the known ones are {', '.join(f'`{k}`' for k in known)}."


def _resolve_paths(config: RunConfig, folder: pathlib.Path, data: str | None) -> RunConfig:
    """Makes paths absolute, so that a run is the same one from wherever it is started."""
    directory = config.data.directory
    if data is not None:
        directory = str(pathlib.Path(data).resolve())
    elif directory is not None:
        directory = str(folder / directory)
    changes: dict[str, Any] = {"directory": directory}
    if config.data.dataset == "files":
        base = pathlib.Path(directory) if directory is not None else folder
        for name in ("interactions", "users", "items"):
            source = getattr(config.data, name)
            if source is not None and "://" not in source.path:
                changes[name] = source.model_copy(update={"path": str(base / source.path)})
    validation = config.validation
    for name in ("schema_path", "serving_path"):
        given = getattr(validation, name)
        if given is not None and "://" not in given:
            validation = validation.model_copy(update={name: str(folder / given)})
    gates = config.gates
    if gates.previous is not None:
        gates = gates.model_copy(update={"previous": str(folder / gates.previous)})
    previous = [str(folder / path) for path in config.report.previous]
    return config.model_copy(
        update={
            "data": config.data.model_copy(update=changes),
            "validation": validation,
            "gates": gates,
            "report": config.report.model_copy(update={"previous": previous}),
        }
    )
