"""The one run configuration: every setting, checked in full before anything runs."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from fairness_losses.config import FairnessConfig, GroupsConfig, Settings
from fairness_losses.registry import available
from pipelines.gates.config import GatesConfig
from pipelines.monitoring.config import MonitoringConfig
from pipelines.report.config import CardConfig, ReportConfig
from pipelines.sweep.config import SweepConfig
from serving.config import ServingConfig
from towers.config import (
    ITEM_ID,
    USER_ID,
    FeaturesConfig,
    HistoryFeature,
    ModelConfig,
    TowersConfig,
    TrainingConfig,
)


class InteractionsSource(Settings):
    """The log: one row for each time a user chose an item."""

    path: str | None = None
    """CSV, JSON lines, TFRecord or Parquet file (`.csv`, `.jsonl`, `.tfrecord`, these also with
    `.gz`; `.parquet`), or a glob of them, here or at `gs://`, `s3://` or `hdfs://`; or
    `bigquery://project.dataset.table`. Not needed for the built-in data sets."""
    user: str = USER_ID
    """Column of the user's id."""
    item: str = ITEM_ID
    """Column of the item's id."""
    timestamp: str | None = None
    """Column of the time: seconds since 1970, or an ISO 8601 date or date and time."""


class TableSource(Settings):
    """A table of users or of items, one row each."""

    path: str
    """As for the interactions."""
    id: str
    """Column of the id."""


class SyntheticConfig(Settings):
    """Size and bias of the generated marketplace."""

    interactions: int = Field(default=100_000, ge=1_000, le=10_000_000)
    """Number of logged interactions. Users and items follow from it unless given."""
    users: int | None = Field(default=None, ge=50)
    """Number of users; by default one per forty interactions, at least 50."""
    items: int | None = Field(default=None, ge=50)
    """Number of items; by default one per thirty interactions, at least 500 and at most 100,000
    (the size that three million interactions reach; beyond it only users are added)."""
    logging_bias: float = Field(default=1.0, ge=0)
    """How far the logging policy held back the two under-exposed groups, in units of the logit;
    0 is an unbiased log."""

    @property
    def num_users(self) -> int:
        """Number of users, given or by default."""
        return self.users or max(50, self.interactions // 40)

    @property
    def num_items(self) -> int:
        """Number of items, given or by default."""
        return self.items or min(max(500, self.interactions // 30), 100_000)

    @model_validator(mode="after")
    def _check_density(self) -> SyntheticConfig:
        most = self.num_users * self.num_items // 5
        if self.interactions > most:
            raise ValueError(
                f"{self.num_users} users and {self.num_items} items allow at most {most} "
                f"`interactions`, a fifth of all pairs. Received: {self.interactions}. Ask for "
                "fewer, or for more `users` or `items`."
            )
        return self


class DataConfig(Settings):
    """Where the data comes from and what its columns are called."""

    dataset: Literal["files", "synthetic", "movielens_100k", "movielens_1m"] = "files"
    """`files`: your own; `synthetic`: the generated marketplace; `movielens_*`: the published
    files, in the folder `directory`."""
    directory: str | None = None
    """Folder of the MovieLens files, or the one that relative paths of `files` start from. It is
    itself relative to the folder of the YAML, which it is by default. `--data` overrides it."""
    synthetic: SyntheticConfig = SyntheticConfig()
    """Used when `dataset` is `synthetic`."""
    interactions: InteractionsSource = InteractionsSource()
    """The interaction log."""
    users: TableSource | None = None
    """The users table; without one, users have an id and nothing else."""
    items: TableSource | None = None
    """The items table; without one, items have an id and nothing else."""
    max_dead_letter_share: float = Field(default=0.05, ge=0, le=1)
    """The run stops when a larger share of any input's rows could not be used."""
    max_broadcast_mb: float = Field(default=256, ge=0)
    """Every worker holds the users and items tables in memory if their files are not larger than
    this together, in MB. Larger tables are joined with the log by a shuffle, in which no worker
    sees a table whole; 0 always does that. The examples are the same."""

    @model_validator(mode="after")
    def _check_paths(self) -> DataConfig:
        if self.dataset == "files" and self.interactions.path is None:
            raise ValueError("`data.interactions.path` is needed when `data.dataset` is `files`.")
        return self


class SliceConfig(Settings):
    """One way to divide the users: by a column, by bands of a number, or by crossing two."""

    column: str | None = None
    """Column of the users table."""
    bands: list[float] | None = Field(default=None, min_length=1)
    """Lower edges for a numeric column: `[0, 25, 45]` gives `0–24`, `25–44`, `45+`."""
    cross: list[str] | None = Field(default=None, min_length=2)
    """Columns, sliced above, whose intersections are slices too."""

    @model_validator(mode="after")
    def _check_kind(self) -> SliceConfig:
        if (self.column is None) == (self.cross is None):
            raise ValueError("a slice should have either `column` or `cross`.")
        if self.bands is not None:
            if self.column is None:
                raise ValueError("`bands` belong to a `column`, not to a `cross`.")
            if sorted(set(self.bands)) != self.bands:
                raise ValueError(f"`bands` should increase. Received: {self.bands}.")
        return self

    @property
    def name(self) -> str:
        """Name in tables and reports: `gender`, or `gender × age`."""
        return self.column or " × ".join(self.cross or [])


class SplitConfig(Settings):
    """How interactions are divided into training, validation and test."""

    by: Literal["hash", "time", "last_n", "column"] = "hash"
    """`hash`: a stable hash of user and item; `time`: the latest are held out; `last_n`: each
    user's latest are held out; `column`: the log says it itself."""
    validation: float = Field(default=0.1, ge=0, lt=1)
    """Share held out for validation, for `hash` and `time`."""
    test: float = Field(default=0.1, gt=0, lt=1)
    """Share held out for the test, for `hash` and `time`."""
    n: int = Field(default=1, ge=1)
    """Interactions per user held out for the test, and as many before them for validation, for
    `last_n`. Users with fewer than `2 * n + 1` keep everything in training."""
    column: str = "split"
    """Column of the log with `train`, `validation` or `test`, for `column`."""


class ValidationConfig(Settings):
    """The contract between the data and the model, checked with TensorFlow Data Validation."""

    schema_path: str | None = None
    """A curated `schema.pbtxt` to check against, relative to the folder of the YAML. By default the
    first run infers one, and later runs in the same folder are checked against it."""
    min_positives: int = Field(default=0, ge=0)
    """Training examples that every group should have in every slice; the run stops where there are
    fewer. `unknown` groups and slices may have any number. 0 for no rule. Needs `groups` and
    `slices`."""
    max_drift: float | None = Field(default=None, gt=0, le=1)
    """How far a feature's distribution may be from that of the last run in the same folder, before
    the run stops: the largest difference of a value's share, of numbers the Jensen-Shannon
    divergence. No limit by default."""
    max_share_ratio: float | None = Field(default=None, gt=1)
    """By which factor the share of a slice, a group, or a group within a slice in the training
    examples may grow or shrink from the last run in the same folder to this one. No limit by
    default."""
    serving_path: str | None = None
    """Requests that the exported model was sent: a file or glob in any format that logs may have,
    a row per request, with the query features under the names that they have in the examples;
    relative to the folder of the YAML. The run stops where a feature is missing, is there without
    being one, or does not fulfil the schema of the examples."""
    max_skew: float | None = Field(default=None, gt=0, le=1)
    """How far the distribution of a query feature may be in the requests from that in the training
    examples, as `max_drift`. No limit by default."""
    max_rows: int | None = Field(default=None, ge=1)
    """Statistics are computed over at most about this many examples of each part, a random sample;
    by default over all of them."""


class PrivateCountsConfig(Settings):
    """Counts with noise, which tell next to nothing of any one user."""

    epsilon: float = Field(gt=0)
    """Privacy loss of all counts together, for adding or removing one user with all lists. At 1 an
    event becomes at most e times as likely."""
    lists_per_user: int = Field(default=1, ge=1)
    """Lists of one user that count, a random choice. More need more noise."""


class AuditConfig(Settings):
    """What is measured on the lists that the exported model serves."""

    ks: list[Annotated[int, Field(ge=1)]] = Field(default=[20, 100], min_length=1)
    """The k of recall@k and NDCG@k. The largest is the depth to which exposure is counted."""
    bootstrap_samples: int = Field(default=1000, ge=100)
    """Resamples of the users behind every interval."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Level of the intervals."""
    min_users: int = Field(default=20, ge=1)
    """Slices with fewer users are suppressed, and so many others that nothing can be subtracted,
    see `docs/audit.md`."""
    permutations: int = Field(default=9999, ge=0)
    """Placements of the users' labels, at least, behind every p-value; 0 for no tests."""
    test_users: int = Field(default=50_000, ge=1)
    """Tests are of at most so many users, a random sample."""
    correction: Literal["holm", "fdr_bh"] = "holm"
    """How p-values of all cells and groups are corrected for their number: `holm` bounds the chance
    of one false finding, `fdr_bh` (Benjamini and Hochberg) the share of false ones."""
    label_noise: list[Annotated[float, Field(gt=0, lt=1)]] = [0.05, 0.1]
    """Shares of wrong labels among the items, for each of which the report has the exposure ratios
    that would then be true."""
    max_lists_per_user: int | None = Field(default=1000, ge=1)
    """Users with more lists are taken for programs: their lists are counted and left out of the
    audit of list files. None for no limit."""
    private_counts: PrivateCountsConfig | None = None
    """Also release the counts with differential privacy, in `private_counts.json` of `audit-lists`.
    Off by default."""


class RunConfig(Settings):
    """A whole run, from logs to report."""

    name: str
    """Shown as the title of the report."""
    seed: int = Field(default=42, ge=0)
    """Of everything random."""
    data: DataConfig
    """Sources and column names."""
    features: FeaturesConfig = FeaturesConfig()
    """Features of each tower."""
    groups: GroupsConfig | None = None
    """What group an item belongs to. Without it nothing is regularized and only quality is
    audited."""
    slices: list[SliceConfig] = []
    """How users are divided in counts and in the audit."""
    sensitive: list[str] = []
    """Columns that no tower may see, besides those of `groups` and `slices`, which always are."""
    split: SplitConfig = SplitConfig()
    """Training, validation and test."""
    validation: ValidationConfig = ValidationConfig()
    """Checks of the examples."""
    towers: TowersConfig = TowersConfig()
    """Shape of the towers."""
    training: TrainingConfig = TrainingConfig()
    """Loss and optimisation."""
    fairness: FairnessConfig = FairnessConfig()
    """The regularizer and its target."""
    serving: ServingConfig = ServingConfig()
    """Index and export."""
    audit: AuditConfig = AuditConfig()
    """Metrics and intervals."""
    gates: GatesConfig = GatesConfig()
    """Thresholds that the report has to hold."""
    monitoring: MonitoringConfig = MonitoringConfig()
    """Windows and alerts of `fairtowers watch`; the other commands do not look at it."""
    report: ReportConfig = ReportConfig()
    """Earlier releases that the report compares this one with."""
    card: CardConfig = CardConfig()
    """What only people know, for the report's cards of the data and the model."""
    sweep: SweepConfig | None = None
    """What `fairtowers sweep` compares; the other commands do not look at it."""

    @property
    def model(self) -> ModelConfig:
        """The part of the configuration that the towers room knows."""
        return ModelConfig(features=self.features, towers=self.towers, training=self.training)

    @property
    def slice_columns(self) -> list[str]:
        """Columns of the users table that slices are made of, each once, in order."""
        return [s.column for s in self.slices if s.column is not None]

    @property
    def sensitive_columns(self) -> set[str]:
        """Every column that is sensitive: listed, a group's or a slice's."""
        groups = self.groups.columns if self.groups else []
        return {*self.sensitive, *groups, *self.slice_columns}

    @model_validator(mode="after")
    def _check_rooms_together(self) -> RunConfig:
        self._check_sensitive_features()
        if self.fairness.regularizer not in available():
            raise ValueError(
                f"`fairness.regularizer` should be one of {', '.join(available())}. "
                f"Received: {self.fairness.regularizer!r}."
            )
        self._check_slices()
        self._check_serving()
        self._check_policy()
        self._check_fairness_slices()
        self._check_sweep()
        for name in ("min_positives", "max_share_ratio"):
            if getattr(self.validation, name) and not (self.groups and self.slices):
                raise ValueError(f"`validation.{name}` needs `groups` and `slices`: give both.")
        if self.data.dataset == "files":
            if self.groups and self.data.items is None:
                raise ValueError("`groups` are columns of the items table: give `data.items`.")
            if self.slices and self.data.users is None:
                raise ValueError("`slices` are columns of the users table: give `data.users`.")
        if self.split.by in ("time", "last_n") and self.data.interactions.timestamp is None:
            raise ValueError(
                f"`split.by: {self.split.by}` needs `data.interactions.timestamp`, the column of "
                "the time. Without times use `split.by: hash`."
            )
        if self.split.validation + self.split.test >= 1:
            raise ValueError("`split.validation` and `split.test` should sum to less than 1.")
        if self.groups and self.fairness.weight > 0 and not self.training.catalogue_sample:
            raise ValueError(
                "`training.catalogue_sample: 0` leaves the regularizer without candidates: give "
                "1024, say, or set `fairness.weight: 0`."
            )
        if max(self.audit.ks) > self.serving.k:
            raise ValueError(
                f"`audit.ks` goes to {max(self.audit.ks)} but `serving.k` is {self.serving.k}: "
                "raise `serving.k` or audit fewer."
            )
        return self

    def _check_sensitive_features(self) -> None:
        features = [*self.features.query, *self.features.candidate]
        # The ids are features by names of ours, but may be listed by those of the source.
        ids = {USER_ID: self.data.interactions.user, ITEM_ID: self.data.interactions.item}
        columns = {f.column for f in features} | {ids.get(f.column, f.column) for f in features}
        leaks = sorted(columns & self.sensitive_columns)
        if leaks and not self.features.allow_sensitive:
            raise ValueError(
                f"`{leaks[0]}` is sensitive (it is listed, or makes a group or slice) and is also "
                "a feature. Remove the feature, or set `features.allow_sensitive: true`."
            )

    def _check_serving(self) -> None:
        """What `validation` says of requests."""
        if self.validation.max_skew is not None and self.validation.serving_path is None:
            raise ValueError("`validation.max_skew` needs `validation.serving_path`: give both.")
        only_history = all(isinstance(f, HistoryFeature) for f in self.features.query)
        if self.validation.serving_path and only_history:
            raise ValueError(
                "`validation.serving_path` needs a feature in `features.query` that examples have, "
                "too; a history is in none. Remove the setting."
            )

    def _check_policy(self) -> None:
        """What `serving.policy` says of groups and slices has to fit those there are."""
        policy = self.serving.policy
        if policy.kind != "relevance" and self.groups is None:
            raise ValueError(f"`serving.policy.kind: {policy.kind}` needs `groups`: give them.")
        names = [cut.name for cut in self.slices]
        if policy.by_slice is not None and policy.by_slice.slice not in names:
            raise ValueError(
                f"`serving.policy.by_slice.slice` should be one of `slices`: {', '.join(names)}. "
                f"Received: {policy.by_slice.slice!r}."
            )

    def _check_fairness_slices(self) -> None:
        """What `fairness` says of user slices has to fit the slices there are."""
        sliced = [cut.column for cut in self.slices if cut.column]
        for column in self.fairness.slices:
            if column not in sliced:
                raise ValueError(
                    f"`fairness.slices` names `{column}`, which is no `column` of `slices`."
                )
        tolerance = self.fairness.constraint.tolerance
        if isinstance(tolerance, dict) and set(tolerance) != set(self.fairness.slices):
            raise ValueError(
                "`fairness.constraint.tolerance` should name exactly the columns of "
                f"`fairness.slices`. Received: {', '.join(tolerance)}."
            )

    def _check_sweep(self) -> None:
        if self.sweep is None:
            return
        if self.groups is None:
            raise ValueError("`sweep` compares the exposure of groups: give `groups`.")
        for column in self.sweep.bonus_by:
            if column not in self.slice_columns:
                raise ValueError(
                    f"`sweep.bonus_by` names `{column}`, which is no `column` of `slices`."
                )
        if self.sweep.points and not self.training.catalogue_sample:
            raise ValueError("`sweep.points` need `training.catalogue_sample` above 0.")

    def _check_slices(self) -> None:
        names = [cut.name for cut in self.slices]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"the slice `{twice[0]}` is there twice: give each division once.")
        for cut in self.slices:
            missing = [c for c in cut.cross or [] if c not in self.slice_columns]
            if missing:
                raise ValueError(
                    f"the slice `{cut.name}` crosses `{missing[0]}`, which is not sliced on its "
                    f"own: add `- column: {missing[0]}` to `slices`."
                )


def fingerprint(*parts: object) -> str:
    """Returns a hash of settings and JSON values, the same in every process."""
    text = json.dumps(parts, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: object) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"a fingerprint cannot hold a {type(value).__name__}.")
