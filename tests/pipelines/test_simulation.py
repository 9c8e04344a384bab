"""The closed loop as a whole, on a tiny marketplace."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from fairness_losses.errors import InvalidInputError
from pipelines.cli import app
from pipelines.simulation.config import SimulationConfig
from pipelines.simulation.loop import simulate_arm

TINY = {
    "name": "Tiny loop",
    "seed": 3,
    "seeds": 2,
    "rounds": 2,
    "k": 5,
    "marketplace": {"interactions": 1500, "users": 60, "items": 200},
    "features": {
        "query": [{"kind": "id", "column": "user_id"}],
        "candidate": [
            {"kind": "id", "column": "item_id"},
            {"kind": "vector", "column": "style"},
        ],
    },
    "supply": {"newcomers": 0.1},
    "towers": {"dim": 8},
    "training": {"batch_of": "users", "batch_size": 30, "epochs": 3, "evaluate_at": [5]},
    # The same under two names: whatever they differ in would be chance that arms do not share.
    "arms": {"nothing": {}, "again": {"policy": {"kind": "relevance"}}},
}


def simulate(config, out, *options):
    return CliRunner().invoke(app, ["simulate", "-c", str(config), "-o", str(out), *options])


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulation")
    config = folder / "simulation.yaml"
    config.write_text(yaml.safe_dump(TINY, sort_keys=False))
    done = simulate(config, folder / "out")
    assert done.exit_code == 0, done.output
    return config, folder / "out", done.output


def rounds(out, arm, seed=3):
    return json.loads((out / "arms" / arm / f"seed-{seed}" / "rounds.json").read_text())


@pytest.mark.slow
def test_rounds_add_up(simulated):
    _, out, _ = simulated
    for seed in (3, 4):
        first, second = rounds(out, "nothing", seed)
        assert first["creators"] - first["left"] + first["came"] == second["creators"]
        assert first["came"] == 2  # A tenth of 24, who are three fifths of 40.
        for row in (first, second):
            assert 0 < row["utility"] < row["attainable"] < 5
            assert sum(row["exposure"]) == pytest.approx(1)
    assert rounds(out, "nothing", 3) != rounds(out, "nothing", 4)


@pytest.mark.slow
def test_arms_differ_in_what_they_do_and_in_nothing_else(simulated):
    _, out, _ = simulated
    assert rounds(out, "again") == rounds(out, "nothing")
    result = json.loads((out / "result" / "result.json").read_text())
    for entries in result["summary"]["again"].values():
        assert [entry["change"] for entry in entries] == [{"value": 0, "low": 0, "high": 0}] * 2


@pytest.mark.slow
def test_the_result_can_be_read_and_seen(simulated):
    _, out, printed = simulated
    result = json.loads((out / "result" / "result.json").read_text())
    assert result["seeds"] == [3, 4]
    for figures in result["summary"].values():
        values = [
            entry[end] for entries in figures.values() for entry in entries for end in entry
            if end != "change"
        ]  # fmt: skip
        assert np.isfinite(values).all()
    last = result["summary"]["nothing"]["utility"][-1]["value"]
    assert f"{last:.2f}" in printed
    with Image.open(out / "result" / "simulation.png") as image:
        assert image.size[0] > 1000


@pytest.mark.slow
def test_what_is_done_is_not_done_again(simulated, tmp_path):
    config, out, _ = simulated
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    shutil.rmtree(copy / "arms" / "again" / "seed-4")
    done = simulate(config, copy)
    assert done.output.count("up to date") == 3
    assert done.output.count("done in") == 1
    # It comes to the same when it is done alone, in another process's place.
    assert rounds(copy, "again", 4) == rounds(out, "again", 4)


def test_a_marketplace_that_everybody_leaves_is_told():
    config = SimulationConfig.model_validate({**TINY, "supply": {"leave": 1.0, "newcomers": 0.0}})
    config = config.model_copy(update={"k": 90, "rounds": 9})
    with pytest.raises(InvalidInputError, match=r"too few for a list of 90: lower `supply\.leave`"):
        simulate_arm(config, config.arms["nothing"], 3, lambda _: None)


def test_a_wrong_key_is_told(tmp_path):
    config = tmp_path / "simulation.yaml"
    config.write_text(yaml.safe_dump({**TINY, "suply": {}}))
    done = simulate(config, tmp_path / "out")
    assert isinstance(done.exception, InvalidInputError)
    assert "did you mean `supply`?" in str(done.exception)
