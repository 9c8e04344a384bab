"""Settings of features, towers and training: what is refused, and the defaults people rely on."""

import pydantic
import pytest

from towers.config import FeaturesConfig, ModelConfig, TowersConfig, TrainingConfig


def test_by_default_both_towers_see_the_id_alone():
    features = ModelConfig().features
    assert [(f.kind, f.column) for f in features.query] == [("id", "user_id")]
    assert [(f.kind, f.column) for f in features.candidate] == [("id", "item_id")]
    assert not features.allow_sensitive


def test_the_kind_decides_what_else_a_feature_has():
    text = {"kind": "text", "column": "title", "bins": 10}
    assert FeaturesConfig.model_validate({"query": [text]}).query[0].max_words == 16
    with pytest.raises(pydantic.ValidationError, match="bins"):
        FeaturesConfig.model_validate({"query": [{**text, "kind": "numeric"}]})
    with pytest.raises(pydantic.ValidationError, match="'id', 'categorical', 'numeric', 'text'"):
        FeaturesConfig.model_validate({"query": [{**text, "kind": "image"}]})


@pytest.mark.parametrize("column", ["", "release year", "1st", "a.b", "año", "_x"])
def test_columns_have_names_that_inputs_of_a_saved_model_can_have(column):
    with pytest.raises(pydantic.ValidationError, match="pattern"):
        FeaturesConfig.model_validate({"query": [{"kind": "numeric", "column": column}]})


@pytest.mark.parametrize("side", ["query", "candidate"])
def test_a_tower_needs_a_feature(side):
    with pytest.raises(pydantic.ValidationError, match=side):
        FeaturesConfig.model_validate({side: []})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 1),
        ("learning_rate", 0),
        ("temperature", -1),
        ("catalogue_sample", -1),
        ("evaluate_at", []),
        ("evaluate_at", [20, 0]),
        ("evaluation_users", 0),
        ("epoch", 3),
    ],
)
def test_training_settings_out_of_range_or_misspelt_are_refused_by_name(name, value):
    with pytest.raises(pydantic.ValidationError, match=name):
        TrainingConfig.model_validate({name: value})


def test_vectors_have_at_least_one_dimension():
    with pytest.raises(pydantic.ValidationError, match="dim"):
        TowersConfig(dim=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bias": True}, "`bias` needs `unit_norm: false`"),
        ({"bias": True, "unit_norm": False, "dim": 1}, "`dim` should be at least 2"),
        ({"dropout": 0.1}, "`dropout` is of hidden layers"),
        ({"hidden": [8], "dropout": 1.0}, "dropout"),
        ({"hidden": [0]}, "hidden"),
        ({"activation": "swish"}, "activation"),
    ],
)
def test_towers_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        TowersConfig.model_validate(settings)


HISTORY = {"kind": "history"}


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"candidate": [HISTORY]}, "'id', 'categorical', 'numeric', 'text', 'vector'"),
        ({"query": [HISTORY, {**HISTORY, "column": "h"}]}, "one feature of the kind `history`"),
        (
            {"query": [HISTORY], "candidate": [{"kind": "text", "column": "title"}]},
            "shares the embeddings of `item_id`.*add `{kind: id, column: item_id}`",
        ),
        ({"query": [{**HISTORY, "dropout": 1}]}, "dropout"),
        ({"query": [{**HISTORY, "max_items": 0}]}, "max_items"),
        ({"query": [HISTORY, {"kind": "text", "column": "history"}]}, "names `history` twice"),
        ({"query": [{"kind": "id", "column": "user_id", "bins": 1}]}, "bins"),
    ],
)
def test_features_that_make_no_sense_are_refused(features, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        FeaturesConfig.model_validate(features)


def test_the_history_is_found_among_the_features():
    assert FeaturesConfig().history is None
    found = FeaturesConfig.model_validate({"query": [{"kind": "id", "column": "user_id"}, HISTORY]})
    assert found.history == found.query[1]
    assert (found.history.column, found.history.max_items) == ("history", 200)


def test_own_embeddings_need_no_item_ids():
    features = {
        "query": [{**HISTORY, "share_embedding": False}],
        "candidate": [{"kind": "text", "column": "title"}],
    }
    assert not FeaturesConfig.model_validate(features).history.share_embedding


def test_settings_survive_being_written_and_read():
    config = ModelConfig.model_validate(
        {
            "features": {"query": [{"kind": "categorical", "column": "likes", "separator": "|"}]},
            "towers": {"dim": 8, "hidden": [16]},
        }
    )
    assert ModelConfig.model_validate(config.model_dump()) == config


def test_every_setting_is_explained():
    """The documentation of settings is made from these texts."""
    for model in (ModelConfig, FeaturesConfig, TowersConfig, TrainingConfig):
        assert all(field.description for field in model.model_fields.values())


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (
            {"batch_of": "users", "logq_correction": False},
            "are for batches of pairs",
        ),
        ({"batch_of": "users", "catalogue_sample": 0}, "needs a `catalogue_sample`"),
        ({"batch_of": "users", "given_share": [0.5, 0.2]}, "should be a range, low to high"),
        ({"warmup": 0.1}, "`warmup` needs `schedule: cosine`"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(training, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        TrainingConfig.model_validate(training)
