"""One model of a run: how it is trained, indexed, exported and audited."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console

from fairness_losses.config import FairnessConfig
from pipelines.config import RunConfig
from pipelines.run_directory import RunDirectory
from towers.config import ITEM_ID, USER_ID

if TYPE_CHECKING:
    from pipelines.audit.measurement import Measurement
    from serving.config import ServingConfig

BASELINE = "without_regularizer"
"""The variant that every other one is compared with."""

_WARMUP = 8
"""Users and items whose requests are replayed before a server takes others."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """A model of a run. What writes a stage returns what its record says of it.

    Attributes:
        name: Of its folder.
        config: Of the run.
        directory: Of the run.
    """

    name: str
    config: RunConfig
    directory: RunDirectory

    def path(self, stage: str) -> pathlib.Path:
        """Returns the folder of one of its stages."""
        return self.directory.path(f"{self.name}/{stage}")

    @property
    def examples(self) -> pathlib.Path:
        """Folder of the run's examples."""
        return self.directory.path("examples")

    @property
    def served(self) -> str:
        """The stage of the newest exported version."""
        serving = f"{self.name}/serving/{self.config.serving.name}"
        return f"{serving}/{latest_version(self.directory.path(serving)) or 1}"

    def train(
        self, fairness: FairnessConfig | None, out: pathlib.Path, console: Console
    ) -> dict[str, Any]:
        """Trains the model, or goes on where it was killed."""
        from pipelines.progress_bar import ProgressBar
        from towers.training import train

        config = self.config
        shown = ["retrieval_loss", f"val_ndcg@{max(config.training.evaluate_at)}"]
        bar = ProgressBar(f"{self.name}/model", shown, console)
        history = train(config.model, self.examples, out, config.seed, fairness, callbacks=[bar])
        return {"epochs": len(history), **without_slices(history[-1]), **constraint_of(out)}

    def train_checked(
        self, fairness: FairnessConfig | None, out: pathlib.Path, console: Console
    ) -> dict[str, Any]:
        """Trains the first variant; what the second would be refused for is refused before."""
        from towers.building import build_regularizer
        from towers.training_data import TrainingData

        config = self.config
        if config.groups and config.fairness.weight > 0:
            data = TrainingData.load(config.model, self.examples)
            second = variant_fairness(config, config.fairness.regularizer)
            build_regularizer(second, config.training, data)
        return self.train(fairness, out, console)

    def embed_catalogue(self, out: pathlib.Path, beam_args: Sequence[str]) -> dict[str, Any]:
        """Embeds the items with the candidate tower."""
        from pipelines.embedding import embed_catalogue

        return embed_catalogue(
            self.examples / "catalogue.parquet",
            self.path("model") / "candidate_tower",
            self.config.towers.dim,
            out,
            beam_args,
        )

    @property
    def index_settings(self) -> list[object]:
        """What the index depends on besides the vectors."""
        settings: list[object] = [self.config.serving.of_the_index(), self.config.seed]
        needs_target = self.config.serving.policy.kind != "relevance"
        return [*settings, self.config.fairness.target] if needs_target else settings

    def build_index(self, out: pathlib.Path) -> dict[str, Any]:
        """Builds or refreshes the index, and plans the mix."""
        from serving.index import build_index
        from serving.mix.plan import index_queries, index_vectors, plan_mix
        from towers.exported_tower import ExportedTower

        config = self.config.serving
        embeddings = self.path("embeddings")
        vectors = np.load(embeddings / "vectors.npy")
        items = pq.read_table(embeddings / "items.parquet")
        labels = items["group"].to_numpy()
        users = pq.read_table(self.examples / "users.parquet")
        queries = ExportedTower(self.path("model") / "query_tower").embed(users)
        report = build_index(
            index_vectors(vectors, labels, config.policy),
            labels,
            config,
            out,
            self.config.seed,
            query_vectors=index_queries(queries, labels, config.policy),
            item_ids=items[ITEM_ID].to_numpy(),
            previous_dir=None if self.directory.force else self.path("index"),
        )
        if config.policy.kind == "relevance":
            return report
        catalogue = pq.read_table(self.examples / "catalogue.parquet")
        plan = plan_mix(
            vectors,
            labels,
            config,
            out,
            self.config.seed,
            target=self.config.fairness.target,
            query_vectors=queries,
            relevance=catalogue["frequency"].to_numpy(),
        )
        return {**report, "mix": plan}

    def export(
        self, serving: ServingConfig, version: int, exact: bool, out: pathlib.Path
    ) -> dict[str, Any]:
        """Writes a version of the SavedModel and asks it in a fresh process."""
        from serving.check import check_in_fresh_process
        from serving.export import keys_of_slices, write_version
        from towers.exported_tower import ExportedTower

        model, examples = self.path("model"), self.examples
        users = pq.read_table(examples / "users.parquet").slice(0, _WARMUP)
        items = pq.read_table(examples / "catalogue.parquet").slice(0, _WARMUP)
        write_version(
            model / "query_tower",
            self.path("embeddings"),
            self.path("index"),
            serving,
            out,
            version,
            {"run": self.config.name, "variant": self.name, "seed": self.config.seed},
            ExportedTower(model / "query_tower").raw(users),
            policy_keys=keys_of_slices(self.path(f"serving/{serving.name}"), serving),
            candidate_tower_dir=model / "candidate_tower",
            warmup_items=ExportedTower(model / "candidate_tower").raw(items),
            temperature=self.config.training.temperature,
            exact=exact,
        )
        check_in_fresh_process(out)
        return {"version": version}

    def audit(self, out: pathlib.Path) -> dict[str, Any]:
        """Asks the export for the test users' lists and measures them."""
        from pipelines.audit.figures import audit
        from pipelines.audit.served_lists import serve_test_users

        lists = serve_test_users(
            self.examples,
            self.path("model") / "query_tower",
            self.directory.path(self.served),
            self.config,
        )
        pq.write_table(lists, out / "lists.parquet")
        report = audit(self.measure(lists), self.config)
        report["leakage"] = self._probe(lists[USER_ID])
        (out / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False))
        return {
            "lists": lists.num_rows,
            "candidates": len(lists["candidate_ids"].combine_chunks().flatten()),
        }

    def measure(self, lists: pa.Table) -> Measurement:
        """Measures lists of the test users."""
        from pipelines.audit.measurement import measure
        from pipelines.audit.served_lists import relevant_pairs

        examples = self.examples
        return measure(
            lists,
            pq.read_table(examples / "catalogue.parquet"),
            pq.read_table(examples / "users.parquet"),
            relevant_pairs(examples),
            self.config,
            {"variant": self.name},
        )

    def _probe(self, user_ids: pa.ChunkedArray) -> list[dict[str, Any]]:
        from pipelines.audit.leakage import leakage
        from towers.exported_tower import ExportedTower

        users = pq.read_table(self.examples / "users.parquet")
        users = users.filter(pc.is_in(users[USER_ID], user_ids.combine_chunks()))
        tower = ExportedTower(self.path("model") / "query_tower")
        embeddings = self.path("embeddings")
        return leakage(
            users,
            tower.embed(users),
            pq.read_table(embeddings / "items.parquet"),
            np.load(embeddings / "vectors.npy"),
            self.config,
        )


def variant_fairness(config: RunConfig, variant: str) -> FairnessConfig:
    """Returns how a variant is trained: its depth said, and without a weight for the baseline."""
    depth = config.fairness.depth or max(config.audit.ks)
    off = {"weight": 0.0} if variant == BASELINE else {}
    return config.fairness.model_copy(update={"depth": depth, **off})


def model_settings(config: RunConfig, fairness: FairnessConfig | None) -> list[object]:
    """Returns what a trained model depends on besides the examples."""
    return [config.model, fairness, config.seed]


def constraint_of(model: pathlib.Path) -> dict[str, Any]:
    """Returns how much of a model's constraint is met and what is not; nothing if it has none."""
    path = model / "constraint.json"
    if not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return {
        "bands": len(found["constraints"]),
        "unmet_bands": len(found["unmet"]),
        "unmet": found["unmet"],
    }


def without_slices(epoch: dict[str, Any]) -> dict[str, Any]:
    """Leaves figures of user slices to the audit, which knows when to suppress them."""
    return {
        name: value
        for name, value in epoch.items()
        if "[" not in name or name.startswith("val_exposure_ratio")
    }


def latest_version(folder: pathlib.Path) -> int:
    """Returns the number of the newest complete version in a serving folder; 0 if there is none."""
    return max((int(p.name) for p in folder.glob("[0-9]*") if p.name.isdigit()), default=0)
