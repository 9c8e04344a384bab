"""Settings of features, towers and training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fairness_losses.config import Settings

USER_ID = "user_id"
"""Name of the user id in the examples, whatever the source calls it."""

ITEM_ID = "item_id"
"""Name of the item id in the examples, whatever the source calls it."""


Column = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
"""Name of a feature's column. It is also the name of an input of the exported model, hence letters,
digits and underscores only."""


Bins = Annotated[int, Field(ge=2)]
"""Number of hash bins."""

DropoutRate = Annotated[float, Field(ge=0, lt=1)]
"""Probability of leaving something out in training."""


Share = Annotated[float, Field(ge=0, le=1)]
"""A part of the whole."""


class IdFeature(Settings):
    """One embedding per id seen in training; unseen ids share one out-of-vocabulary embedding."""

    kind: Literal["id"]
    column: Column
    """`user_id` or `item_id` (these names hold whatever the source calls its columns)."""
    bins: Bins | None = None
    """Hashes ids into so many embeddings instead of one each: memory is bounded however many ids
    there are. An unseen id then has the embedding of those it shares a bin with: for a cold start
    leave it out."""
    dropout: DropoutRate = 0.0
    """Share of ids that training replaces by the out-of-vocabulary embedding, which is trained by
    this alone. With it an item or user unseen in training gets a sensible vector from its other
    features: 0.1, say, where there are any."""


class CategoricalFeature(Settings):
    """One embedding per value; a list of values (genres) is averaged."""

    kind: Literal["categorical"]
    column: Column
    """Column of the users or items table; strings, numbers or lists of strings."""
    separator: str | None = None
    """Splits a string into several values, for example `|`."""
    bins: Bins | None = None
    """Hashes values into so many embeddings instead of one each."""


class NumericFeature(Settings):
    """A number, normalised by the mean and variance of the table it comes from."""

    kind: Literal["numeric"]
    column: Column
    """Column of the users or items table."""
    default: float | None = None
    """Replaces a missing value. Without it a row with a missing value is a dead letter."""


class TextFeature(Settings):
    """Words, and sequences of words, hashed into bins; their embeddings are averaged."""

    kind: Literal["text"]
    column: Column
    """Column of the users or items table."""
    bins: Bins = 4096
    """Number of hash bins."""
    max_words: int = Field(default=16, ge=1)
    """Words beyond this number are left out."""
    ngrams: int = Field(default=1, ge=1)
    """Longest sequence of words that has an embedding of its own: 2 adds pairs of neighbours."""


class VectorFeature(Settings):
    """A dense vector of fixed length (an image or graph embedding), projected linearly."""

    kind: Literal["vector"]
    column: Column
    """Column of the users or items table; a list of numbers, the same length in every row."""
    normalize: bool = False
    """Whether vectors are scaled to length 1 beforehand, so that only their direction counts."""


class HistoryFeature(Settings):
    """The items that a user chose in training, their embeddings pooled; for the query tower.

    It needs no column of yours: it is made from the interactions.
    """

    kind: Literal["history"]
    column: Column = "history"
    """Name of the column that is written, and of the exported model's input."""
    max_items: int = Field(default=200, ge=1)
    """The latest so many interactions are kept; without times, the last in the files."""
    pooling: Literal["mean", "sqrt"] = "mean"
    """Divides the sum of `n` embeddings by `n` or by its square root."""
    dropout: DropoutRate = 0.0
    """Share of the items of a history that training leaves out."""
    share_embedding: bool = True
    """Whether items have the embeddings of the candidate tower's id feature `item_id`; otherwise
    they have some of their own."""
    dim: Annotated[int, Field(ge=1)] | None = None
    """Dimension of embeddings of its own, which hidden layers then bring to that of the vector; by
    default `towers.dim`."""


CandidateFeature = Annotated[
    IdFeature | CategoricalFeature | NumericFeature | TextFeature | VectorFeature,
    Field(discriminator="kind"),
]

Feature = Annotated[
    IdFeature | CategoricalFeature | NumericFeature | TextFeature | VectorFeature | HistoryFeature,
    Field(discriminator="kind"),
]


class FeaturesConfig(Settings):
    """What each tower sees."""

    query: list[Feature] = Field(default=[IdFeature(kind="id", column=USER_ID)], min_length=1)
    """Features of the user side."""

    candidate: list[CandidateFeature] = Field(
        default=[IdFeature(kind="id", column=ITEM_ID)], min_length=1
    )
    """Features of the item side."""

    allow_sensitive: bool = False
    """Whether a column listed as sensitive may be a feature. Leave it off unless you have a
    reason that you could defend."""

    @property
    def history(self) -> HistoryFeature | None:
        """The feature made from the interactions, if there is one."""
        return next((f for f in self.query if isinstance(f, HistoryFeature)), None)

    @model_validator(mode="after")
    def _check_columns(self) -> FeaturesConfig:
        for side, features in (("query", self.query), ("candidate", self.candidate)):
            columns = [feature.column for feature in features]
            twice = [column for column in columns if columns.count(column) > 1]
            if twice:
                raise ValueError(f"`{side}` names `{twice[0]}` twice: give each column once.")
        return self

    @model_validator(mode="after")
    def _check_history(self) -> FeaturesConfig:
        if sum(isinstance(feature, HistoryFeature) for feature in self.query) > 1:
            raise ValueError("`query` should have one feature of the kind `history` at most.")
        ids = [f for f in self.candidate if isinstance(f, IdFeature) and f.column == ITEM_ID]
        if self.history and self.history.share_embedding and not ids:
            raise ValueError(
                f"the history `{self.history.column}` shares the embeddings of `{ITEM_ID}`, which "
                "is no feature of `candidate`: add `{kind: id, column: item_id}` there, or set "
                "`share_embedding: false`."
            )
        if self.history and self.history.share_embedding and self.history.dim:
            raise ValueError("`dim` is of a history with `share_embedding: false`.")
        return self


class TowersConfig(Settings):
    """Shape of the two towers, the same on both sides."""

    dim: int = Field(default=64, ge=1)
    """Dimension of the vectors that the index holds."""

    hidden: list[Annotated[int, Field(ge=1)]] = []
    """Sizes of the hidden layers between the features and the vector. Empty with a single id
    feature: the embedding is the vector."""

    activate_features: bool = False
    """Whether the features' embeddings pass through the activation, unless one of them is itself
    the vector. Embeddings are then a first hidden layer: that of a history with a wide embedding
    is the encoder of an autoencoder."""

    activation: Literal["relu", "gelu", "tanh"] = "relu"
    """Of the hidden layers."""

    layer_norm: bool = False
    """Whether hidden layers are normalised before their activation."""

    dropout: DropoutRate = 0.0
    """Share of the hidden units that training leaves out."""

    vector_dropout: DropoutRate = 0.0
    """Share of the dimensions of a query's vector that training leaves out."""

    unit_norm: bool = True
    """Whether vectors are scaled to length 1, so that the dot product is the cosine."""

    bias: bool = False
    """Whether the last of the `dim` dimensions is a bias of the item, such as its popularity: the
    query's is the constant 1. Needs `unit_norm: false`. It starts from the logarithm of how often
    the item occurs in training."""

    @model_validator(mode="after")
    def _check_bias(self) -> TowersConfig:
        if self.bias and self.unit_norm:
            raise ValueError(
                "`bias` needs `unit_norm: false`, else it shares the length of the vector."
            )
        if self.bias and self.dim < 2:
            raise ValueError("`bias` takes one of the dimensions, so `dim` should be at least 2.")
        if self.dropout and not (self.hidden or self.activate_features):
            raise ValueError("`dropout` is of hidden layers: give `hidden`, or leave it out.")
        return self


class TrainingConfig(Settings):
    """How the model is fitted."""

    epochs: int = Field(default=10, ge=1)
    """Passes over the training examples."""

    batch_of: Literal["pairs", "users"] = "pairs"
    """`pairs`: a step looks at positive pairs, each against the other candidates of the batch and
    a sample of the catalogue; features may differ from one interaction to the next. `users`: a
    step looks at users with all that they chose, against a sample of the catalogue; an epoch is
    then many times faster, and a history is trained to find the rest of what its user chose."""

    batch_size: int = Field(default=1024, ge=2)
    """Pairs or users per step."""

    items_per_user: int = Field(default=256, ge=1)
    """Items of a user that a step looks at, at most; another random part every time."""

    given_share: tuple[Share, Share] = (0.2, 0.8)
    """For batches of users with a history: the range of the share of a user's items that is given
    to the query tower; the rest is to be found."""

    optimizer: Literal["adam", "lazy_adam"] = "adam"
    """`lazy_adam` moves only the embeddings that occur in a step, so that the time of a step does
    not grow with the number of users and items: for hundreds of thousands of them. It is not quite
    the same algorithm, see `towers.lazy_adam`."""

    learning_rate: float = Field(default=0.002, gt=0)
    """Of the optimizer."""

    schedule: Literal["constant", "cosine"] = "constant"
    """Whether the learning rate stays, or falls to a fiftieth along a cosine."""

    warmup: Share = 0.0
    """Share of the steps over which a `cosine` schedule first rises from 0."""

    temperature: float = Field(default=0.15, gt=0)
    """Divides the scores in the softmax."""

    learned_temperature: bool = False
    """Whether training adapts the temperature, starting from the one given."""

    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    """What the towers compute in; variables and losses are always float32."""

    strategy: Literal["one_device", "mirrored", "multi_worker_mirrored"] = "one_device"
    """How training is spread, as in `tf.distribute`: over the accelerators of this machine, or
    over the machines that `TF_CONFIG` names. `batch_size` is then that of all together, each
    replica draws its own negatives, and the last shard of a batch is not left out."""

    logq_correction: bool = True
    """Whether logits of pairs are corrected for how often an item is in a batch: `logit - log q`.
    Without it popular items are pushed away in proportion to their popularity."""

    remove_accidental_hits: bool = True
    """Whether the same item elsewhere in the batch is masked as a negative, and an own item takes
    no correction."""

    catalogue_sample: int = Field(default=1024, ge=0)
    """Items drawn from the catalogue per step, stratified by group: more negatives for every
    query, and the candidates whose exposure is regularized. A catalogue of at most this size is
    used whole. 0 leaves it at the negatives of the batch; a regularizer needs more."""

    candidate_memory: int = Field(default=0, ge=0)
    """For batches of pairs: candidates of past batches that are negatives, too, with the vectors
    that they had then. 0 for none."""

    evaluate_at: list[Annotated[int, Field(ge=1)]] = Field(default=[20, 100], min_length=1)
    """The k of recall@k and NDCG@k, measured on the validation users after every epoch."""

    evaluation_users: int = Field(default=10_000, ge=1)
    """Validation users measured after every epoch, at most."""

    @model_validator(mode="after")
    def _check_batches(self) -> TrainingConfig:
        as_is = self.logq_correction and self.remove_accidental_hits
        if self.batch_of == "users" and not as_is:
            raise ValueError(
                "`logq_correction` and `remove_accidental_hits` are for batches of pairs: with "
                "`batch_of: users` there is nothing of that kind. Remove them."
            )
        if self.batch_of == "users" and self.candidate_memory:
            raise ValueError("`candidate_memory` is for batches of pairs. Remove it.")
        if self.batch_of == "users" and not self.catalogue_sample:
            raise ValueError("`batch_of: users` needs a `catalogue_sample` of at least 1.")
        if not self.given_share[0] <= self.given_share[1]:
            raise ValueError(
                f"`given_share` should be a range, low to high. Received: {self.given_share}."
            )
        if self.warmup and self.schedule != "cosine":
            raise ValueError("`warmup` needs `schedule: cosine`.")
        return self


class ModelConfig(Settings):
    """Everything the model needs to know about itself."""

    features: FeaturesConfig = FeaturesConfig()
    """Features of each tower."""

    towers: TowersConfig = TowersConfig()
    """Shape of the towers."""

    training: TrainingConfig = TrainingConfig()
    """Loss and optimisation."""
