"""What `fairtowers run` leaves, looked at from outside: files, counts, figures, lists."""

import json
import math
import pathlib
import resource
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from tiny_run import (
    STAGES,
    VARIANTS,
    TinyRun,
    fairtowers,
    half_written,
    read_json,
    without_times,
)

from fairness_losses.config import FairnessConfig
from pipelines.config_file import load_config
from pipelines.run import FRONTIER
from pipelines.run_directory import RunDirectory
from pipelines.sweep.config import SweepConfig
from pipelines.sweep.frontier import frontier, write_frontier
from pipelines.sweep.points import points_of

pytestmark = pytest.mark.slow

PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def pairs(tiny: TinyRun) -> dict[str, pd.DataFrame]:
    """User and item of every example, read as anybody could read them."""
    return {part: _pairs(tiny.out / "examples", part) for part in PARTS}


def _pairs(folder: pathlib.Path, part: str) -> pd.DataFrame:
    files = sorted(str(p) for p in folder.glob(f"{part}-*.tfrecord.gz"))
    rows = []
    for record in tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator():
        feature = tf.train.Example.FromString(record).features.feature
        rows.append(
            {n: feature[n].bytes_list.value[0].decode() for n in ("user_id", "item_id", "group")}
        )
    return pd.DataFrame(rows)


def _lists(tiny: TinyRun, variant: str) -> pd.DataFrame:
    return pq.read_table(tiny.out / variant / "audit" / "lists.parquet").to_pandas()


def _catalogue(tiny: TinyRun) -> pd.DataFrame:
    return pq.read_table(tiny.out / "examples" / "catalogue.parquet").to_pandas()


def test_the_run_directory_is_as_the_documentation_says(tiny):
    for path in (
        *("source/interactions.parquet", "source/users.parquet", "source/items.parquet"),
        *(f"examples/{part}-00000-of-00001.tfrecord.gz" for part in PARTS),
        *(f"examples/{n}" for n in ("catalogue.parquet", "users.parquet", "groups.json")),
        *(f"examples/vocabularies/{n}.parquet" for n in ("user_id", "item_id", "country")),
        *(f"examples/dead_letter/{n}.jsonl" for n in ("interactions", "users", "items")),
        *("schema/schema.pbtxt", "schema/anomalies.json", "report/report.json"),
        *("report/report.html", "manifest.json"),
    ):
        assert (tiny.out / path).is_file(), path
    for variant in VARIANTS:
        for path in (
            *("model/query_tower/saved_model.pb", "model/candidate_tower/saved_model.pb"),
            *("model/history.json", "model/checkpoints/checkpoint", "model/tensorboard"),
            *("embeddings/vectors.npy", "embeddings/items.parquet", "index/index.json"),
            *("serving/retriever/models.config", "serving/retriever/1/saved_model.pb"),
            "serving/retriever/1/assets.extra/tf_serving_warmup_requests",
            *("serving/retriever/1/metadata.json", "audit/lists.parquet", "audit/report.json"),
        ):
            assert (tiny.out / variant / path).exists(), (variant, path)
    assert half_written(tiny.out) == []
    assert [p.name for p in tiny.out.rglob(".*")] == [".lock"]


def test_the_manifest_says_what_produced_what(tiny):
    stages = {s["stage"]: s for s in read_json(tiny.out / "manifest.json")["stages"]}
    assert sorted(stages) == sorted(STAGES)
    for stage in stages.values():
        for name, fingerprint in stage["inputs"].items():
            assert stages[name]["fingerprint"] == fingerprint
    assert stages["examples"]["result"] == read_json(tiny.out / "examples" / "counts.json")


def test_the_command_shows_every_stage_and_where_the_report_is(tiny):
    shown = [line.split()[0] for line in tiny.printed.splitlines() if " done in " in line]
    assert shown == STAGES
    assert tiny.printed.splitlines()[-1] == f"Report: {tiny.out / 'report' / 'report.html'}"


def test_no_row_is_lost_between_the_log_and_the_examples(tiny, pairs):
    counts = read_json(tiny.out / "examples" / "counts.json")
    read = {n: len(pq.read_table(tiny.out / "source" / f"{n}.parquet")) for n in counts}
    assert {n: c["read"] for n, c in counts.items()} == read
    assert read == {"interactions": 3000, "users": 150, "items": 300}
    for name, count in counts.items():
        written = count["written"]
        kept = sum(written.values()) if isinstance(written, dict) else written
        assert count["read"] == kept + sum(count["dead"].values()) + count["duplicates"]
        letters = (tiny.out / "examples" / "dead_letter" / f"{name}.jsonl").read_text()
        assert len(letters.splitlines()) == sum(count["dead"].values())
    assert counts["interactions"]["written"] == {part: len(pairs[part]) for part in PARTS}


def test_the_catalogue_counts_training_examples_and_groups_add_up(tiny, pairs):
    catalogue = _catalogue(tiny).set_index("item_id")
    frequency = pairs["train"]["item_id"].value_counts()
    assert (catalogue["frequency"] == frequency.reindex(catalogue.index, fill_value=0)).all()
    shares = read_json(tiny.out / "examples" / "groups.json")
    found = catalogue["group"].value_counts(normalize=True).to_dict()
    assert shares["catalogue_share"] == pytest.approx(found)
    found = pairs["train"]["group"].value_counts(normalize=True).to_dict()
    assert shares["train_share"] == pytest.approx(found)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_list_holds_twenty_items_best_first_that_the_user_does_not_know(tiny, pairs, variant):
    group_of = _catalogue(tiny).set_index("item_id")["group"]
    known = pd.concat([pairs["train"], pairs["validation"]]).groupby("user_id")["item_id"].agg(set)
    lists = _lists(tiny, variant)
    assert sorted(lists["user_id"]) == sorted(pairs["test"]["user_id"].unique())
    assert set(lists["model_version"]) == {"retriever/1"}
    assert set(lists["policy"]) == {"relevance"}
    for row in lists.itertuples():
        assert len(set(row.candidate_ids)) == len(row.candidate_ids) == 20
        assert not known.get(row.user_id, set()) & set(row.candidate_ids)
        assert (np.diff(row.scores) <= 0).all()
        assert list(row.groups) == group_of[row.candidate_ids].tolist()


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_reported_figures_are_those_of_the_lists(tiny, pairs, variant):
    """Every slice, group and metric again, by pandas and a calculator's formulas."""
    catalogue = _catalogue(tiny)
    users = pq.read_table(tiny.out / "examples" / "users.parquet").to_pandas().set_index("user_id")
    share = catalogue["group"][catalogue["group"] != "unknown"].value_counts(normalize=True)
    (report,) = (
        run
        for run in read_json(tiny.out / "report" / "report.json")["runs"]
        if run["run"]["variant"] == variant
    )
    long = _lists(tiny, variant)[["user_id", "candidate_ids", "groups"]]
    long = long.explode(["candidate_ids", "groups"])
    long["rank"] = long.groupby("user_id").cumcount() + 1
    long["attention"] = 1 / np.log2(long["rank"] + 1)
    relevant = pairs["test"].groupby("user_id")["item_id"].agg(set)
    long["hit"] = [i in relevant[u] for u, i in zip(long.user_id, long.candidate_ids, strict=True)]

    slices = {"gender": users["slice.gender"], "age": users["slice.age"]}
    slices["gender × age"] = users["slice.gender"] + " × " + users["slice.age"]
    cells = [(report["overall"], long)]
    for name, value_of in slices.items():
        assert set(report["slices"][name]) == set(value_of[long["user_id"].unique()])
        for value, cell in report["slices"][name].items():
            cells.append((cell, long[long["user_id"].map(value_of) == value]))
    hidden = [rows["user_id"].nunique() for cell, rows in cells if cell == {"suppressed": True}]
    # Small cells, which are all hidden, and those that would give them away.
    assert min(hidden) < 15
    shown = [(cell, rows) for cell, rows in cells if cell != {"suppressed": True}]
    assert len(shown) >= 5
    for cell, rows in shown:
        assert cell["users"] == rows["user_id"].nunique() >= 15
        for k in (10, 20):
            top = rows[rows["rank"] <= k]
            recall, ndcg = _quality(top, relevant, k)
            assert cell["quality"][f"recall@{k}"]["value"] == pytest.approx(recall, abs=1e-9)
            assert cell["quality"][f"ndcg@{k}"]["value"] == pytest.approx(ndcg, abs=1e-9)
        targeted = rows[rows["groups"] != "unknown"]
        for group, target in share.items():
            figures = cell["groups"][group]
            mine = targeted[targeted["groups"] == group]
            exposure = mine["attention"].sum() / targeted["attention"].sum()
            for name, expected in (
                ("candidate_share", len(mine) / len(targeted)),
                ("exposure_share", exposure),
                ("exposure_ratio", exposure / target),
            ):
                assert figures[name]["value"] == pytest.approx(expected, abs=1e-9)
                assert figures[name]["count"] == len(mine)
                assert figures[name]["low"] <= figures[name]["value"] <= figures[name]["high"]
        assert cell["groups"]["unknown"]["exposure_ratio"] is None


def _quality(top: pd.DataFrame, relevant: pd.Series, k: int) -> tuple[float, float]:
    hits = top[top["hit"]].groupby("user_id")["attention"].agg(["count", "sum"])
    hits = hits.reindex(top["user_id"].unique(), fill_value=0)
    possible = [min(len(relevant[user]), k) for user in hits.index]
    ideal = [sum(1 / math.log2(rank + 1) for rank in range(1, n + 1)) for n in possible]
    return float((hits["count"] / possible).mean()), float((hits["sum"] / ideal).mean())


def test_the_comparison_is_the_difference_of_the_two_runs(tiny):
    report = read_json(tiny.out / "report" / "report.json")
    before, after = (run["overall"] for run in report["runs"])
    change = report["comparison"]["overall"]
    for name, figure in change["quality"].items():
        difference = after["quality"][name]["value"] - before["quality"][name]["value"]
        assert figure["difference"]["value"] == pytest.approx(difference, abs=1e-9)
    for group in change["groups"]:
        if group != "unknown":
            old, new = (run["groups"][group]["exposure_ratio"]["value"] for run in (before, after))
            found = change["groups"][group]["exposure_ratio"]["value"]
            assert found == pytest.approx(new - old, abs=1e-9)


def test_the_report_names_nobody(tiny, pairs):
    for name in ("report.json", "report.html"):
        text = (tiny.out / "report" / name).read_text(encoding="utf-8")
        assert "range_3" in text
        for frame in pairs.values():
            assert not [u for u in frame["user_id"].unique() if u in text]


def test_the_second_run_does_nothing(tiny):
    records = {p: p.stat().st_mtime_ns for p in tiny.out.rglob("stage.json")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    result = fairtowers("run", tiny.config, tiny.out)
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    assert result.returncode == 0
    shown = [line.split() for line in result.stdout.splitlines()]
    assert [words[0] for words in shown if words[1:] == ["up", "to", "date"]] == STAGES
    assert " done in " not in result.stdout
    assert {p: p.stat().st_mtime_ns for p in tiny.out.rglob("stage.json")} == records
    assert seconds < 8, "neither TensorFlow nor Beam is needed to find that nothing is to be done"
    # The summary is shown again.
    summary = tiny.printed[tiny.printed.index("without  ") :]
    assert result.stdout.endswith(summary)


def test_force_makes_a_stage_anew_and_what_follows_stays_up_to_date(tiny, tmp_path, main):
    out = tmp_path / "run"
    shutil.copytree(tiny.out, out)
    old = {name: _bytes(out / name) for name in ("examples", "report")}
    for command in ("examples", "report"):
        code, printed, _ = main(command, tiny.config, out, "--force")
        assert code == 0
        assert printed.startswith(command)
        assert " done in " in printed
    assert {name: _bytes(out / name) for name in ("examples", "report")} == old
    _, printed, _ = main("run", tiny.config, out)
    assert printed.count("up to date") == len(STAGES)


def _bytes(folder: pathlib.Path) -> dict[pathlib.Path, bytes]:
    return {
        p.relative_to(folder): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "stage.json"
    }


def test_the_stages_one_by_one_give_what_the_whole_run_gives(tiny, tmp_path, main, monkeypatch):
    # The session's run has done this check in the same two models.
    monkeypatch.setattr("serving.check.check_in_fresh_process", lambda folder: None)
    commands = ["generate", "examples", "validate", "train", "index", "export", "audit", "report"]
    printed = ""
    for command in commands:
        code, output, errors = main(command, tiny.config, tmp_path)
        assert code == 0, errors
        printed += output
    assert [x.split()[0] for x in printed.splitlines() if " done in " in x] == STAGES
    for variant in VARIANTS:
        assert _lists(TinyRun(tiny.config, tmp_path, ""), variant).equals(_lists(tiny, variant))
    reports = [read_json(out / "report" / "report.json") for out in (tmp_path, tiny.out)]
    assert without_times(reports[0]) == without_times(reports[1])
    assert json.dumps(reports[0]).count("seconds") >= 2


def test_an_export_by_force_is_the_next_version_which_is_then_audited(
    tiny, tmp_path, main, monkeypatch
):
    monkeypatch.setattr("serving.check.check_in_fresh_process", lambda folder: None)
    out = tmp_path / "run"
    shutil.copytree(tiny.out, out)
    assert main("export", tiny.config, out, "--force")[0] == 0
    assert main("audit", tiny.config, out)[0] == 0
    assert main("report", tiny.config, out)[0] == 0
    for variant in VARIANTS:
        versions = out / variant / "serving" / "retriever"
        assert sorted(p.name for p in versions.iterdir() if p.name.isdecimal()) == ["1", "2"]
        assert 'key: "canary"\n      value: 2' in (versions / "models.config").read_text()
        lists = _lists(TinyRun(tiny.config, out, ""), variant)
        assert set(lists["model_version"]) == {"retriever/2"}
        assert (
            lists["candidate_ids"]
            .map(list)
            .equals(_lists(tiny, variant)["candidate_ids"].map(list))
        )


def test_the_report_shows_a_sweep_while_it_holds(tiny, tmp_path, main):
    out = tmp_path / "run"
    shutil.copytree(tiny.out, out)
    directory, run = RunDirectory(out), read_json(tiny.out / "report" / "report.json")["runs"][0]
    sweep = SweepConfig(group="range_4", bonuses=[0.1])
    found = [(point, {"audit": run}) for point in points_of(sweep, FairnessConfig(), VARIANTS[0])]

    def write(folder: pathlib.Path) -> dict:
        write_frontier(frontier(found, load_config(tiny.config), sweep), folder)
        return {}

    for examples, shown in ((directory.required("examples", "").fingerprint, True), ("old", False)):
        directory.build(FRONTIER, 1, {"examples": examples}, write)
        assert main("report", tiny.config, out)[0] == 0
        page = (out / "report" / "report.html").read_text(encoding="utf-8")
        assert ('id="frontier"' in page) == shown
