"""Features: what a raw value is looked up as, and what it becomes as a vector."""

import numpy as np
import pytest
import tensorflow as tf

from fairness_losses.errors import InvalidInputError
from towers.config import (
    CategoricalFeature,
    Feature,
    IdFeature,
    NumericFeature,
    TextFeature,
    VectorFeature,
)
from towers.features import FeatureLayer, FeatureStatistics, build_feature, lookup_columns

ODD_IDS = ["a b", "a,b", "a\nb", "ünïcödé 日本", "[UNK]", "\t", "0", "-1"]


def layer(feature: Feature, dim: int = 3, **statistics) -> FeatureLayer:
    return build_feature(feature, FeatureStatistics(**statistics), dim)


def user_id(*vocabulary: str) -> FeatureLayer:
    return layer(IdFeature(kind="id", column="user_id"), vocabulary=vocabulary)


def genres(*vocabulary: str) -> FeatureLayer:
    return layer(CategoricalFeature(kind="categorical", column="genres"), vocabulary=vocabulary)


def title(bins: int = 1000, max_words: int = 4) -> FeatureLayer:
    return layer(TextFeature(kind="text", column="title", bins=bins, max_words=max_words))


def look_up(feature: FeatureLayer, raw: list) -> np.ndarray:
    return feature.lookup(tf.constant(raw)).numpy()


class TestId:
    def test_ids_are_numbered_from_2_and_unseen_ones_are_1(self):
        looked_up = look_up(user_id("u1", "u2"), ["u2", "stranger", "u1", ""])
        np.testing.assert_array_equal(looked_up, [3, 1, 2, 1])
        assert looked_up.dtype == np.int32

    def test_every_id_is_its_own_whatever_characters_it_holds(self):
        looked_up = look_up(user_id(*ODD_IDS), [*ODD_IDS, "a", "A B", "unk"])
        np.testing.assert_array_equal(looked_up, [2, 3, 4, 5, 6, 7, 8, 9, 1, 1, 1])

    def test_the_most_frequent_id_may_be_called_like_the_unknown_token_of_keras(self):
        looked_up = look_up(user_id("[UNK]", "u1"), ["[UNK]", "u1", "stranger"])
        np.testing.assert_array_equal(looked_up, [2, 3, 1])

    def test_unseen_ids_share_one_embedding(self):
        feature = user_id("u1")
        vectors = feature(feature.lookup(tf.constant(["x", "y", "u1"]))).numpy()
        assert vectors.shape == (3, 3)
        np.testing.assert_array_equal(vectors[0], vectors[1])
        assert (vectors[0] != vectors[2]).all()

    def test_ids_can_be_hashed_into_a_fixed_number_of_embeddings(self):
        """10,000 ids in 50 bins: 200 a bin, give or take 14; padding and unseen are 0 and 1."""
        feature = layer(IdFeature(kind="id", column="user_id", bins=50))
        looked_up = look_up(feature, [f"u{i}" for i in range(10_000)])
        assert looked_up.dtype == np.int32
        counts = np.bincount(looked_up, minlength=52)
        assert counts[:2].tolist() == [0, 0]
        assert 140 < counts[2:].min() <= counts.max() < 260
        assert feature.embedding.embeddings.shape == (52, 3)
        np.testing.assert_array_equal(look_up(feature, [""]), [1])

    def test_dropout_puts_unseen_ids_into_the_place_of_known_ones_in_training_only(self):
        """Of 10,000 ids 30 % are replaced: 3,000, give or take 46."""
        feature = layer(IdFeature(kind="id", column="user_id", dropout=0.3), vocabulary=["u1"])
        unseen, known = feature(tf.constant([1, 2])).numpy()
        ids = tf.fill([10_000], 2)
        vectors = feature(ids, training=True).numpy()
        replaced = (vectors == unseen).all(axis=1)
        assert (replaced | (vectors == known).all(axis=1)).all()
        assert 2700 < replaced.sum() < 3300
        np.testing.assert_array_equal(feature(ids), np.tile(known, [10_000, 1]))

    def test_dropout_trains_the_embedding_of_unseen_ids(self):
        """The gradient of the sum is how often each embedding stands there."""
        feature = layer(IdFeature(kind="id", column="user_id", dropout=0.5), vocabulary=["u1"])
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(feature(tf.fill([100], 2), training=True))
        gradient = tf.convert_to_tensor(tape.gradient(total, feature.embedding.embeddings))
        unseen, known = gradient[1, 0].numpy(), gradient[2, 0].numpy()
        assert unseen + known == 100
        assert 25 < unseen < 75


class TestCategorical:
    def test_padding_is_0_unseen_categories_are_1_and_the_seen_begin_at_2(self):
        looked_up = look_up(genres("drama", "war"), [["war", "drama"], ["opera", ""]])
        np.testing.assert_array_equal(looked_up, [[3, 2], [1, 0]])
        assert looked_up.dtype == np.int32

    def test_odd_categories_are_their_own(self):
        looked_up = look_up(genres(*ODD_IDS), [ODD_IDS])
        np.testing.assert_array_equal(looked_up, [range(2, 10)])

    def test_a_column_without_any_category_in_training_is_unseen_throughout(self):
        np.testing.assert_array_equal(look_up(genres(), [["war", ""]]), [[1, 0]])

    def test_a_bag_is_the_mean_of_its_categories_without_padding(self):
        feature = genres("drama", "war")
        embed = lambda *values: feature(tf.constant([values])).numpy()[0]  # noqa: E731
        expected = (embed(2) + embed(3)) / 2
        np.testing.assert_allclose(embed(2, 3, 0), expected, rtol=1e-6)
        np.testing.assert_array_equal(embed(0, 0, 0), np.zeros(3))
        assert embed(1).any()

    def test_categories_can_be_hashed(self):
        feature = layer(CategoricalFeature(kind="categorical", column="genres", bins=1000))
        looked_up = look_up(feature, [["war", "drama"], ["drama", ""]])
        assert looked_up[0, 1] == looked_up[1, 0] != looked_up[0, 0]
        assert looked_up[1, 1] == 0
        assert (looked_up.ravel()[:3] >= 2).all()


class TestText:
    def test_words_are_numbered_from_1_and_short_texts_padded(self):
        looked_up = look_up(title(bins=10), ["one two", ""])
        assert looked_up.shape == (2, 4)
        assert looked_up.dtype == np.int32
        assert (looked_up[0, :2] >= 1).all()
        assert (looked_up <= 10).all()
        np.testing.assert_array_equal(looked_up[0, 2:], 0)
        np.testing.assert_array_equal(looked_up[1], 0)

    @pytest.mark.parametrize(
        "same", ["THE WAR, part II!", "  the\twar\npart—ii ", "«The» war: (part) $ii$"]
    )
    def test_case_punctuation_and_spaces_do_not_matter(self, same):
        first, second = look_up(title(), ["The War part II", same])
        np.testing.assert_array_equal(first, second)

    def test_case_does_not_matter_beyond_ascii(self):
        upper, lower, plain = look_up(title(bins=100_000), ["ÉCOLE", "école", "ecole"])
        assert upper[0] == lower[0] != plain[0]

    def test_words_beyond_the_limit_are_left_out(self):
        four, more = look_up(title(max_words=4), ["a b c d", "a b c d e f"])
        np.testing.assert_array_equal(four, more)

    def test_pairs_of_words_are_values_too(self):
        """`a b c` has 3 words and the pairs `a b` and `b c`; 4 words would have 4 and 3."""
        feature = layer(
            TextFeature(kind="text", column="title", bins=100_000, max_words=4, ngrams=2)
        )
        looked_up = look_up(feature, ["A b, c", "b c", "c b", "a", "", "a b c d e"])
        assert looked_up.shape == (6, 7)
        assert (looked_up > 0).sum(axis=1).tolist() == [5, 3, 3, 1, 0, 7]
        first, pair, turned = (set(row[row > 0]) for row in looked_up[:3])
        assert pair < first
        assert len(pair & turned) == 2  # The words, but not the pair.
        assert look_up(feature, ["ab"])[0, 0] not in first  # `a b` is no word.

    def test_words_alone_have_the_bins_they_have_beside_pairs(self):
        pairs = layer(TextFeature(kind="text", column="title", bins=1000, ngrams=2))
        words = look_up(title(max_words=16), ["a b c"])
        np.testing.assert_array_equal(look_up(pairs, ["a b c"])[0, :3], words[0, :3])

    def test_sequences_longer_than_a_text_may_be_are_left_out(self):
        long = TextFeature(kind="text", column="title", bins=1000, max_words=2, ngrams=5)
        assert look_up(layer(long), ["a b c"]).shape == (1, 3)

    def test_texts_of_punctuation_alone_are_zeros(self):
        feature = title()
        vectors = feature(feature.lookup(tf.constant(["...", "war"]))).numpy()
        np.testing.assert_array_equal(vectors[0], np.zeros(3))
        assert vectors[1].any()


class TestNumeric:
    YEAR = NumericFeature(kind="numeric", column="year")

    def test_numbers_are_normalised(self):
        """Mean 2000, standard deviation 10."""
        year = layer(self.YEAR, mean=2000.0, variance=100.0)
        looked_up = year.lookup(tf.constant([1990.0, 2000.0, 2025.0]))
        np.testing.assert_allclose(looked_up, [-1.0, 0.0, 2.5])
        assert year(looked_up).shape == (3, 1)

    def test_whole_numbers_are_numbers(self):
        year = layer(self.YEAR, mean=2000.0, variance=100.0)
        np.testing.assert_allclose(year.lookup(tf.constant([1990, 2010])), [-1.0, 1.0])

    def test_what_was_constant_in_the_table_is_centred_but_not_blown_up(self):
        """No variance: another value at serving time must not become a million."""
        year = layer(self.YEAR, mean=2000.0, variance=0.0)
        np.testing.assert_allclose(year.lookup(tf.constant([2000.0, 2001.0])), [0.0, 1.0])


class TestVector:
    def test_vectors_are_projected(self):
        style = layer(VectorFeature(kind="vector", column="style"), dim=5, length=2)
        raw = tf.constant([[1.0, 2.0], [3.0, 4.0]])
        np.testing.assert_array_equal(style.lookup(raw), raw)
        assert style(raw).shape == (2, 5)
        assert style.raw_spec.shape.as_list() == [None, 2]

    def test_vectors_can_be_brought_to_length_1(self):
        """3, 4 has length 5."""
        style = VectorFeature(kind="vector", column="style", normalize=True)
        looked_up = layer(style, length=2).lookup(tf.constant([[3.0, 4.0], [0.0, 0.0]]))
        np.testing.assert_allclose(looked_up, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)


def test_lookup_columns_looks_up_each_feature_in_its_own_column():
    columns = {
        "user_id": tf.constant(["u1"]),
        "genres": tf.constant([["war", ""]]),
        "other": tf.constant([1.0]),
    }
    looked_up = lookup_columns([user_id("u1"), genres("war")], columns)
    assert sorted(looked_up) == ["genres", "user_id"]
    np.testing.assert_array_equal(looked_up["genres"], [[2, 0]])


def test_a_missing_column_is_named_along_with_those_given():
    with pytest.raises(InvalidInputError, match="`genres` is missing; given are title, user_id"):
        lookup_columns([genres("war")], {"user_id": None, "title": None})


@pytest.mark.parametrize(
    ("feature", "raw"),
    [
        (user_id("u1"), ["u1", "x"]),
        (layer(IdFeature(kind="id", column="user_id", bins=9)), ["u1", ""]),
        (layer(TextFeature(kind="text", column="title", ngrams=3)), ["a b c d", ""]),
        (genres("war"), [["war", "x"], ["", ""]]),
        (title(), ["a war", ""]),
        (layer(NumericFeature(kind="numeric", column="n"), variance=4.0), [1.0, 3.0]),
    ],
)
def test_lookups_are_the_same_inside_a_graph(feature, raw):
    """Training looks up eagerly, serving inside the graph."""
    in_graph = tf.function(feature.lookup, input_signature=[feature.raw_spec])(tf.constant(raw))
    np.testing.assert_array_equal(in_graph, look_up(feature, raw))
