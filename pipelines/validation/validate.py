"""Holds the examples to their contract with TensorFlow Data Validation, without showing whom.

The statistics are computed in this process, part by part and slice by slice: TFDV's own pipeline
takes twenty times as long for the hundred thousand rows that a contract needs.
"""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_data_validation.utils import slicing_util
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from fairness_losses.config import UNKNOWN
from fairness_losses.errors import InvalidInputError
from pipelines.config import RunConfig
from pipelines.examples.checks import PARTS
from pipelines.examples.inputs import GROUP, SLICE_PREFIX
from pipelines.file_systems import write_json
from pipelines.validation.contract import (
    infer_schema,
    is_label,
    is_sensitive,
    is_tagged,
    known_values,
    load_schema,
)
from pipelines.validation.drift import changed_shares, earlier_statistics, with_drift_limit
from pipelines.validation.sampling import sample_examples
from towers.config import USER_ID

SCHEMA = "schema.pbtxt"
"""Name of the schema's file."""

POSITIVES = "positives.json"
"""Name of the file of training examples per slice and group."""

ALL_EXAMPLES = "All Examples"
"""Name that TFDV gives to the statistics of all rows."""


_REMEDY_FOR_SCHEMA = (
    "Correct the data; or, if they are meant to be so, change the schema and give it as "
    "`validation.schema_path`, or remove it to have one inferred again."
)
_SHORT = (
    "the examples do not fulfil `validation.min_positives`:",
    "Give more data, join groups or bands of few, or lower the setting.",
)
_DRIFTED = (
    "shares changed by more than `validation.max_share_ratio` since the last run:",
    "Correct the data; or, if they are meant to be so, raise the setting, or remove the folder "
    "`schema` to begin anew.",
)
"""What is wrong, and what to do about it."""


class AnomaliesError(InvalidInputError):
    """The examples break the schema; the message is a table of what is wrong where."""

    exit_code = 3


def validate_examples(
    config: RunConfig,
    examples_dir: pathlib.Path,
    out_dir: pathlib.Path,
    previous_schema: pathlib.Path | None,
) -> dict[str, Any]:
    """Computes statistics of the examples and checks them against the schema.

    Args:
        config: The run. `validation.schema_path` goes before `previous_schema`.
        examples_dir: What `build_examples` wrote.
        out_dir: An empty folder for `schema.pbtxt`, `<part>.stats.pb`, `anomalies.json` and
            `summary.json`, and a copy of `positives.json`.
        previous_schema: The schema that an earlier run inferred, in the folder that it wrote; it
            is copied as it is, and drift is measured from what lies beside it. Without any schema,
            one is inferred, which the examples then fulfil.

    Returns:
        The content of `summary.json`: examples looked at per part, missing values per feature,
        and training examples per slice and group.

    Raises:
        AnomaliesError: The examples do not fulfil the schema.
        InvalidInputError: A file is missing, damaged or incomplete.
    """
    samples = {
        part: sample_examples(examples_dir, part, config.validation.max_rows) for part in PARTS
    }
    samples = {part: sample for part, sample in samples.items() if sample.num_rows}
    statistics = {part: _statistics(sample) for part, sample in samples.items()}
    for part, sample in samples.items():
        slices = _slice_statistics(sample, config.audit.min_users)
        everything = statistics_pb2.DatasetFeatureStatisticsList()
        everything.datasets.extend([*statistics[part].datasets, *slices])
        (out_dir / f"{part}.stats.pb").write_bytes(everything.SerializeToString())
    labels = _labels(examples_dir)
    source = config.validation.schema_path or previous_schema
    if source:
        schema = load_schema(pathlib.Path(source))
        shutil.copyfile(source, out_dir / SCHEMA)
    else:
        schema = infer_schema(list(statistics.values()), labels, config)
        tfdv.write_schema_text(schema, str(out_dir / SCHEMA))
    earlier = previous_schema.parent if previous_schema else None
    limited = with_drift_limit(schema, config)
    anomalies: list[dict[str, str]] = []
    for part, sample in samples.items():
        before = earlier_statistics(earlier / f"{part}.stats.pb", ALL_EXAMPLES) if earlier else None
        anomalies += _anomalies(part, sample, statistics[part], limited, config, before)
    anomalies += _new_labels(labels, schema)
    positives = _read_positives(examples_dir / POSITIVES)
    shutil.copyfile(examples_dir / POSITIVES, out_dir / POSITIVES)
    short = list(short_of_positives(positives, config.validation.min_positives))
    drifted = list(_drifted_shares(positives, earlier, config))
    summary = {
        "rows": {part: sample.num_rows for part, sample in samples.items()},
        "missing": _missing(samples["train"]),
        "positives": _shown(positives, config.audit.min_users),
    }
    write_json(out_dir / "anomalies.json", anomalies + short + drifted)
    write_json(out_dir / "summary.json", summary)
    against_schema = f"the examples do not fulfil the schema{f' {source}' if source else ''}:"
    messages = [
        f"{problem}\n{_table(found)}\n{remedy}"
        for found, problem, remedy in (
            (anomalies, against_schema, _REMEDY_FOR_SCHEMA),
            (short, *_SHORT),
            (drifted, *_DRIFTED),
        )
        if found
    ]
    if messages:
        raise AnomaliesError("\n".join(messages))
    return summary


def _statistics(sample: pa.RecordBatch) -> statistics_pb2.DatasetFeatureStatisticsList:
    statistics = stats_impl.generate_statistics_in_memory(sample, tfdv.StatsOptions())
    statistics.datasets[0].name = ALL_EXAMPLES
    return statistics


def _slice_statistics(
    sample: pa.RecordBatch, min_users: int
) -> Iterator[statistics_pb2.DatasetFeatureStatistics]:
    """Statistics of every slice and group, but for those of too few users to be shown."""
    slicers = [slicing_util.get_feature_value_slicer({f: None}) for f in _label_features(sample)]
    for name, rows in slicing_util.generate_slices(sample, slicers):
        if len(pc.unique(_values(rows, USER_ID))) >= min_users:
            (statistics,) = _statistics(rows).datasets
            statistics.name = name
            yield statistics


def _anomalies(
    part: str,
    sample: pa.RecordBatch,
    statistics: statistics_pb2.DatasetFeatureStatisticsList,
    schema: schema_pb2.Schema,
    config: RunConfig,
    earlier: statistics_pb2.DatasetFeatureStatisticsList | None,
) -> Iterator[dict[str, str]]:
    found = tfdv.validate_statistics(statistics, schema, previous_statistics=earlier)
    for feature, info in sorted(found.anomaly_info.items()):
        feature = feature.strip("'")  # TFDV quotes names that hold a dot.
        problem = f"{info.short_description}: {info.description}".strip()
        if is_sensitive(feature, config) or is_tagged(feature, schema):
            problem = info.short_description + _count_unknown(sample, feature, schema)
        yield {"feature": feature, "part": part, "problem": problem}
    if found.HasField("dataset_anomaly_info"):
        yield {"feature": "", "part": part, "problem": found.dataset_anomaly_info.description}


def _count_unknown(sample: pa.RecordBatch, feature: str, schema: schema_pb2.Schema) -> str:
    """How many values the schema does not know, rather than which: they are about people."""
    known = known_values(schema, feature)
    if known is None or feature not in sample.schema.names:
        return ""
    values = _values(sample, feature).cast(pa.string())
    strange = values.filter(pc.invert(pc.is_in(values, pa.array(sorted(known)))))
    return f": {_count_values(len(strange.unique()))} in {len(strange):,} examples"


def _new_labels(
    labels: Mapping[str, Collection[str]], schema: schema_pb2.Schema
) -> Iterator[dict[str, str]]:
    """Groups and slices that have no examples yet, which statistics of examples do not show."""
    for feature, values in labels.items():
        known = known_values(schema, feature)
        new = set(values) - known if known is not None else set()
        if new:
            part = "catalogue" if feature == GROUP else "users"
            problem = f"Unexpected string values: {_count_values(len(new))}"
            yield {"feature": feature, "part": part, "problem": problem}


def _drifted_shares(
    positives: Mapping[str, Any], earlier: pathlib.Path | None, config: RunConfig
) -> Iterator[dict[str, str]]:
    max_ratio = config.validation.max_share_ratio
    if max_ratio is not None and earlier is not None and (earlier / POSITIVES).is_file():
        before = _read_positives(earlier / POSITIVES)
        yield from changed_shares(positives, before, max_ratio, config.audit.min_users)


def _read_positives(path: pathlib.Path) -> dict[str, Any]:
    if not path.is_file():
        raise InvalidInputError(f"{path} is missing. Run `fairtowers examples --force`.")
    positives: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return positives


def short_of_positives(
    positives: Mapping[str, Any], min_positives: int
) -> Iterator[dict[str, str]]:
    """Finds groups that a slice of the users has too few training examples of.

    Args:
        positives: The content of `positives.json`.
        min_positives: How many there should be; there may be fewer of `unknown`.

    Yields:
        An anomaly for every group and slice. It says no number, since it may be one of few users.
    """
    for name, cells in positives.items():
        for value, cell in cells.items():
            for group, count in cell["positives"].items():
                if count < min_positives and UNKNOWN not in (group, *value.split(" × ")):
                    problem = f"{value}: fewer than {min_positives:,} examples of group {group}"
                    yield {"feature": f"{SLICE_PREFIX}{name}", "part": "train", "problem": problem}


def _count_values(count: int) -> str:
    return f"{count:,} {'value' if count == 1 else 'values'} that the schema does not know"


def _table(anomalies: list[dict[str, str]]) -> str:
    rows = [("feature", "part", "what is wrong")]
    rows += [(a["feature"], a["part"], a["problem"]) for a in anomalies]
    wide, narrow = (max(len(row[i]) for row in rows) for i in range(2))
    return "\n".join(f"  {f:<{wide}}  {p:<{narrow}}  {problem}" for f, p, problem in rows)


def _labels(examples_dir: pathlib.Path) -> dict[str, list[str]]:
    """All groups and slice values of the tables."""
    catalogue = pq.read_table(examples_dir / "catalogue.parquet", columns=[GROUP])
    users = pq.read_table(examples_dir / "users.parquet")
    names = [c for c in users.column_names if c.startswith(SLICE_PREFIX)]
    columns = {GROUP: catalogue[GROUP], **{name: users[name] for name in names}}
    return {name: column.unique().to_pylist() for name, column in columns.items()}


def _shown(positives: Mapping[str, Any], min_users: int) -> dict[str, Any]:
    """Examples per slice and group; nothing for a slice of too few users to be shown."""
    return {
        name: {
            value: cell["positives"] if cell["users"] >= min_users else None
            for value, cell in cells.items()
        }
        for name, cells in positives.items()
    }


def _missing(sample: pa.RecordBatch) -> dict[str, int]:
    """Training examples without a value: an empty string, or the group or slice `unknown`."""
    labels = _label_features(sample)
    missing = {}
    for feature in sample.schema.names:
        values = _values(sample, feature)
        if pa.types.is_large_binary(values.type) or pa.types.is_binary(values.type):
            nothing = UNKNOWN if feature in labels else ""
            missing[feature] = pc.sum(pc.equal(values, nothing.encode())).as_py() or 0
    return missing


def _label_features(sample: pa.RecordBatch) -> list[str]:
    return [name for name in sample.schema.names if is_label(name)]


def _values(sample: pa.RecordBatch, feature: str) -> pa.Array:
    return pc.list_flatten(sample.column(sample.schema.get_field_index(feature)))
