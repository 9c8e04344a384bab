"""The parts of the closed loop, each by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fairness_losses.browsing import dcg_weights
from pipelines.config import SyntheticConfig
from pipelines.datasets.marketplace import ground_truth
from pipelines.simulation.clicks import attainable, click_probability
from pipelines.simulation.config import ArmConfig, SimulationConfig, SupplyConfig
from pipelines.simulation.figures import summarise
from pipelines.simulation.learning import Vectors, write_examples
from pipelines.simulation.pairs import Pairs
from pipelines.simulation.serving import make_lists
from pipelines.simulation.supply import Supply
from pipelines.simulation.world import draw_world
from towers.config import FeaturesConfig, ModelConfig
from towers.training_data import TrainingData

SMALL = SyntheticConfig(interactions=1000, users=50, items=200)
LOOP = SimulationConfig(
    name="Small", marketplace=SMALL, supply=SupplyConfig(newcomers=0.02), arms={"only": ArmConfig()}
)
FEATURES = FeaturesConfig.model_validate(
    {
        "query": [
            {"kind": "id", "column": "user_id"},
            {"kind": "text", "column": "interests"},
            {"kind": "history", "max_items": 2},
        ],
        "candidate": [
            {"kind": "id", "column": "item_id"},
            {"kind": "categorical", "column": "category"},
            {"kind": "numeric", "column": "price"},
            {"kind": "vector", "column": "style"},
        ],
    }
)


@dataclasses.dataclass
class Fixed:
    """Draws the same number for everybody."""

    number: float

    def random(self, size):
        return np.full(size, self.number)


def supply(settings, queue=()):
    """Creators 0 to 2 with two, one and one items are there; 3 and 4 with one each are not."""
    present = np.array([True, True, True, False, False])
    return Supply(settings, np.array([0, 0, 1, 2, 3, 4]), present, np.array(queue, dtype=int))


def test_who_is_seen_less_than_others_leaves():
    # Of the items that are there the mean attention is 1: the creators have 2, 1 and 0 times it.
    attention = np.array([1.0, 3.0, 0.0, 0.0, 0.0, 0.0])
    market = supply(SupplyConfig(leave=1.0, newcomers=0.0))
    # exp(-2) = 0.135, exp(0) = 1.
    assert market.next_round(attention, Fixed(0.2)) == (2, 0)
    assert market.present.tolist() == [True, False, False, False, False]
    assert market.items.tolist() == [0, 1]


def test_attention_is_counted_per_item_and_against_those_that_are_there():
    attention = np.array([1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    for number, stay in ((0.36, 0), (0.37, 3)):
        market = supply(SupplyConfig(leave=1.0, newcomers=0.0))
        market.next_round(attention, Fixed(number))
        # All have exactly the mean: exp(-1) = 0.3679.
        assert market.present.sum() == stay


def test_nobody_leaves_where_leaving_is_ruled_out():
    market = supply(SupplyConfig(leave=0.0, newcomers=0.0))
    assert market.next_round(np.eye(6)[0], Fixed(0.0)) == (0, 0)


def test_newcomers_come_in_the_order_of_the_queue_until_it_is_empty():
    market = supply(SupplyConfig(leave=0.0, newcomers=0.34), queue=[4, 3])
    assert market.next_round(np.ones(6), Fixed(0.5)) == (0, 1)
    assert market.items.tolist() == [0, 1, 2, 3, 5]
    assert market.next_round(np.ones(6), Fixed(0.5)) == (0, 1)
    assert market.next_round(np.ones(6), Fixed(0.5)) == (0, 0)
    assert market.present.all()


def test_a_click_needs_a_look_and_a_liking():
    market = ground_truth(SMALL, 0)
    users = np.array([3, 7])
    lists = np.array([[10, 20, -1], [30, 10, 20]])
    found = click_probability(market, users, lists)
    liking = market.relevance_matrix(users)
    looks = [1.0, 1 / np.log2(3), 0.5]
    assert found[0] == pytest.approx([liking[0, 10], liking[0, 20] * looks[1], 0])
    assert found[1] == pytest.approx(liking[1, [30, 10, 20]] * looks)


def test_what_is_attainable_is_the_best_list_of_what_is_there_and_not_seen():
    market = ground_truth(SMALL, 0)
    users, items = np.array([3, 7]), np.arange(0, 200, 2)
    seen = np.array([[0, 5, 9], [1, -1, -1]])
    expected = 0.0
    for user, left_out in zip(users, ([0, 5, 9], [1]), strict=True):
        liking = market.relevance_matrix(np.array([user]))[0, np.delete(items, left_out)]
        expected += np.sort(liking)[::-1][:4] @ dcg_weights(4)
    assert attainable(market, users, items, seen, 4) == pytest.approx(expected / 2, rel=1e-5)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=30),
    st.sets(st.integers(0, 9), min_size=1),
)
def test_choices_of_items_that_are_there(pairs, items):
    there = np.array(sorted(items))
    chosen = Pairs(*np.array(pairs).T).among(there).by_user(5)
    for user, row in enumerate(chosen):
        wanted = [item for who, item in pairs if who == user and item in items]
        assert there[row[row >= 0]].tolist() == wanted
        assert (row[len(wanted) :] == -1).all()


def test_a_world_begins_with_the_choices_that_were_possible():
    world = draw_world(LOOP, 5)
    creators = len(world.present)
    assert world.present.sum() == round(0.6 * creators)
    assert sorted([*np.flatnonzero(world.present), *world.queue]) == list(range(creators))
    assert world.present[world.market.creator[world.log.items]].all()
    # 60 % of the creators have about 60 % of what was chosen.
    assert 400 < len(world.log.items) < 800
    again = draw_world(LOOP, 5)
    assert (again.log.items == world.log.items).all()
    assert (again.queue == world.queue).all()
    labels = world.items["group"].to_numpy()
    assert ((labels == "unknown") == ~world.market.labelled).all()


def test_examples_are_what_training_reads(tmp_path):
    world = draw_world(LOOP, 5)
    items = world.items.take([4, 8, 15, 16, 23])
    pairs = Pairs(np.array([0, 1, 0, 0]), np.array([0, 3, 1, 3]))
    write_examples(FEATURES, world.users, items, pairs, tmp_path)
    data = TrainingData.load(ModelConfig(features=FEATURES), tmp_path)
    assert data.catalogue.frequency.tolist() == [1, 1, 0, 2, 0]
    assert data.train_users.tolist() == [0, 1, 0, 0]
    assert data.train.candidates.tolist() == [0, 3, 1, 3]
    # Ids of items that nobody chose are not known: 1.
    numbers = data.catalogue.columns["item_id"]
    assert (numbers[[2, 4]] == 1).all()
    assert (numbers[[0, 1, 3]] > 1).all()
    # The latest two choices of each.
    histories = data.users.columns["history"]
    assert histories[0].tolist() == numbers[[1, 3]].tolist()
    assert histories[1].tolist() == [numbers[3], 0]
    assert not histories[2:].any()
    assert pq.read_table(tmp_path / "catalogue.parquet")["group"].equals(items["group"])


LABELS = np.array(["a"] * 30 + ["b"] * 30)


def lists_of(policy, seen, tmp_path):
    """Lists of eight, where every user likes all of a better than all of b."""
    rng = np.random.default_rng(0)
    items = rng.normal(size=(60, 4)).astype(np.float32)
    items[:, 0] = np.where(LABELS == "a", 8.0, 0.0)
    users = np.ones((300, 4), np.float32)
    arm = ArmConfig.model_validate({"policy": policy})
    ids = np.arange(60).astype(str)
    order = rng.permutation(300)
    return make_lists(arm, 8, Vectors(users, items), ids, LABELS, seen, order, tmp_path / "i", 0)


def test_lists_leave_out_what_a_user_has_seen(tmp_path):
    seen = np.full((300, 2), -1, np.int32)
    free = lists_of({}, seen, tmp_path)
    assert (LABELS[free] == "a").all()
    seen[7] = free[7, :2]
    found = lists_of({}, seen, tmp_path)
    assert found[7, :6].tolist() == free[7, 2:].tolist()
    assert (np.delete(found, 7, axis=0) == np.delete(free, 7, axis=0)).all()


def test_a_quota_holds_in_every_list(tmp_path):
    policy = {"kind": "quota", "tolerance": 0.0, "target": {"kind": "uniform"}}
    found = lists_of(policy, np.full((300, 1), -1, np.int32), tmp_path)
    assert ((LABELS[found] == "b").sum(axis=1) == 4).all()


def test_steering_brings_the_exposure_of_a_round_to_its_target(tmp_path):
    policy = {"kind": "steered", "target": {"kind": "uniform"}}
    found = lists_of(policy, np.full((300, 1), -1, np.int32), tmp_path)
    exposure = (LABELS[found] == "b") @ dcg_weights(8)
    assert exposure.mean() / dcg_weights(8).sum() == pytest.approx(0.5, abs=0.05)


def row(utility, held_back, items, creators=10):
    return {
        "utility": utility,
        "attainable": 4.0,
        "exposure": [1 - held_back, 0, held_back, 0],
        "items": items,
        "creators": creators,
        "left": 0,
        "came": 0,
    }


def test_figures_by_hand():
    first, later = [50, 25, 15, 10], [50, 40, 5, 5]
    rows = {
        "nothing": [[row(1, 0.2, first), row(2, 0.1, later, 12)]] * 2,
        "mine": [
            [row(1, 0.2, first), row(3, 0.2, later)],
            [row(1, 0.2, first), row(4, 0.2, later)],
        ],
    }
    found = summarise(rows, 0.95)
    last = {name: entries[1] for name, entries in found["nothing"].items()}
    assert last["regret"]["value"] == pytest.approx(0.5)
    assert last["creators"]["value"] == pytest.approx(1.2)
    # A tenth of the attention, of what were 25 of 100 items and are 10 of 100.
    assert last["exposure[held_back]"]["value"] == pytest.approx(0.4)
    assert last["exposure_per_item[held_back]"]["value"] == pytest.approx(1.0)
    assert last["supply[held_back]"]["value"] == pytest.approx(0.4)
    assert last["supply[range_3]"]["value"] == pytest.approx(1 / 3)
    # No two seeds differ, so nothing is left to chance.
    assert last["utility"] == {"value": 2, "low": 2, "high": 2}
    change = found["mine"]["utility"][1]["change"]
    # 1 and 2: mean 1.5, standard error 0.5, and Student's 12.706 with one degree of freedom.
    assert change["value"] == pytest.approx(1.5)
    assert change["high"] == pytest.approx(1.5 + 0.5 * 12.7062, rel=1e-5)
    assert "change" not in last["utility"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"supply": {"present": 0.9}}, "`supply` needs 1.35 times the creators that there are"),
        ({"arms": {"mine": {"fairness": {"slices": ["gender"]}}}}, "no slices of the users"),
        ({"arms": {"mine": {"fairness": {"regularizer": "magic"}}}}, "should be one of"),
        ({"arms": {"../mine": {}}}, "String should match pattern"),
        ({"arms": {"mine": {"fairness": {"weight": 1}}}, "training": {"catalogue_sample": 0}},
         "`training.catalogue_sample` above 0"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        SimulationConfig.model_validate({"name": "x", "arms": {"only": {}}, **changes})
