"""Holds the examples to their contract with TensorFlow Data Validation, without showing whom."""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Sequence
from typing import Any

import pyarrow.parquet as pq
import tensorflow_data_validation as tfdv

from pipelines.config import RunConfig
from pipelines.examples.checks import PARTS
from pipelines.examples.inputs import GROUP, SLICE_PREFIX
from pipelines.file_systems import write_json
from pipelines.validation.anomalies import KINDS, AnomaliesError, Anomaly, raise_if_any
from pipelines.validation.combining import missing
from pipelines.validation.comparators import distances, with_comparators
from pipelines.validation.contract import infer_schema, load_schema
from pipelines.validation.coverage import (
    POSITIVES,
    read_positives,
    short_of_positives,
    shown,
    with_known_labels,
)
from pipelines.validation.drift import changed_shares
from pipelines.validation.page import render
from pipelines.validation.result import Findings, build_result
from pipelines.validation.schema_checks import (
    as_list,
    check_examples,
    check_requests,
    check_skew,
    described,
    new_labels,
    unexpected,
)
from pipelines.validation.serving_data import SERVING, plan_serving
from pipelines.validation.statistics import (
    ALL_EXAMPLES,
    UNEXPECTED_COLUMNS,
    load_statistics,
    write_statistics,
)

__all__ = ["AnomaliesError", "validate_examples"]

SCHEMA = "schema.pbtxt"
"""Name of the schema's file."""

RESULTS = ("anomalies.json", "validation.json", "validation.html")
"""Names of the files that say what was found; they are there even if the run stops."""


def validate_examples(
    config: RunConfig,
    examples_dir: pathlib.Path,
    out_dir: pathlib.Path,
    previous_schema: pathlib.Path | None,
    pipeline_args: Sequence[str] = (),
) -> dict[str, Any]:
    """Computes statistics of the examples and checks them against the schema.

    Args:
        config: The run. `validation.schema_path` goes before `previous_schema`.
        examples_dir: What `build_examples` wrote.
        out_dir: An empty folder, which all workers can write to, for `schema.pbtxt`,
            `<part>.stats.pb`, `unexpected.json`, `anomalies.json`, `summary.json`,
            `validation.json` and `validation.html`, and a copy of `positives.json`.
        previous_schema: The schema that an earlier run inferred, in the folder that it wrote; it
            is copied as it is, and drift is measured from what lies beside it. Without any schema,
            one is inferred, which the examples then fulfil.
        pipeline_args: Beam's own options, such as `--runner=FlinkRunner`. By default the pipeline
            runs in this process.

    Returns:
        The content of `summary.json`: examples looked at per part, missing values per feature,
        and training examples per slice and group.

    Raises:
        AnomaliesError: The examples do not fulfil the schema.
        InvalidInputError: A file is missing, damaged or incomplete.
    """
    requests = plan_serving(config)
    write_statistics(config, examples_dir, out_dir, pipeline_args, requests)
    statistics = _load_all(out_dir)
    labels = _labels(examples_dir)
    source = config.validation.schema_path or previous_schema
    if source:
        schema = load_schema(pathlib.Path(source))
        shutil.copyfile(source, out_dir / SCHEMA)
    else:
        parts = [as_list(statistics[part][ALL_EXAMPLES]) for part in PARTS if part in statistics]
        schema = infer_schema(parts, labels, config)
        tfdv.write_schema_text(schema, str(out_dir / SCHEMA))
    earlier = previous_schema.parent if previous_schema else None
    findings = Findings(
        statistics=statistics,
        positives=with_known_labels(
            read_positives(examples_dir / POSITIVES), schema, config.slices
        ),
        earlier=_load_all(earlier) if earlier else {},
        earlier_positives=_earlier_positives(earlier),
        schema=schema,
        anomalies={kind: [] for kind in KINDS},
    )
    _check(findings, config)
    if requests:
        names = json.loads((out_dir / UNEXPECTED_COLUMNS).read_text(encoding="utf-8"))
        findings.anomalies["skew"] += unexpected(names)
        _check_requests(findings, config)
    findings.anomalies["schema"] += new_labels(labels, schema)
    shutil.copyfile(examples_dir / POSITIVES, out_dir / POSITIVES)
    rows = {part: found[ALL_EXAMPLES].num_examples for part, found in statistics.items()}
    summary = {
        "rows": rows,
        "missing": missing(statistics["train"][ALL_EXAMPLES]),
        "positives": shown(findings.positives, config.audit.min_users),
    }
    write_json(out_dir / "summary.json", summary)
    write_json(out_dir / "anomalies.json", findings.all_anomalies)
    result = build_result(config, findings, examples_dir)
    write_json(out_dir / "validation.json", result)
    (out_dir / "validation.html").write_text(render(result), encoding="utf-8")
    raise_if_any(findings.anomalies, str(source or ""))
    return summary


def _check(findings: Findings, config: RunConfig) -> None:
    """Adds the anomalies and distances of the examples to the findings."""
    schema = with_comparators(findings.schema, config)
    found, statistics = findings.anomalies, findings.statistics
    for part in (part for part in PARTS if part in statistics):
        whole = statistics[part][ALL_EXAMPLES]
        checked = check_examples(whole, schema, findings.earlier.get(part, {}).get(ALL_EXAMPLES))
        broken, distant = described(checked, part, whole, schema, config)
        found["schema"] += broken
        found["drift"] += distant
        findings.drift += distances(checked, part)
    found["coverage"] += short_of_positives(findings.positives, config.validation.min_positives)
    found["shares"] += _changed_shares(findings, config)


def _check_requests(findings: Findings, config: RunConfig) -> None:
    """Adds those of the requests."""
    schema, found = with_comparators(findings.schema, config), findings.anomalies["skew"]
    requests = findings.statistics.get(SERVING, {}).get(ALL_EXAMPLES)
    if requests is None or not requests.num_examples:
        found.append({"feature": "", "part": SERVING, "problem": "there are no requests"})
        return
    train = findings.statistics["train"][ALL_EXAMPLES]
    broken, _ = described(check_requests(requests, schema), SERVING, requests, schema, config)
    checked = check_skew(train, requests, schema)
    _, distant = described(checked, SERVING, train, schema, config)
    found += broken + distant
    findings.skew += distances(checked, SERVING)


def _changed_shares(findings: Findings, config: RunConfig) -> list[Anomaly]:
    max_ratio, before = config.validation.max_share_ratio, findings.earlier_positives
    if max_ratio is None or not before:
        return []
    return list(changed_shares(findings.positives, before, max_ratio, config.audit.min_users))


def _load_all(folder: pathlib.Path) -> dict[str, Any]:
    """Statistics by part, then by the name of their data set; of parts that have some."""
    paths = {part: folder / f"{part}.stats.pb" for part in (*PARTS, SERVING)}
    return {part: load_statistics(path) for part, path in paths.items() if path.is_file()}


def _earlier_positives(folder: pathlib.Path | None) -> dict[str, Any]:
    there = folder is not None and (folder / POSITIVES).is_file()
    return read_positives(folder / POSITIVES) if folder and there else {}


def _labels(examples_dir: pathlib.Path) -> dict[str, list[str]]:
    """All groups and slice values of the tables."""
    catalogue = pq.read_table(examples_dir / "catalogue.parquet", columns=[GROUP])
    users = pq.read_table(examples_dir / "users.parquet")
    names = [c for c in users.column_names if c.startswith(SLICE_PREFIX)]
    columns = {GROUP: catalogue[GROUP], **{name: users[name] for name in names}}
    return {name: column.unique().to_pylist() for name, column in columns.items()}
