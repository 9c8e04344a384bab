"""Writes the retriever as a versioned SavedModel for TensorFlow Serving.

An exact retriever runs on a stock server: its graph has core TensorFlow ops only. One with a ScaNN
index needs a server that has ScaNN's ops linked in, which the published images have not;
`requires_scann_ops` in `metadata.json` says which it is.

    <name>/
      models.config batching.config monitoring.config versions.json
      policy_keys.json                            with `serving.policy.by_slice`; no server reads it
      deploy/                                     Docker Compose, Kubernetes, ScaNN's image
      <version>/
        saved_model.pb variables/
        assets.extra/tf_serving_warmup_requests   replayed by the server before it takes requests
        expected.json                             their answers, see `serving.check`
        metadata.json
"""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from serving.catalogue import load_catalogue
from serving.check import EXPECTED_FILE
from serving.config import ServingConfig
from serving.mix.mix import CandidateMix
from serving.mix.plan import load_mix
from serving.mix.policy_keys import ensure_keys
from serving.mix.targets import Targets
from serving.publication import publish
from serving.retriever import METADATA_FILE, Retriever
from serving.warmup import ask_all, write_warmup
from serving.whole_files import write_json

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"


def export(
    query_tower_dir: pathlib.Path,
    embeddings_dir: pathlib.Path,
    index_dir: pathlib.Path,
    config: ServingConfig,
    out_dir: pathlib.Path,
    version: int,
    provenance: dict[str, Any],
    warmup_features: Mapping[str, np.ndarray],
    *,
    candidate_tower_dir: pathlib.Path | None = None,
    warmup_items: Mapping[str, np.ndarray] | None = None,
    temperature: float = 1.0,
    exact: bool = False,
) -> pathlib.Path:
    """Exports one version of the retriever, complete or not at all, and tells servers of it.

    See `serving.versions.add_version` for what they are told.

    Args:
        query_tower_dir: SavedModel of the query tower.
        embeddings_dir: `vectors.npy` and `items.parquet`.
        index_dir: What `build_index` and, for other policies than `relevance`,
            `serving.mix.plan.plan_mix` wrote for these vectors.
        config: Name, k and policy.
        out_dir: Receives `<name>/<version>/`; the same version from before is replaced.
        version: Number of the version, at least 1.
        provenance: Where the model comes from; JSON, kept in `metadata.json`.
        warmup_features: Query features of a few real users, by name, each with the same first
            dimension. Asked once for all of them and once for the first alone.
        candidate_tower_dir: SavedModel of the candidate tower, for `candidate_embedding`.
        warmup_items: Features of a few items, for the candidate tower; as those of users.
        temperature: What scores are divided by to be logits: a request that doubles a group's odds
            adds `temperature * log 2` to the scores of its items.
        exact: Whether the index is put aside for exact search.

    Returns:
        The folder of the version.

    Raises:
        InvalidInputError: The index does not belong to the vectors, or needs ScaNN where there
            is none.
    """
    model_dir = pathlib.Path(out_dir) / config.name
    incomplete = model_dir / f".incomplete-{version}"
    shutil.rmtree(incomplete, ignore_errors=True)
    write_version(
        query_tower_dir,
        embeddings_dir,
        index_dir,
        config,
        incomplete,
        version,
        provenance,
        warmup_features,
        policy_keys=keys_of_slices(model_dir, config),
        candidate_tower_dir=candidate_tower_dir,
        warmup_items=warmup_items,
        temperature=temperature,
        exact=exact,
    )
    version_dir = model_dir / str(version)
    shutil.rmtree(version_dir, ignore_errors=True)
    incomplete.rename(version_dir)
    publish(version_dir)
    return version_dir


def keys_of_slices(model_dir: pathlib.Path, config: ServingConfig) -> dict[str, str]:
    """Returns slice value to policy key, as kept in the model's folder; {} without `by_slice`."""
    by_slice = config.policy.by_slice
    return ensure_keys(model_dir, by_slice.slice, list(by_slice.values)) if by_slice else {}


def write_version(
    query_tower_dir: pathlib.Path,
    embeddings_dir: pathlib.Path,
    index_dir: pathlib.Path,
    config: ServingConfig,
    folder: pathlib.Path,
    version: int,
    provenance: dict[str, Any],
    warmup_features: Mapping[str, np.ndarray],
    *,
    policy_keys: Mapping[str, str] | None = None,
    candidate_tower_dir: pathlib.Path | None = None,
    warmup_items: Mapping[str, np.ndarray] | None = None,
    temperature: float = 1.0,
    exact: bool = False,
) -> None:
    """Writes the content of one version into a folder that no server looks at yet.

    The arguments are those of `export`, which see; `folder` takes the place of `out_dir`, and
    `policy_keys` is what `keys_of_slices` returned.
    """
    catalogue = load_catalogue(pathlib.Path(embeddings_dir))
    mix, targets, plan, index = load_mix(pathlib.Path(index_dir), catalogue, config, exact)
    candidate_tower = candidate_tower_dir and tf.saved_model.load(str(candidate_tower_dir))
    model_version = f"{config.name}/{version}"
    retriever = Retriever(
        tf.saved_model.load(str(query_tower_dir)),
        mix,
        catalogue.item_ids,
        targets.labels,
        model_version,
        # The rows of the mix are in the order of the slice's values.
        policy_keys=[key for _, key in sorted((policy_keys or {}).items())],
        candidate_tower=candidate_tower,
        temperature=temperature,
    )
    signatures = retriever.make_signatures()
    tf.saved_model.save(retriever, str(folder), signatures=signatures)
    exchanges = ask_all(signatures, warmup_features, warmup_items or {})
    write_warmup(exchanges, config.name, folder / WARMUP_FILE)
    write_json([exchange.plain() for exchange in exchanges], folder / EXPECTED_FILE)
    metadata = {
        "name": config.name,
        "version": version,
        "model_version": model_version,
        "k": retriever.k,
        "groups": list(targets.labels),
        **_describe_policy(config, mix, targets, plan),
        "index": index,
        "requires_scann_ops": index["kind"] != "exact",
        "signatures": {name: _describe(f) for name, f in signatures.items()},
        "provenance": provenance,
    }
    write_json(metadata, folder / METADATA_FILE)


def _describe_policy(
    config: ServingConfig, mix: CandidateMix, targets: Targets, plan: dict[str, Any]
) -> dict[str, Any]:
    """The policy and its rows; which slice a row is for is not said here."""
    if config.policy.kind == "relevance":
        return {"policy": "relevance"}
    rows = [
        {
            "policy": name,
            "shares": dict(zip(targets.labels, shares, strict=True)),
            "tolerance": tolerance,
        }
        for name, shares, tolerance in zip(
            mix.names, targets.shares.tolist(), targets.tolerance.tolist(), strict=True
        )
    ]
    settings = config.policy.model_dump(mode="json", exclude={"by_slice", "target"})
    return {
        "policy": config.policy.kind,
        "policies": rows,
        "mix": {**settings, **{name: plan[name] for name in ("strategy", "buckets", "measured")}},
    }


def _describe(function: Any) -> dict[str, Any]:
    """Types and shapes of a signature's inputs and outputs; -1 is a free dimension."""

    def describe(tensors: dict[str, Any]) -> dict[str, Any]:
        return {
            name: {
                "dtype": t.dtype.name,
                "shape": [-1 if n is None else n for n in t.shape.as_list()],
            }
            for name, t in sorted(tensors.items())
        }

    return {
        "inputs": describe(function.structured_input_signature[1]),
        "outputs": describe(function.structured_outputs),
    }
