"""The result of a validation: the verdict first, every count, and nobody's attributes."""

import contextlib
import html.parser
import json
import re

import pytest
from small_log import build, config, write_files

from pipelines.validation import sentences
from pipelines.validation.page import render
from pipelines.validation.validate import AnomaliesError, validate_examples

USERS = 60


def _write(folder, country="NO", price=1.0) -> None:
    """Users 0 to 39 are women, 40 to 56 men, 57 to 59 stated nothing; two rows are dead."""
    pairs = [(u, i) for u in range(USERS) for i in range(12) if (u + i) % 3]
    log = "who,what,when\n" + "".join(f"u{u},i{i},{u * 10 + i}\n" for u, i in pairs)
    log += "u1,,5\nnobody,i1,5\nu0,i1,1\n"
    genders = ["F"] * 40 + ["M"] * 17 + [""] * 3
    people = "".join(
        f"u{u},{genders[u]},{20 + u},{country if u % 2 else 'SE'}\n" for u in range(USERS)
    )
    makers = ("women", "men", "")
    items = "".join(f"i{i},{makers[i % 3]},a|b,{(1900 + i) * price},Title-{i}\n" for i in range(12))
    header = "id,maker,genres,year,title\n"
    write_files(folder, log, f"id,gender,age,country\n{people}", header + items)


def _validate(folder, previous=None, **validation):
    run = config(
        folder,
        split={"by": "hash", "test": 0.3},
        slices=[{"column": "gender"}, {"column": "age", "bands": [0, 40]}],
        audit={"min_users": 10},
        validation=validation,
    )
    build(run, folder / "examples")
    out = folder / "schema"
    out.mkdir()
    with contextlib.suppress(AnomaliesError):
        validate_examples(run, folder / "examples", out, previous)
    page = (out / "validation.html").read_text(encoding="utf-8")
    return json.loads((out / "validation.json").read_text(encoding="utf-8")), page, out


@pytest.fixture(scope="module")
def passed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "passed"
    _write(folder)
    return _validate(folder)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory, passed):
    """Another country, years in other units, and a rule that nothing fulfils."""
    folder = tmp_path_factory.mktemp("page") / "stopped"
    _write(folder, country="New-Land", price=10.0)
    rules = {"min_positives": 10_000, "max_drift": 0.2}
    return _validate(folder, passed[2] / "schema.pbtxt", **rules)


def test_the_verdict_says_that_all_is_well(passed):
    result, page, _ = passed
    assert result["passed"]
    assert result["anomalies"] == []
    train = result["examples"]["train"]
    assert f"{train:,} training examples are as they should be." in page
    assert "Passed" in page
    assert "What is wrong" not in page


def test_the_verdict_says_what_is_wrong_before_anything_else(stopped):
    result, page, _ = stopped
    kinds = {anomaly["kind"] for anomaly in result["anomalies"]}
    assert kinds == {"schema", "drift", "coverage"}
    assert not result["passed"]
    assert f"{len(result['anomalies'])} things are wrong." in page
    assert page.index("things are wrong") < page.index("What became of the rows?")
    for anomaly in result["anomalies"]:
        assert anomaly["problem"].replace("'", "&#39;") in page


def test_rows_reconcile_and_dead_letters_have_reasons(passed):
    result, page, _ = passed
    log = result["inputs"]["interactions"]
    written, dead, repeated = sentences.rows_of(log)
    assert (dead, repeated) == (2, 1)
    assert log["read"] == written + dead + repeated
    assert "<code>what</code> is empty" in page
    assert "the user is not in the users table" in page


def test_coverage_has_users_examples_and_shares_and_few_are_withheld(passed, stopped):
    """Three users stated no gender, which is fewer than ten."""
    result, page, _ = passed
    cells = result["coverage"]["gender"]
    assert cells["unknown"] is None
    assert (cells["F"]["users"], cells["M"]["users"]) == (40, 17)
    assert cells["F"]["examples"] == sum(cells["F"]["groups"].values())
    assert cells["F"]["share_before"] is None
    assert "withheld: fewer than 10 users" in page
    again = stopped[0]["coverage"]["gender"]["F"]
    assert again["share_before"] == cells["F"]["share"]
    assert stopped[1].count('<span class="ci">short</span>') == 8  # 2 groups in F, M and 2 bands


def test_missing_labels_are_counted_in_every_group_and_slice(passed):
    result, _, _ = passed
    lines = {(each["division"], each["value"]): each for each in result["missing_labels"]}
    everyone = lines["", ""]
    assert everyone["examples"] == result["examples"]["train"]
    of_women = lines["gender", "F"]
    assert of_women["missing"]["slice.gender"] == 0
    assert of_women["missing"]["group"] == result["coverage"]["gender"]["F"]["groups"]["unknown"]
    # Three users are too few to say how many examples they have, among all as in a group.
    assert everyone["missing"]["slice.gender"] is None
    assert lines["group", "men"]["missing"]["slice.gender"] is None
    assert ("gender", "unknown") not in lines


def test_features_are_described_but_ids_texts_and_labels_have_no_values(passed):
    result, page, _ = passed
    features = result["features"]
    assert features["country"]["kind"] == "categorical"
    assert {value for value, _ in features["country"]["top"]} == {"NO", "SE"}
    assert features["year"]["min"] == 1900
    assert features["year"]["max"] == 1911
    assert sum(count for *_, count in features["year"]["histogram"]) == result["examples"]["train"]
    assert features["timestamp"]["first"].startswith("1970-01-01T00:0")
    told = {"kind", "side", "sensitive", "missing", "distinct"}
    for name in ("user_id", "item_id", "title", "group", "slice.gender", "slice.age"):
        assert features[name].keys() == told
    assert features["group"]["sensitive"]
    assert not features["title"]["sensitive"]
    told = page + json.dumps(result, ensure_ascii=False)
    assert not re.search(r"\b(Title-|[ui])\d+\b", told)


def test_features_by_slice_are_of_enough_users(passed):
    lines = {(each["division"], each["value"]): each for each in passed[0]["slices"]}
    assert lines["gender", "unknown"]["features"] is None
    women = lines["gender", "F"]["features"]
    assert women.keys() == {"country", "genres", "year"}
    assert 1900 < women["year"]["mean"] < 1911
    assert 0 < women["country"]["share"] < 1


def test_distances_from_the_last_run_are_told(passed, stopped):
    assert passed[0]["drift"] == []
    assert "There is no earlier run with this schema" in passed[1]
    found = {(d["feature"], d["part"]): d for d in stopped[0]["drift"]}
    assert found["year", "train"]["distance"] > found["year", "train"]["limit"] == 0.2
    assert found["genres", "train"]["distance"] == 0
    assert "user_id" not in {feature for feature, _ in found}


class _Page(html.parser.HTMLParser):
    """Checks that tags are closed in order and gathers addresses and ids."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.addresses += [v for k, v in attrs if k in ("href", "src", "xlink:href")]
        if tag not in ("meta", "br", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag != "rect":
            assert self.open.pop() == tag


@pytest.mark.parametrize("which", ["passed", "stopped"])
def test_the_page_is_one_whole_file_that_asks_for_nothing(which, request):
    result, page, _ = request.getfixturevalue(which)
    parsed = _Page()
    parsed.feed(page)
    assert page.startswith("<!DOCTYPE html>")
    assert parsed.open == []
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {a.removeprefix("#") for a in parsed.addresses} <= set(parsed.ids)
    assert not re.search(r"https?:|url\(|@import", page)
    assert "prefers-color-scheme: dark" in page
    assert page == render(result)


def test_names_are_text_and_no_markup(passed):
    result = {**passed[0], "title": "<script>x</script>"}
    assert "<script" not in render(result)


def test_a_run_without_groups_and_slices_has_a_page(tmp_path):
    folder = tmp_path / "plain"
    _write(folder)
    run = config(folder, split={"by": "hash", "test": 0.3}, groups=None, slices=[])
    build(run, folder / "examples")
    (folder / "schema").mkdir()
    validate_examples(run, folder / "examples", folder / "schema", None)
    page = (folder / "schema" / "validation.html").read_text()
    assert "There are neither groups nor slices." in page
    result = json.loads((folder / "schema" / "validation.json").read_text())
    assert (result["coverage"], result["missing_labels"][0]["missing"]) == ({}, {})


def test_lists_of_names():
    assert sentences._listed([]) == ""
    assert sentences._listed(["a"]) == "a"
    assert sentences._listed(["a", "b"]) == "a and b"
    assert sentences._listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
