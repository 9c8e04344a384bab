"""What happens after every epoch: exact evaluation, history, checkpoint."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable

import tensorflow as tf

from fairness_losses.errors import DivergedError
from towers.model import FairRetrievalModel


class EpochCheckpoint(tf.keras.callbacks.Callback):
    """Evaluates, records and saves the model after every epoch, so that training can resume.

    The history is part of the checkpoint: what is restored is one state, however the process that
    wrote it ended.

    Args:
        model: The built model.
        out_dir: Receives `checkpoints` and `history.json`.
        evaluate: Returns the validation metrics of the model as it is.
    """

    def __init__(
        self,
        model: FairRetrievalModel,
        out_dir: pathlib.Path,
        evaluate: Callable[[], dict[str, float]],
    ) -> None:
        super().__init__()
        self.history: list[dict[str, float]] = []
        self._out_dir = out_dir
        self._evaluate = evaluate
        self._history_json = tf.Variable("[]", dtype=tf.string, trainable=False)
        state = tf.train.Checkpoint(
            model=model, optimizer=model.optimizer, history=self._history_json
        )
        self._manager = tf.train.CheckpointManager(
            state, str(out_dir / "checkpoints"), max_to_keep=1
        )

    def resume(self) -> int:
        """Restores the last completed epoch, if there is one.

        Returns:
            Number of completed epochs.
        """
        if self._manager.latest_checkpoint:
            self._manager.checkpoint.restore(self._manager.latest_checkpoint).assert_consumed()
            self.history = json.loads(self._history_json.numpy())
            self._write_history()
        return len(self.history)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Evaluates, records and saves the epoch that ended."""
        row = {"epoch": epoch + 1, **{k: float(v) for k, v in (logs or {}).items()}}
        row.pop("regularization_loss", None)
        row.pop("total_loss", None)
        metrics = {f"val_{name}": value for name, value in self._evaluate().items()}
        (logs if logs is not None else {}).update(metrics)
        self.history.append(row | metrics)
        self._refuse_divergence(row)
        self._history_json.assign(json.dumps(self.history))
        self._manager.save(epoch + 1)
        self._write_history()

    @staticmethod
    def _refuse_divergence(row: dict[str, float]) -> None:
        if not row["loss"] < float("inf"):
            raise DivergedError(
                f"the loss is {row['loss']} after epoch {row['epoch']:.0f}: training diverged. "
                "Lower `training.learning_rate` or `fairness.weight`."
            )

    def _write_history(self) -> None:
        temporary = self._out_dir / "history.tmp"
        temporary.write_text(json.dumps(self.history, indent=1))
        temporary.replace(self._out_dir / "history.json")
