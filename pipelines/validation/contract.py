"""The schema of the examples: what the model may rely on, inferred once and then held to."""

from __future__ import annotations

import pathlib
from collections.abc import Collection, Mapping, Sequence

import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from fairness_losses.config import UNKNOWN
from fairness_losses.errors import InvalidInputError
from pipelines.config import RunConfig
from pipelines.examples.inputs import GROUP, SLICE_PREFIX
from pipelines.examples.tables import band_labels
from towers.config import ITEM_ID, USER_ID, TextFeature

SENSITIVE = "sensitive"
"""Tag of features that say who somebody is."""

# A new value of an ordinary category has the out-of-vocabulary embedding, so a few do no harm.
_CATEGORY_DOMAIN_MASS = 0.95


def load_schema(path: pathlib.Path) -> schema_pb2.Schema:
    """Reads a schema.

    Raises:
        InvalidInputError: The file is not there or is not a schema.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return text_format.Parse(text, schema_pb2.Schema())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise InvalidInputError(f"{path}: there is no readable schema: {error}.") from error


def infer_schema(
    statistics: Sequence[statistics_pb2.DatasetFeatureStatisticsList],
    labels: Mapping[str, Collection[str]],
    config: RunConfig,
) -> schema_pb2.Schema:
    """Infers the schema that the examples at hand fulfil.

    Every feature has to be in every example. Ids and texts may have any value, categories a few
    new ones, groups and slices none (but `unknown`, and bands that nobody is in yet).

    Args:
        statistics: Of every part, training first.
        labels: `group` and `slice.<column>` to all their values.
        config: The run.
    """
    schema = tfdv.infer_schema(statistics[0])
    for other in statistics[1:]:
        schema = tfdv.update_schema(schema, other)
    free = free_features(config)
    bands = {f"{SLICE_PREFIX}{s.column}": band_labels(s.bands) for s in config.slices if s.bands}
    for feature in schema.feature:
        feature.presence.min_count = 1
        feature.presence.min_fraction = 1.0
        if feature.name in free:
            feature.ClearField(feature.WhichOneof("domain_info") or "domain")
        elif feature.name in labels:
            values = {*labels[feature.name], UNKNOWN, *bands.get(feature.name, [])}
            feature.string_domain.name = feature.name
            feature.string_domain.value.extend(sorted(values))
        elif feature.HasField("domain"):
            feature.distribution_constraints.min_domain_mass = _CATEGORY_DOMAIN_MASS
        if is_sensitive(feature.name, config):
            feature.annotation.tag.append(SENSITIVE)
    used = {f.domain for f in schema.feature if f.HasField("domain")}
    domains = [d for d in schema.string_domain if d.name in used]
    del schema.string_domain[:]
    schema.string_domain.extend(domains)
    return schema


def free_features(config: RunConfig) -> set[str]:
    """Features that may have any value: ids and texts."""
    features = [*config.features.query, *config.features.candidate]
    return {USER_ID, ITEM_ID, *(f.column for f in features if isinstance(f, TextFeature))}


def is_label(feature: str) -> bool:
    """Whether a feature of the examples is the group or a slice."""
    return feature == GROUP or feature.startswith(SLICE_PREFIX)


def is_sensitive(feature: str, config: RunConfig) -> bool:
    """Whether a feature of the examples says who somebody is."""
    return is_label(feature) or feature in config.sensitive_columns


def is_tagged(feature: str, schema: schema_pb2.Schema) -> bool:
    """Whether a schema says that a feature is sensitive."""
    return any(f.name == feature and SENSITIVE in f.annotation.tag for f in schema.feature)


def known_values(schema: schema_pb2.Schema, name: str) -> set[str] | None:
    """Returns the values that a schema allows for a feature, or nothing if it allows any."""
    for feature in schema.feature:
        if feature.name == name:
            domains = {d.name: d for d in schema.string_domain}
            domain = domains.get(feature.domain, feature.string_domain)
            return set(domain.value) or None
    return None
