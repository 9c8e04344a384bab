"""Adam whose steps do not grow with the embedding tables."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


@tf.keras.utils.register_keras_serializable(package="fairtowers")
class LazyAdam(tf.keras.optimizers.Adam):
    """Adam that touches only the embeddings that occur in a step.

    Adam moves every embedding in every step: where the gradient is 0 the moments `m` and `v` still
    decay, and the embedding moves on by its momentum. That costs time in proportion to the whole
    table. This one updates `m`, `v` and the embedding of the rows that have a gradient, and leaves
    all other rows as they are. For variables without sparse gradients it is Adam.

    It is not the same algorithm. The moments of a row are means over the steps in which it
    occurred instead of over all steps, so a rare row moves by up to the learning rate whenever it
    occurs, where Adam spreads a part of that over the steps that follow, and its `v` forgets
    only when it occurs again. `1 - beta^t`, which corrects for moments that start at 0, counts all
    steps, as in Adam. Where every row occurs in every step the two are equal.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, for Adam; the
    lazy update is that of `LazyAdamOptimizer` in TensorFlow 1 (`tf.contrib.opt`).

    Args:
        learning_rate: A float or a schedule.
        **kwargs: As for Adam, except `weight_decay` and `amsgrad`, which look at every row.
    """

    def __init__(
        self,
        learning_rate: float | tf.keras.optimizers.schedules.LearningRateSchedule = 0.001,
        **kwargs: Any,
    ) -> None:
        for name in ("weight_decay", "amsgrad"):
            if kwargs.get(name):
                raise ValueError(f"`{name}` is not for a lazy optimizer. Received: {kwargs[name]}.")
        # XLA would compile the step anew for every number of rows.
        super().__init__(learning_rate, **{"name": "LazyAdam", **kwargs, "jit_compile": False})

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Updates a variable; Keras has added up the gradients of rows that occur repeatedly."""
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable)
            return
        position = self._index_dict[self._var_key(variable)]
        first, second = self._momentums[position], self._velocities[position]
        step = tf.cast(self.iterations + 1, variable.dtype)
        correction = tf.sqrt(1.0 - self.beta_2**step) / (1.0 - self.beta_1**step)
        rate = tf.cast(self.learning_rate, variable.dtype) * correction
        rows, values = gradient.indices, gradient.values
        m = self.beta_1 * tf.gather(first, rows) + (1.0 - self.beta_1) * values
        v = self.beta_2 * tf.gather(second, rows) + (1.0 - self.beta_2) * tf.square(values)
        first.scatter_update(tf.IndexedSlices(m, rows))
        second.scatter_update(tf.IndexedSlices(v, rows))
        change = rate * m / (tf.sqrt(v) + self.epsilon)
        variable.scatter_sub(tf.IndexedSlices(change, rows))
