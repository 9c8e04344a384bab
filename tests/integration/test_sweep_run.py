"""A sweep from the log to the frontier, and what a second call does not do again."""

import copy
import csv
import pathlib
import subprocess
from typing import Any

import pytest
import yaml
from tiny_run import TINY, fairtowers, half_written, read_json, write_config

pytestmark = pytest.mark.slow

SWEEP: dict[str, Any] = {
    "group": "range_4",
    "points": [{"regularizer": "exposure_parity", "weights": [3]}],
    "bonuses": [0.1, 0.2],
    "bonus_by": ["gender"],
    "bonus_ratios": [0.9, 1.0],
}


def config(folder: pathlib.Path, **sweep: Any) -> pathlib.Path:
    content = copy.deepcopy(TINY)
    content["training"]["epochs"] = 2
    # Crossed, the slices are too small for their ratios to be met exactly.
    content["slices"] = [{"column": "gender"}, {"column": "age", "bands": [0, 35]}]
    return write_config(folder, {**content, "sweep": {**SWEEP, **sweep}})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="module")
def swept(folder) -> subprocess.CompletedProcess[str]:
    """What the first call printed."""
    result = fairtowers("sweep", config(folder), folder / "run")
    assert result.returncode == 0, result.stdout + result.stderr
    return result


def points(folder: pathlib.Path) -> dict[str, Any]:
    found = read_json(folder / "run" / "sweep" / "frontier" / "frontier.json")
    return {point["name"]: point for point in found["points"]}


def test_one_command_goes_from_the_log_to_the_frontier(folder, swept):
    assert "model 1 of 2" in swept.stdout
    assert "model 2 of 2" in swept.stdout
    assert "Against a constant bonus that brings the slice furthest from 1" in swept.stdout
    frontier = folder / "run" / "sweep" / "frontier"
    assert (frontier / "frontier.png").stat().st_size > 10_000
    with (frontier / "frontier.csv").open(newline="") as file:
        lines = [row["line"] for row in csv.DictReader(file)]
    bonuses = ["bonus"] * 2 + ["bonus_per_slice"] * 2
    assert lines == ["without_regularizer", "exposure_parity", *bonuses]
    assert half_written(folder / "run") == []


def test_it_measures_what_training_measures(folder, swept):
    """NDCG of the validation users' exact lists, by two ways through the code."""
    history = read_json(folder / "run" / "without_regularizer" / "model" / "history.json")
    result = read_json(folder / "run" / "sweep" / "without_regularizer" / "result" / "result.json")
    measured = result["audit"]["overall"]["quality"]["ndcg@10"]["value"]
    assert measured == pytest.approx(history[-1]["val_ndcg@10"], abs=1e-6)


def test_more_bonus_is_more_exposure(folder, swept):
    found = points(folder)
    names = ["without_regularizer", "bonus-0.1", "bonus-0.2"]
    ratios = [found[name]["ratio"]["value"] for name in names]
    assert ratios == sorted(ratios)
    assert ratios[0] < ratios[-1]


def test_a_tuned_bonus_meets_its_ratio_in_every_slice_it_is_tuned_for(folder, swept):
    """One item more or less on one of some fifty lists moves a ratio by less than 0.03."""
    for ratio in (0.9, 1.0):
        path = folder / "run" / "sweep" / f"bonus_per_slice-{ratio:g}" / "result" / "result.json"
        result = read_json(path)
        slices = result["audit"]["slices"]["gender"]
        met = {
            value: cell["groups"]["range_4"]["exposure_ratio"]["value"]
            for value, cell in slices.items()
            if "groups" in cell
        }
        assert met == {value: pytest.approx(ratio, abs=0.03) for value in met}
        # A cell may be withheld for a small one beside it; its bonus is found all the same.
        assert "woman" in met
        assert set(result["bonuses"]) == {"man", "woman"}


def test_a_second_call_does_nothing_and_one_weight_more_trains_one_model(folder, swept, main):
    path = folder / "run" / "sweep" / "frontier" / "frontier.json"
    before = path.read_bytes()
    code, printed, _ = main("sweep", config(folder), folder / "run")
    assert code == 0
    assert "epoch" not in printed
    assert "done" not in printed
    assert path.read_bytes() == before

    more = [{"regularizer": "exposure_parity", "weights": [3, 10]}]
    code, printed, _ = main("sweep", config(folder, points=more), folder / "run")
    assert code == 0
    assert [line for line in printed.splitlines() if line.startswith("model")] == ["model 3 of 3"]
    assert points(folder)["exposure_parity-10"]["change"]["ndcg@20"] is not None


def test_a_weight_that_diverges_is_a_point_and_no_end(folder, swept, main):
    """1e39 is infinite in float32."""
    huge = [{"regularizer": "exposure_parity", "weights": [3, 1e39]}]
    path = config(folder, points=huge)
    for _ in range(2):
        code, printed, _ = main("sweep", path, folder / "run")
        assert code == 0
    assert "done" not in printed
    stages = folder / "run" / "sweep" / "exposure_parity-1e+39"
    assert read_json(stages / "model" / "stage.json")["result"] == {"diverged": True}
    assert read_json(stages / "result" / "result.json") == {}
    found = points(folder)
    assert found["exposure_parity-1e+39"]["diverged"]
    assert not found["exposure_parity-3"]["diverged"]


def test_a_baseline_that_diverges_is_the_end(folder, swept, main):
    content = yaml.safe_load(config(folder).read_text(encoding="utf-8"))
    content["training"]["learning_rate"] = 1e39
    code, _, error = main("sweep", write_config(folder, content), folder / "run")
    assert code == 2
    assert "training diverged" in " ".join(error.split())


def test_what_a_constraint_does_not_meet_is_said(folder, swept, main):
    """A band of 1 % is narrower than two epochs can meet. An up-to-date model is told of, too."""
    point = {
        "regularizer": "exposure_constraint",
        "weights": [0.01],
        "slices": ["gender"],
        "constraint": {"groups": ["range_4"], "tolerance": 0.01, "step_size": 0.001},
    }
    for _ in range(2):
        code, printed, _ = main("sweep", config(folder, points=[point]), folder / "run")
        assert code == 0
        assert "constraint not met: range_4 in gender=" in printed


def test_the_model_without_a_regularizer_is_that_of_the_main_job(folder, swept, main):
    # The first variant is up to date, and the second cannot be made.
    content = copy.deepcopy(TINY)
    content["training"]["epochs"] = 2
    content["slices"] = [{"column": "gender"}, {"column": "age", "bands": [0, 35]}]
    code, printed, _ = main("train", write_config(folder, content), folder / "run")
    assert code == 0
    (line,) = [line for line in printed.splitlines() if line.startswith("without_regularizer")]
    assert "up to date" in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group": "pink"}, "`sweep.group`: no item is of the group `pink`."),
        ({"group": "unknown"}, "`sweep.group`: `unknown` has no target"),
        (
            {
                "points": [
                    {"regularizer": "min_diff", "weights": [1]},
                    {**SWEEP["points"][0], "name": "x", "options": {"attention": "short"}},
                ]
            },
            "`attention` should be one of top_k",
        ),
        (
            {
                "points": [
                    {"regularizer": "exposure_parity", "weights": [5]},
                    {"regularizer": "pairwise_fairness", "weights": [1]},
                ]
            },
            "`pairwise_fairness` of `sweep.points`: `pairwise_fairness` compares the items that a",
        ),
        (
            {"points": [{"regularizer": "worst_group", "weights": [1]}]},
            "`worst_group` of `sweep.points`: `worst_group` compares slices of the users",
        ),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(folder, swept, main, change, message):
    code, printed, error = main("sweep", config(folder, **change), folder / "run")
    assert code == 2
    assert message in " ".join(error.split())
    assert "epoch" not in printed


def test_a_configuration_without_a_sweep_is_refused(folder, main):
    code, _, error = main("sweep", write_config(folder), folder / "run")
    assert code == 2
    assert "the configuration has no `sweep`" in error
