"""Keys of slices: opaque, kept from version to version, for their owner alone."""

import json

import pytest

from fairness_losses.errors import InvalidInputError
from serving.mix.policy_keys import ensure_keys, read_keys


def test_keys_are_kept_and_new_values_get_new_ones(tmp_path):
    model_dir = tmp_path / "retriever"
    first = ensure_keys(model_dir, "gender", ["F", "M"])
    assert len(set(first.values())) == 2
    assert all(len(key) >= 20 for key in first.values())
    second = ensure_keys(model_dir, "gender", ["F", "X"])
    assert second["F"] == first["F"]
    assert second["X"] not in first.values()
    # A value that has no policy any more keeps its key for the day that it has one again.
    assert read_keys(model_dir, "gender") == {**first, **second}


def test_the_file_is_for_its_owner_alone(tmp_path):
    ensure_keys(tmp_path, "age", ["0–34"])
    path = tmp_path / "policy_keys.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text(encoding="utf-8"))["slice"] == "age"
    assert list(tmp_path.iterdir()) == [path]


def test_keys_of_another_slice_are_not_taken_over(tmp_path):
    ensure_keys(tmp_path, "age", ["0–34"])
    with pytest.raises(InvalidInputError, match="those of the slice `age`, not of `gender`"):
        ensure_keys(tmp_path, "gender", ["F"])
    assert read_keys(tmp_path / "none", "gender") == {}
