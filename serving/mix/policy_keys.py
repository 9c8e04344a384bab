"""Opaque keys by which a request says whose policy it wants, without saying who asks."""

from __future__ import annotations

import json
import pathlib
import secrets
from collections.abc import Sequence

from fairness_losses.errors import InvalidInputError
from serving.whole_files import write_json

KEYS_FILE = "policy_keys.json"
"""Beside the versions of a model: `{"slice": name, "keys": {value: key}}`. It belongs to the
service that knows its users, and to no server: the graph holds only what a key's targets are."""

_BYTES = 16


def ensure_keys(model_dir: pathlib.Path, slice_name: str, values: Sequence[str]) -> dict[str, str]:
    """Returns a key per slice value; those of earlier versions are kept, new ones are random.

    Args:
        model_dir: Folder of the model, which holds `policy_keys.json`, for its owner alone.
        slice_name: The slice.
        values: Its values that have a policy of their own.

    Returns:
        Value to key.

    Raises:
        InvalidInputError: The file holds the keys of another slice.
    """
    path = model_dir / KEYS_FILE
    keys = read_keys(model_dir, slice_name)
    missing = [value for value in values if value not in keys]
    if missing:
        keys |= {value: secrets.token_urlsafe(_BYTES) for value in missing}
        model_dir.mkdir(parents=True, exist_ok=True)
        write_json({"slice": slice_name, "keys": keys}, path, mode=0o600)
    return {value: keys[value] for value in values}


def read_keys(model_dir: pathlib.Path, slice_name: str) -> dict[str, str]:
    """Returns value to key of what `ensure_keys` wrote; empty if there is nothing.

    Raises:
        InvalidInputError: The file holds the keys of another slice.
    """
    path = model_dir / KEYS_FILE
    if not path.is_file():
        return {}
    stored = json.loads(path.read_text(encoding="utf-8"))
    if stored["slice"] != slice_name:
        raise InvalidInputError(
            f"{path}: the keys are those of the slice `{stored['slice']}`, not of `{slice_name}`. "
            "Clients hold them: export under another `serving.name`, or remove the file."
        )
    return stored["keys"]
