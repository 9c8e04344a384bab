"""The retriever's signatures, on a catalogue small enough to follow by hand."""

import numpy as np
import pytest
import tensorflow as tf
from small_mixes import mix_of

from fairness_losses.errors import InvalidInputError
from serving.retriever import CONTROLS, Retriever, load_retriever

ITEMS = ["plain", "with, comma", "new\nline", "Ærø"]
GROUPS = ["a", "b", "unknown", "a"]
# u1 scores the items 3, 2, 1, 0; u2 scores them 0, 1, 2, 3.
VECTORS = [[3.0, 0.0], [2.0, 1.0], [1.0, 2.0], [0.0, 3.0]]
USERS = {"u1": [1.0, 0.0], "u2": [0.0, 1.0]}


@pytest.fixture
def make(save_query_tower):
    """A retriever of the catalogue above."""

    def build(k=2, temperature=1.0, policy_keys=(), **policy):
        tower = tf.saved_model.load(str(save_query_tower(list(USERS), list(USERS.values()))))
        mix = mix_of(VECTORS, GROUPS, k, **policy)
        return Retriever(
            tower,
            mix,
            np.array(ITEMS),
            ["a", "b", "unknown"],
            "retriever/7",
            policy_keys=policy_keys,
            temperature=temperature,
        )

    return build


@pytest.fixture
def ask(make):
    """Calls a signature; controls that are not given say nothing."""

    def call(signature, user_ids, exclude_ids=None, controls=None, keys=None, **settings):
        function = make(**settings).make_signatures()[signature]
        inputs = {"user_id": tf.constant(user_ids), "offset": tf.zeros([len(user_ids), 1])}
        if signature == "controlled":
            n = len(user_ids)
            controls = controls or [{}] * n
            width = max(len(c) for c in controls)
            names = [[*c, *[""] * (width - len(c))] for c in controls]
            weights = [[*c.values(), *[1.0] * (width - len(c))] for c in controls]
            inputs |= {
                "policy_key": tf.constant(keys or [""] * n),
                "exclude_ids": tf.constant(
                    np.zeros([n, 0]) if exclude_ids is None else exclude_ids, tf.string
                ),
                "control_groups": tf.constant(np.reshape(names, [n, width]), tf.string),
                "control_weights": tf.constant(np.reshape(weights, [n, width]), tf.float32),
            }
        return {name: tensor.numpy() for name, tensor in function(**inputs).items()}

    return call


def _text(values):
    return np.char.decode(values.astype(bytes), "utf-8").tolist()


@pytest.mark.parametrize("signature", ["serving_default", "relevance", "controlled"])
def test_a_list_says_what_it_is(ask, signature):
    answer = ask(signature, ["u2", "u1"])
    assert _text(answer["candidate_ids"]) == [["Ærø", "new\nline"], ["plain", "with, comma"]]
    assert answer["scores"].tolist() == [[3, 2], [3, 2]]
    assert _text(answer["groups"]) == [["a", "unknown"], ["a", "b"]]
    assert _text(answer["policy"]) == ["relevance"] * 2
    assert _text(answer["model_version"]) == ["retriever/7"] * 2


def test_excluding_ignores_padding_and_unknown_ids(ask):
    excluded = [["with, comma", "", "nobody"], ["Ærø", "Ærø", ""]]
    answer = ask("controlled", ["u1", "u2"], exclude_ids=excluded)
    assert _text(answer["candidate_ids"]) == [["plain", "new\nline"], ["new\nline", "with, comma"]]


def test_short_lists_end_with_padding(ask):
    answer = ask("controlled", ["u1"], k=3, exclude_ids=[["plain", "Ærø"]])
    assert _text(answer["candidate_ids"]) == [["with, comma", "new\nline", ""]]
    assert _text(answer["groups"]) == [["b", "unknown", ""]]
    assert answer["scores"].tolist() == [[2, 1, -np.inf]]


def test_k_is_that_of_the_mix(ask):
    assert ask("serving_default", ["u1"], k=4)["scores"].shape == (1, 4)


def test_query_embedding(ask):
    assert ask("query_embedding", ["u2", "stranger"])["embedding"].tolist() == [[0, 1], [0, 0]]


def test_a_weight_of_zero_leaves_a_group_out_and_a_star_is_all_the_others(ask):
    controls = [{"a": 0.0}, {"*": 0.0, "b": 1.0}, {"nobody": 0.0}]
    answer = ask("controlled", ["u1", "u1", "u1"], k=3, controls=controls)
    assert _text(answer["candidate_ids"]) == [
        ["with, comma", "new\nline", ""],
        ["with, comma", "", ""],
        ["plain", "with, comma", "new\nline"],
    ]
    assert _text(answer["policy"]) == ["relevance+groups", "relevance+groups", "relevance"]


def test_other_weights_multiply_the_odds(ask):
    # u1 scores 3 ("a") above 2 ("b"). With the temperature 0.5 the odds between them are
    # exp(1 / 0.5) = 7.4, which a weight of 7 does not turn and one of 8 does.
    controls = [{"b": 7.0}, {"b": 8.0}, {"*": 0.125, "b": 1.0}, {"a": 0.0, "b": 8.0}]
    answer = ask("controlled", ["u1"] * 4, k=2, controls=controls, temperature=0.5)
    assert _text(answer["candidate_ids"]) == [
        ["plain", "with, comma"],
        ["with, comma", "plain"],
        ["with, comma", "plain"],
        ["with, comma", "new\nline"],
    ]
    # What is returned is the score, not what it was raised to.
    assert answer["scores"][1].tolist() == [2, 3]


def test_a_weight_that_is_repeated_counts_once(make):
    """As a server does to the first one, where it merges requests that are not equally long."""
    inputs = {
        "user_id": tf.constant(["u1"]),
        "offset": tf.zeros([1, 1]),
        "policy_key": tf.constant([""]),
        "exclude_ids": tf.zeros([1, 0], tf.string),
        "control_groups": tf.constant([["b", "b"]]),
        "control_weights": tf.constant([[7.0, 7.0]]),
    }
    answer = make(k=2, temperature=0.5).make_signatures()["controlled"](**inputs)
    assert _text(answer["candidate_ids"].numpy()) == [["plain", "with, comma"]]


def test_a_policy_key_is_looked_up_and_others_get_the_default(ask):
    slices = {"slice": "s", "values": {"x": {"shares": {"a": 0.9999999, "b": 0.0000001}}}}
    settings = {
        "kind": "quota",
        "tolerance": 0.0,
        "target": {"a": 0.5, "b": 0.5},
        "by_slice": slices,
    }
    keys = ["", "token", "wrong"]
    answer = ask("controlled", ["u1"] * 3, keys=keys, policy_keys=["token"], **settings)
    assert _text(answer["policy"]) == ["quota", "quota/1", "quota"]
    assert _text(answer["groups"]) == [["a", "b"], ["a", "a"], ["a", "b"]]


def test_inputs_are_those_of_the_query_tower(make):
    inputs = {
        name: set(function.structured_input_signature[1])
        for name, function in make().make_signatures().items()
    }
    features = {"user_id", "offset"}
    assert inputs == {
        "serving_default": features,
        "relevance": features,
        "controlled": features | set(CONTROLS),
        "query_embedding": features,
    }


def test_loading_what_is_no_export_says_so(tmp_path):
    with pytest.raises(InvalidInputError, match="holds no exported retriever"):
        load_retriever(tmp_path)
