"""Data that broke its schema stop the run with exit code 3, and nobody's attributes are told."""

import json
import pathlib

import pytest
from own_files import REGIONS, write_config, write_shop

from pipelines.validation.validate import RESULTS

NEW_LABEL, NEW_REGION = "Sole traders", "east"


@pytest.fixture
def config(tmp_path, main) -> pathlib.Path:
    """A shop whose examples have been validated once, into `run` beside its YAML."""
    write_shop(tmp_path)
    config = write_config(tmp_path)
    for command in ("examples", "validate"):
        assert main(command, config, tmp_path / "run")[0] == 0
    return config


def _replace(path: pathlib.Path, old: str, new: str, count: int = -1) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, count), encoding="utf-8")


def test_a_new_group_and_a_new_slice_stop_the_run(tmp_path, main, config):
    out = tmp_path / "run"
    schema = (out / "schema" / "schema.pbtxt").read_bytes()
    record = (out / "schema" / "stage.json").read_bytes()
    _replace(tmp_path / "products.csv", "Large makers", NEW_LABEL, 3)
    _replace(tmp_path / "members.csv", REGIONS[0], NEW_REGION, 2)

    assert main("examples", config, out)[0] == 0
    code, _, errors = main("validate", config, out)
    assert code == 3
    for row in (
        "feature       part        what is wrong\n",
        "group         catalogue   Unexpected string values: 1 value that the schema does not know",
        "slice.region  users       Unexpected string values: 1 value that the schema does not know",
    ):
        assert f"  {row}" in errors
    assert f"{out}/schema/schema.pbtxt" in errors
    assert NEW_LABEL not in errors
    assert NEW_REGION not in errors
    assert "Traceback" not in errors
    assert (out / "schema" / "schema.pbtxt").read_bytes() == schema
    assert (out / "schema" / "stage.json").read_bytes() == record

    # What was found can be read although the stage is not complete.
    page = (out / "validation.html").read_text(encoding="utf-8")
    assert f"All that was found: {out}/validation.html" in errors
    assert "The run was stopped" in page
    assert not json.loads((out / "validation.json").read_text(encoding="utf-8"))["passed"]
    assert NEW_LABEL not in page
    assert NEW_REGION not in page

    # No detour: the schema that is there is that of other examples.
    code, _, errors = main("train", config, out)
    assert code == 2
    assert "schema is older than `examples`" in errors
    assert "Run `fairtowers validate` first." in errors


def test_the_whole_run_ends_with_3_and_trains_nothing(tmp_path, main, config):
    _replace(tmp_path / "products.csv", "Large makers", NEW_LABEL, 3)
    code, printed, errors = main("run", config, tmp_path / "run")
    assert code == 3
    assert "what is wrong" in errors
    assert (tmp_path / "run" / "anomalies.json").is_file()
    assert NEW_LABEL not in printed + errors
    assert not list((tmp_path / "run").rglob("*model*"))


def test_the_run_goes_on_once_the_data_are_right_again(tmp_path, main, config):
    out = tmp_path / "run"
    products = tmp_path / "products.csv"
    good = products.read_text(encoding="utf-8")
    _replace(products, "Large makers", NEW_LABEL, 3)
    main("examples", config, out)
    assert main("validate", config, out)[0] == 3
    products.write_text(good, encoding="utf-8")
    assert main("examples", config, out)[0] == 0
    assert (out / "validation.html").is_file()
    assert main("validate", config, out)[0] == 0
    assert not [out / name for name in RESULTS if (out / name).exists()]
    assert "Passed" in (out / "schema" / "validation.html").read_text(encoding="utf-8")


def test_new_requests_are_validated_and_skew_ends_the_run_with_3(tmp_path, main, config):
    """Requests name the members; a region is none of their features."""
    out = tmp_path / "run"
    requests = tmp_path / "requests.jsonl"
    write_config(tmp_path, validation={"serving_path": "requests.jsonl"})
    requests.write_text('{"user_id": "001"}\n')
    assert main("validate", config, out)[0] == 0
    assert "up to date" in main("validate", config, out)[1]
    requests.write_text('{"user_id": "001", "region": "north"}\n')
    code, _, errors = main("validate", config, out)
    assert code == 3
    assert "region   serving  New column" in errors
    assert "north" not in errors


def test_options_of_beam_reach_the_validation(tmp_path, main, config):
    code, _, errors = main("validate", config, tmp_path / "run", "--force", "--beam=--runner=Dask")
    assert code == 2
    assert "DaskRunner mixes up the outputs" in errors


def test_a_new_group_is_accepted_once_the_old_schema_is_removed(tmp_path, main, config):
    """As the message says."""
    out = tmp_path / "run"
    _replace(tmp_path / "products.csv", "Large makers", NEW_LABEL, 3)
    main("examples", config, out)
    (out / "schema" / "schema.pbtxt").unlink()
    assert main("validate", config, out)[0] == 0
    assert NEW_LABEL in (out / "schema" / "schema.pbtxt").read_text(encoding="utf-8")


def test_a_new_group_is_accepted_by_a_curated_schema_beside_the_yaml(tmp_path, main, config):
    """As the message says."""
    out = tmp_path / "run"
    _replace(tmp_path / "products.csv", "Large makers", NEW_LABEL, 3)
    main("examples", config, out)
    text = (out / "schema" / "schema.pbtxt").read_text(encoding="utf-8")
    curated = text.replace('value: "Large makers"', f'value: "Large makers"\n value: "{NEW_LABEL}"')
    (tmp_path / "curated.pbtxt").write_text(curated, encoding="utf-8")
    write_config(tmp_path, validation={"schema_path": "curated.pbtxt"})
    assert main("validate", config, out)[0] == 0


def test_other_slices_ask_for_another_schema(tmp_path, main, config):
    """A schema is held against other data, not against other settings."""
    out = tmp_path / "run"
    write_config(tmp_path, slices=[])
    for command in ("examples", "validate"):
        assert main(command, config, out)[0] == 0
    assert "slice.region" not in (out / "schema" / "schema.pbtxt").read_text(encoding="utf-8")
