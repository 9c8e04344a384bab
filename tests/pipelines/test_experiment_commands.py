"""`fairtowers experiment plan`, `assign`, `simulate` and `analyze`, as a person calls them."""

import html.parser
import json
import re

import experiment_log
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from fairness_losses.errors import InvalidInputError
from pipelines import cli

AFTER = ("--at", "2026-11-17")


def fairtowers(*arguments):
    """Runs a command; an error that a person can fix is raised."""
    result = CliRunner().invoke(cli.app, ["experiment", *map(str, arguments)])
    if isinstance(result.exception, InvalidInputError):
        raise result.exception
    return result


def files(folder):
    return (
        *("--config", folder / "experiment.yaml", "--lists", folder / "lists.parquet"),
        *("--outcomes", folder / "outcomes.parquet", "--users", folder / "users.parquet"),
    )


def analyze(folder, *more):
    code = fairtowers("analyze", *files(folder), "--out", folder / "result", *more).exit_code
    return code, json.loads((folder / "result" / "experiment.json").read_text())


def redefine(folder, **changes):
    text = yaml.safe_dump({**experiment_log.DEFINITION, **changes})
    (folder / "experiment.yaml").write_text(text)


def test_an_improvement_is_found_and_shipped(tmp_path):
    experiment_log.write(tmp_path, lift=0.3)
    code, result = analyze(tmp_path, *AFTER)
    assert code == 0, result["guardrails"]
    (row,) = result["primary"]
    # Users get 30 % more; the interval is narrower than that.
    assert row["effect"]["low"] < 0.3 < row["effect"]["high"]
    assert row["effect"]["low"] > 0.15
    assert result["decisions"][0]["decision"] == "ship"
    lists = result["counts"]["lists"]
    assert lists["read"] == lists["used"] == 6000
    assert result["counts"]["outcomes"]["used_before"] == 3000
    assert [row["group"] for row in result["exposure"]] == ["female"] * 2 + ["male"] * 2


def test_a_run_of_the_same_files_gives_the_same_result(tmp_path):
    experiment_log.write(tmp_path)
    _, one = analyze(tmp_path, *AFTER)
    page = (tmp_path / "result" / "experiment.html").read_text()
    _, other = analyze(tmp_path, *AFTER)
    assert one == other
    assert (tmp_path / "result" / "experiment.html").read_text() == page


def test_a_lost_half_of_an_arm_is_a_mismatch_and_nothing_else_is_shown(tmp_path):
    experiment_log.write(tmp_path)
    served = pq.read_table(tmp_path / "lists.parquet")
    is_lost = pc.and_(
        pc.match_substring(served["arm"], "treatment"),
        pc.match_substring_regex(served["user_id"], "[02468]$"),
    )
    pq.write_table(served.filter(pc.invert(is_lost)), tmp_path / "lists.parquet")
    code, result = analyze(tmp_path, *AFTER)
    assert code == 3
    assert result["is_mismatch"]
    assert result["primary"] is result["guardrails"] is result["exposure"] is None
    page = (tmp_path / "result" / "experiment.html").read_text()
    assert "The experiment is broken" in page
    assert "Change to the control" not in page


def test_a_group_that_loses_in_one_slice_fails_the_command(tmp_path):
    experiment_log.write(tmp_path, number=6000, lift=0.3)
    served = pq.read_table(tmp_path / "lists.parquet").to_pandas()
    is_hit = served["arm"].str.contains("treatment") & (
        served["user_id"].str[1:].astype(int) % 3 == 0
    )
    served.loc[is_hit, "groups"] = served.loc[is_hit, "groups"].map(
        lambda groups: ["male", *groups[1:]]
    )
    table = pa.Table.from_pandas(served, preserve_index=False)
    pq.write_table(table, tmp_path / "lists.parquet")
    code, result = analyze(tmp_path, *AFTER)
    assert code == 3
    status = {row["value"]: row["status"] for row in result["guardrails"]}
    assert status["f"] == "tripped"
    assert status["m"] == "held"
    assert result["decisions"][0]["decision"] == "stop"


def test_effects_are_shown_when_it_is_over(tmp_path):
    experiment_log.write(tmp_path, lift=0.3)
    code, result = analyze(tmp_path, "--at", "2026-11-10")
    assert code == 0
    assert result["primary"] is None
    page = (tmp_path / "result" / "experiment.html").read_text()
    assert "Let it run" in page


def test_a_definition_that_was_changed_after_the_plan_is_refused(tmp_path):
    experiment_log.write(tmp_path)
    plan = tmp_path / "plan.json"
    result = fairtowers(
        "plan", *files(tmp_path), "--daily-users", 500, "--from", "2026-11-02", "--out", plan
    )
    assert result.exit_code == 0, result.output
    needs = json.loads(plan.read_text())["needs"]
    assert [(n["metric"], n["value"]) for n in needs] == [
        ("clicks", None),
        ("exposure", None),
        ("exposure", "f"),
        ("exposure", "m"),
    ]
    assert f"{needs[0]['users']:,}" in result.output
    assert all(need["days"] == -(-need["users"] // 500) for need in needs)

    redefine(tmp_path, traffic=0.5)
    analyze(tmp_path, *AFTER, "--plan", plan)
    redefine(tmp_path, minimum_effect=0.5)
    with pytest.raises(InvalidInputError, match="is not as it was planned"):
        analyze(tmp_path, *AFTER, "--plan", plan)
    plan.write_text("{}")
    with pytest.raises(InvalidInputError, match="this is no plan"):
        analyze(tmp_path, *AFTER, "--plan", plan)


def test_users_are_assigned_as_the_log_was(tmp_path):
    experiment_log.write(tmp_path, number=50)
    config = tmp_path / "experiment.yaml"
    out = tmp_path / "assigned.parquet"
    users = tmp_path / "users.parquet"
    assert not fairtowers("assign", "-c", config, "--users", users, "--out", out).exit_code
    arms = dict(zip(*pq.read_table(out).to_pydict().values(), strict=True))
    served = pq.read_table(tmp_path / "lists.parquet")
    for user, label in zip(served["user_id"].to_pylist(), served["arm"].to_pylist(), strict=True):
        assert label == f"other:x;fair-tower:{arms[user]}"
    shown = fairtowers("assign", "-c", config, "u1").output
    assert re.search(rf"u1\s+{arms['u1']}", shown)


def test_experiments_that_collide_are_refused(tmp_path):
    experiment_log.write(tmp_path, number=10)
    other = tmp_path / "other.yaml"
    text = yaml.safe_dump({**experiment_log.DEFINITION, "name": "other"})
    other.write_text(text)
    with pytest.raises(InvalidInputError, match="the same salt"):
        fairtowers("assign", "-c", tmp_path / "experiment.yaml", "-c", other, "u1")
    with pytest.raises(InvalidInputError, match="Give ids of users"):
        fairtowers("assign", "-c", other)


@pytest.mark.parametrize("replay", [False, True])
def test_what_is_planted_is_found(tmp_path, replay):
    experiment_log.write(tmp_path, number=2000)
    users = ("--from", "2026-11-02", *files(tmp_path)[2:]) if replay else ()
    result = fairtowers(
        "simulate", "--config", tmp_path / "experiment.yaml", *users, "--runs", 3,
        "--synthetic-users", 2000, "--lift", 1.0, "--loss", 0.6,
        "--slice", f"gender={'m' if replay else 'gender 1'}",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    shares = dict(re.findall(r"^\s*([a-z ]+?)\s+(\d+\.\d+)%", result.output, re.MULTILINE))
    assert float(shares["improved"]) == float(shares["tripped"]) == 100
    assert float(shares["all held"]) == 0


def test_a_slice_that_the_definition_has_not_is_refused(tmp_path):
    experiment_log.write(tmp_path, number=10)
    with pytest.raises(InvalidInputError, match="one of `slices`"):
        fairtowers("simulate", "-c", tmp_path / "experiment.yaml", "--slice", "region=x")


def test_unknown_keys_are_refused_with_the_nearest_known_one(tmp_path):
    experiment_log.write(tmp_path, number=10)
    redefine(tmp_path, slice=["gender"])
    with pytest.raises(InvalidInputError, match="`slice` is not a known key; did you mean `slic"):
        fairtowers("assign", "-c", tmp_path / "experiment.yaml", "u1")


class _Page(html.parser.HTMLParser):
    """Collects what would be loaded, and checks that tags are closed and ids unique."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.loaded, self.targets = [], [], [], []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        if tag in ("script", "link", "img", "iframe"):
            self.loaded.append(tag)
        if given.get("href", "").startswith("#"):
            self.targets.append(given["href"][1:])
        if tag not in ("meta", "br", "path", "use", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag in ("path", "use", "rect"):
            return
        assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing(tmp_path):
    experiment_log.write(tmp_path, lift=0.3)
    analyze(tmp_path, *AFTER)
    text = (tmp_path / "result" / "experiment.html").read_text()
    page = _Page()
    page.feed(text)
    assert page.open == []
    assert page.loaded == []
    assert len(set(page.ids)) == len(page.ids)
    assert set(page.targets) <= set(page.ids)
    # The verdict stands before everything else.
    assert text.index("Ship it") < text.index("<table>") < text.index("Did anybody lose?")
    assert not re.search(r"https?://(?!www\.w3\.org|purl|creativecommons)", text)


def test_no_id_of_a_user_is_in_a_result(tmp_path):
    experiment_log.write(tmp_path, number=400)
    analyze(tmp_path, *AFTER)
    for name in ("experiment.json", "experiment.html"):
        text = (tmp_path / "result" / name).read_text()
        assert not re.search(r"\bu\d+\b", text)


def test_a_log_of_another_time_says_that_nobody_was_seen(tmp_path):
    experiment_log.write(tmp_path, number=20)
    redefine(tmp_path, start="2027-01-01T00:00:00Z", end="2027-01-15T00:00:00Z")
    with pytest.raises(InvalidInputError, match="no list of the experiment can be used"):
        analyze(tmp_path, *AFTER)
