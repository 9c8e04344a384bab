"""Statistics of all examples: those of TFDV, whatever the batches, and of enough users."""

import json
import pathlib
import shutil

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from small_log import build, config, write_files
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0.statistics_pb2 import DatasetFeatureStatistics

from fairness_losses.errors import InvalidInputError
from pipelines.examples.record_files import write_records
from pipelines.examples.tf_examples import encode_examples
from pipelines.readers.tfrecord import record_batches
from pipelines.validation import reading
from pipelines.validation.combining import Statistics, first_values, missing, stated
from pipelines.validation.statistics import (
    ALL_EXAMPLES,
    cells,
    divisions,
    load_statistics,
    write_statistics,
)

LABEL = "slice.gender"


def batch(**columns: list) -> pa.RecordBatch:
    """A batch of features, which are lists: `None` where an example has none."""
    kinds = {str: pa.large_binary(), int: pa.int64(), float: pa.float32()}
    arrays = {}
    for name, values in columns.items():
        lists = [v if isinstance(v, list) or v is None else [v] for v in values]
        first = next(each for v in lists if v for each in v)
        arrays[name] = pa.array(
            [v and [e.encode() if isinstance(e, str) else e for e in v] for v in lists],
            pa.large_list(kinds[type(first)]),
        )
    return pa.RecordBatch.from_pydict(arrays)


def users(*numbers: int) -> list[str]:
    return [f"u{n}" for n in numbers]


def combine(batches: list[pa.RecordBatch], min_users: int = 0) -> DatasetFeatureStatistics | None:
    """The statistics of batches that meet only when their accumulators are merged."""
    statistics = Statistics({LABEL}, min_users)
    statistics.setup()
    summaries = [statistics.add_input(statistics.create_accumulator(), b) for b in batches]
    merged = statistics.merge_accumulators([statistics.compact(s) for s in summaries])
    found = statistics.extract_output(merged)
    return None if found is None else DatasetFeatureStatistics.FromString(found)


def features(statistics: DatasetFeatureStatistics) -> dict:
    return {feature.path.step[0]: feature for feature in statistics.features}


def test_merged_statistics_are_those_of_the_whole():
    rng = np.random.default_rng(0)
    parts = [
        batch(
            user_id=users(*rng.integers(0, 50, 400)),
            price=rng.normal(5 + i, 1, 400).tolist(),
            genres=[["a"] * int(n) + ["b"] for n in rng.integers(0, 3, 400)],
        )
        for i in range(4)
    ]
    whole = pa.Table.from_batches(parts).combine_chunks().to_batches()[0]
    expected = stats_impl.generate_statistics_in_memory(whole, tfdv.StatsOptions()).datasets[0]
    found = combine(parts)
    assert found.num_examples == expected.num_examples == 1600
    mine, theirs = features(found), features(expected)
    assert mine.keys() == theirs.keys()
    a, b = mine["price"].num_stats, theirs["price"].num_stats
    assert (a.mean, a.std_dev) == pytest.approx((b.mean, b.std_dev), rel=1e-9)
    assert (a.min, a.max) == (b.min, b.max)
    assert a.median == pytest.approx(b.median, abs=0.1)
    for name in ("user_id", "genres"):
        assert mine[name].string_stats.unique == theirs[name].string_stats.unique
        assert (
            mine[name].string_stats.rank_histogram.buckets[:2]
            == (theirs[name].string_stats.rank_histogram.buckets[:2])
        )
    tot = mine["genres"].string_stats.common_stats.tot_num_values
    assert tot == theirs["genres"].string_stats.common_stats.tot_num_values


@pytest.mark.parametrize(
    ("values", "nothing", "expected"),
    [
        ([["a"], [""], [], None, ["", "b"]], "", [True, False, False, False, True]),
        ([["F"], ["unknown"], [""], None], "unknown", [True, False, True, False]),
        ([[1.0], [float("nan")], None, [float("nan"), 0.0]], "", [True, False, False, True]),
        ([[0], [], None], "", [True, False, False]),
    ],
)
def test_what_states_a_value(values, nothing, expected):
    (column,) = batch(x=values).columns
    assert stated(column, nothing).tolist() == expected
    assert stated(column.slice(1), nothing).tolist() == expected[1:]


def test_missing_values_are_counted_over_all_batches_even_if_a_batch_has_no_such_feature():
    """Of seven examples country is empty or absent in four, gender unknown in three."""
    found = combine(
        [
            batch(user_id=users(1, 2, 3), country=["NO", "", "SE"], **{LABEL: ["F", "M", "M"]}),
            batch(user_id=users(4, 5, 6), **{LABEL: ["unknown"] * 3}),
            batch(user_id=users(7), country=["NO"], **{LABEL: ["F"]}),
        ]
    )
    assert missing(found) == {"user_id": 0, "country": 4, LABEL: 3}


def test_statistics_of_too_few_users_are_none_however_often_they_come():
    """Three users in two batches: u1 is in both."""
    batches = [batch(user_id=users(1, 1, 2)), batch(user_id=users(1, 3, 3))]
    assert combine(batches, min_users=3).num_examples == 6
    assert combine(batches, min_users=4) is None


def test_how_many_do_not_state_a_label_is_left_out_where_they_are_of_few_users():
    genders = ["unknown", "unknown", "F", "F"]
    of_one = [batch(user_id=users(1, 1, 2, 3), **{LABEL: genders})]
    of_two = [*of_one, batch(user_id=users(4), **{LABEL: ["unknown"]})]
    assert missing(combine(of_one, min_users=2))[LABEL] is None
    assert missing(combine(of_two, min_users=2))[LABEL] == 3
    nobody = [batch(user_id=users(1, 2), **{LABEL: ["F", "F"]})]
    assert missing(combine(nobody, min_users=2))[LABEL] == 0


def test_cells_hold_every_example_once():
    whole = batch(user_id=users(1, 2, 3, 4), a=["x", "y", "x", None], b=["1", "1", "2", "2"])
    found = {
        value: first_values(rows["user_id"]).to_pylist() for value, rows in cells(whole, ("a",))
    }
    assert found == {"x": [b"u1", b"u3"], "y": [b"u2"], "unknown": [b"u4"]}
    crossed = {value: rows.num_rows for value, rows in cells(whole, ("a", "b"))}
    assert crossed == {"x × 1": 1, "y × 1": 1, "x × 2": 1, "unknown × 2": 1}
    assert dict(cells(whole, ("c",)))["unknown"].num_rows == 4


def test_the_combiner_is_one_for_beam():
    """Lifted, compacted, pickled and merged: the counts come out."""
    batches = [("k", batch(user_id=users(i), price=[float(i)])) for i in range(5)]
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        counts = (
            pipeline
            | beam.Create(batches)
            | beam.Reshuffle()
            | beam.CombinePerKey(Statistics({LABEL}, min_users=5))
            | beam.MapTuple(lambda _, found: DatasetFeatureStatistics.FromString(found))
            | beam.Map(lambda found: (found.num_examples, features(found)["price"].num_stats.mean))
        )
        assert_that(counts, equal_to([(5, 2.0)]))


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """A log of 30 users and 9 items, its examples, and the run."""
    folder = tmp_path_factory.mktemp("statistics")
    pairs = [(u, i) for u in range(30) for i in range(9) if (u + i) % 3]
    log = "who,what,when\n" + "".join(f"u{u},i{i},{u * 10 + i}\n" for u, i in pairs)
    people = "".join(f"u{u},{'FM'[u % 2]},{20 + u},NO\n" for u in range(30))
    items = "".join(f"i{i},{('women', 'men', '')[i % 3]},a|b,19{i}0,T\n" for i in range(9))
    write_files(
        folder, log, f"id,gender,age,country\n{people}", f"id,maker,genres,year,title\n{items}"
    )
    slices = [{"column": "gender"}, {"column": "age", "bands": [0, 25, 45]}]
    run = config(
        folder,
        split={"by": "hash", "test": 0.3},
        slices=[*slices, {"cross": ["gender", "age"]}],
        audit={"min_users": 4},
    )
    build(run, folder / "examples")
    return run, folder / "examples"


def _write(examples, out: pathlib.Path, *pipeline_args: str, **validation):
    run, folder = examples
    run = run.model_copy(update={"validation": run.validation.model_copy(update=validation)})
    out.mkdir()
    write_statistics(run, folder, out, pipeline_args)
    return {path.name: load_statistics(path) for path in out.iterdir()}


def test_statistics_are_of_all_examples_and_crossed_slices(examples, tmp_path):
    found = _write(examples, tmp_path / "s")
    assert set(found) == {"train.stats.pb", "validation.stats.pb", "test.stats.pb"}
    (shard,) = examples[1].glob("train-*")
    (rows,) = record_batches(str(shard))
    train = found["train.stats.pb"]
    assert next(iter(train)) == ALL_EXAMPLES
    assert train[ALL_EXAMPLES].num_examples == rows.num_rows
    young_men = [n for n in range(30) if n % 2 and n + 20 < 25]  # u1 and u3: two users
    assert len(young_men) == 2
    assert "slice.gender × age_M × 0–24" not in train
    crossed = [n for n in train if n.startswith("slice.gender × age_")]
    assert {n.removeprefix("slice.gender × age_") for n in crossed} == {"F × 25–44", "M × 25–44"}
    by_group = [train[f"group_{g}"].num_examples for g in ("women", "men", "unknown")]
    assert sum(by_group) == rows.num_rows


def test_small_batches_give_the_same_counts_and_means(examples, tmp_path, monkeypatch):
    whole = _write(examples, tmp_path / "whole")
    monkeypatch.setattr(reading, "_RECORDS", 7)
    parts = _write(examples, tmp_path / "parts")
    assert parts.keys() == whole.keys()
    for file, datasets in whole.items():
        assert parts[file].keys() == datasets.keys()
        for name, dataset in datasets.items():
            other = parts[file][name]
            assert other.num_examples == dataset.num_examples
            assert missing(other) == missing(dataset)
            for feature, statistics in features(dataset).items():
                mean = features(other)[feature].num_stats.mean
                assert mean == pytest.approx(statistics.num_stats.mean)


def test_a_sample_is_of_no_more_rows_than_asked(examples, tmp_path):
    found = _write(examples, tmp_path / "s", max_rows=20)
    assert found["train.stats.pb"][ALL_EXAMPLES].num_examples == 20


def test_options_reach_the_runner(examples, tmp_path):
    with pytest.raises(InvalidInputError, match="DaskRunner mixes up the outputs"):
        _write(examples, tmp_path / "s", "--runner=DaskRunner")


def test_divisions_are_groups_and_all_slices(examples):
    assert divisions(examples[0]) == [
        ("group", ("group",)),
        ("slice.gender", ("slice.gender",)),
        ("slice.age", ("slice.age",)),
        ("slice.gender × age", ("slice.gender", "slice.age")),
    ]
    without = examples[0].model_copy(update={"groups": None, "slices": []})
    assert divisions(without) == []


def test_shards_are_read_as_the_decoder_of_tfx_reads_them(examples):
    for _, path, sha256 in reading.shards(examples[1]):
        expected = pa.Table.from_batches(record_batches(path))
        found = pa.Table.from_batches(reading.read_shard(path, sha256))
        assert found.select(expected.column_names).equals(expected)


def test_features_without_values_are_null_and_lists_are_whole(tmp_path):
    path = tmp_path / "t.tfrecord.gz"
    genres = pa.array([["a", "b"], [], ["c"]])
    style = pa.array([[0.5, 1.5], [2.5], []], pa.list_(pa.float32()))
    table = pa.table({"genres": genres, "style": style, "n": [1, 2, 3]})
    written = write_records(path, [encode_examples(table)])
    (batch,) = reading.read_shard(str(path), written.sha256)
    assert batch.to_pydict() == {
        "genres": [[b"a", b"b"], None, [b"c"]],
        "style": [[0.5, 1.5], [2.5], None],
        "n": [[1], [2], [3]],
    }


def test_a_shard_that_is_not_what_was_written_is_refused(tmp_path):
    """Whole records, but other ones."""
    path = tmp_path / "t.tfrecord.gz"
    before = write_records(path, [encode_examples(pa.table({"n": [1]}))])
    write_records(path, [encode_examples(pa.table({"n": [2]}))])
    with pytest.raises(InvalidInputError, match=r"t\.tfrecord\.gz: the file is damaged"):
        list(reading.read_shard(str(path), before.sha256))


def test_shards_that_nothing_vouches_for_are_refused(examples, tmp_path):
    shutil.copytree(examples[1], tmp_path / "e")
    listed = tmp_path / "e" / "shards.json"
    known = json.loads(listed.read_text())
    listed.write_text(json.dumps({name: known[name] for name in known if "test" not in name}))
    with pytest.raises(InvalidInputError, match=r"test-00000-of-00001.* is not in shards\.json"):
        reading.shards(tmp_path / "e")
    listed.unlink()
    with pytest.raises(InvalidInputError, match=r"shards\.json is missing"):
        reading.shards(tmp_path / "e")


def test_a_feature_of_two_types_is_refused(tmp_path):
    one = tf.train.Example()
    one.features.feature["x"].float_list.value.append(1.0)
    other = tf.train.Example()
    other.features.feature["x"].int64_list.value.append(1)
    path = tmp_path / "t.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in [one] * 600 + [other]:
            writer.write(example.SerializeToString())
    with pytest.raises(InvalidInputError, match="a feature of several types"):
        list(record_batches(str(path)))
