"""The main job: every stage from the log to the report, each skipped if it is up to date."""

from __future__ import annotations

import contextlib
import functools
import json
import pathlib
import shutil
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console

from fairness_losses.config import FairnessConfig
from fairness_losses.errors import InvalidInputError
from pipelines.config import RunConfig, fingerprint
from pipelines.run_directory import RunDirectory, files_fingerprint
from towers.config import ITEM_ID, USER_ID

if TYPE_CHECKING:
    from pipelines.audit.measurement import Measurement
    from serving.config import ServingConfig

BASELINE = "without_regularizer"
"""The variant that every other one is compared with."""

_WARMUP_USERS = 8


class Run:
    """A run of one configuration in one folder.

    Args:
        config: The run configuration.
        out: The run directory.
        force: Whether stages run although they are up to date.
        beam_args: Options of the Beam runner.
        console: Where progress is shown; nowhere by default.
        examples_at: Folder that Beam's workers write the examples to; by default the run directory.
    """

    def __init__(
        self,
        config: RunConfig,
        out: pathlib.Path,
        force: bool = False,
        beam_args: Sequence[str] = (),
        console: Console | None = None,
        examples_at: str | None = None,
    ) -> None:
        self.config = config
        self.directory = RunDirectory(out, force)
        self._beam_args = list(beam_args)
        self._console = console or Console(quiet=True)
        self._examples_at = examples_at

    @property
    def _beam_args_here(self) -> list[str]:
        """For stages that need the run directory, which workers of `examples_at` do not share."""
        return self._beam_args if self._examples_at is None else []

    @property
    def variants(self) -> list[str]:
        """Names of the models that are trained and compared."""
        return [BASELINE, self.config.fairness.regularizer] if self.config.groups else [BASELINE]

    def everything(self) -> dict[str, Any]:
        """Runs all stages and returns the report."""
        self.generate()
        self.examples()
        self.validate()
        self.train()
        self.index()
        self.export()
        self.audit()
        return self.report()

    def generate(self) -> None:
        """Makes or converts a built-in data set; nothing to do for the user's own files."""
        if self.config.data.dataset == "files":
            return
        data = self.config.data
        settings: list[object] = [data.dataset, self.config.seed]
        if data.dataset == "synthetic":
            settings.append(data.synthetic)
        else:
            settings.append(_folder_fingerprint(data.directory, self.directory.root))

        def write(out: pathlib.Path) -> dict[str, Any]:
            from pipelines.datasets import generate

            return generate(self.config, out)

        self._build("source", settings, [], write)

    def examples(self) -> None:
        """Builds training examples with Beam."""
        config = self.config
        settings = examples_settings(config)
        source: pathlib.Path | None = None
        inputs = []
        if config.data.dataset == "files":
            from pipelines.examples.inputs import inputs_fingerprint

            self._use_beam_args()
            settings.append(inputs_fingerprint(config))
        else:
            self.directory.required("source", "generate")
            source = self.directory.path("source")
            inputs = ["source"]

        def write(out: pathlib.Path) -> dict[str, Any]:
            if self._examples_at is None:
                from pipelines.examples.pipeline import build_examples

                return build_examples(config, source, out, self._beam_args)
            from pipelines.examples.elsewhere import build_elsewhere

            built_from = fingerprint(settings, self._fingerprints(inputs))
            return build_elsewhere(
                config, source, self._examples_at, built_from, out, self._beam_args
            )

        self._build("examples", settings, inputs, write)

    def validate(self) -> None:
        """Checks the examples against the schema."""
        config = self.config
        schema = self.directory.path("schema") / "schema.pbtxt"
        # A schema is a promise about these settings: with others a new one is inferred.
        contract = fingerprint(
            config.features, config.groups, config.slices, sorted(config.sensitive)
        )
        settings: list[object] = [config.validation, contract, config.audit.min_users]
        if config.validation.schema_path:
            settings.append(files_fingerprint([pathlib.Path(config.validation.schema_path)]))
        if config.validation.serving_path:
            from pipelines.readers.files import file_state, find_files

            self._use_beam_args()
            requests = find_files(config.validation.serving_path, "validation.serving_path")
            settings.append([file_state(file) for file in requests])

        def write(out: pathlib.Path) -> dict[str, Any]:
            from pipelines.validation.validate import RESULTS, AnomaliesError, validate_examples

            record = self.directory.record("schema")
            same = record is not None and record.result.get("contract") == contract
            previous = schema if same and schema.is_file() else None
            root = self.directory.root
            for name in RESULTS:
                (root / name).unlink(missing_ok=True)
            try:
                summary = validate_examples(
                    config, self._path("examples"), out, previous, self._beam_args_here
                )
            except AnomaliesError as error:
                for name in RESULTS:
                    shutil.copy(out / name, root / name)
                page = root / "validation.html"
                raise AnomaliesError(f"{error}\nAll that was found: {page}") from error
            return {"contract": contract, **summary}

        self._build("schema", settings, ["examples"], write)

    def train(self) -> None:
        """Trains every variant."""
        config = self.config
        # The contract has to hold, but how it was checked changes nothing in the model.
        self.directory.required("schema", "validate")
        for variant in self.variants:
            fairness = variant_fairness(config, variant) if config.groups else None
            train = self._train_checked if variant == BASELINE else self._train
            self._build(
                f"{variant}/model",
                model_settings(config, fairness),
                ["examples"],
                functools.partial(train, variant, fairness),
                resumes=True,
            )
            for unmet in _constraint(self._path(f"{variant}/model")).get("unmet", []):
                self._console.print(f"[yellow]constraint not met:[/yellow] {unmet}")

    def index(self) -> None:
        """Embeds the catalogue and builds the index of every variant."""
        for variant in self.variants:
            self._build(
                f"{variant}/embeddings",
                [],
                ["examples", f"{variant}/model"],
                functools.partial(self._embed_catalogue, variant),
            )
            self._build(
                f"{variant}/index",
                self._index_settings(),
                [f"{variant}/embeddings"],
                functools.partial(self._build_index, variant),
            )
            found = _read_json(self._path(f"{variant}/index") / "index.json")
            if not found["target_reached"]:
                short = ", ".join(found["short_groups"]) or "all items"
                self._console.print(
                    f"[yellow]recall target not reached:[/yellow] {found['recall']['overall']:.3f} "
                    f"instead of {found['target']}; below it: {short}"
                )

    def export(self) -> None:
        """Writes the next version of every variant's SavedModel, checked in a fresh process."""
        for variant in self.variants:
            self._export_next(variant, self.config.serving, exact=False)
            index = _read_json(self._path(f"{variant}/index") / "index.json")
            if self.config.serving.also_exact and index["kind"] != "exact":
                name = f"{self.config.serving.name}-exact"
                exact = self.config.serving.model_copy(update={"name": name})
                self._export_next(variant, exact, exact=True)

    def _export_next(self, variant: str, serving: ServingConfig, exact: bool) -> None:
        """Writes the next version of one model, if what it is made of has changed."""
        from serving.publication import publish
        from serving.versions import delete_old

        inputs = [f"{variant}/model", f"{variant}/embeddings", f"{variant}/index"]
        folder = f"{variant}/serving/{serving.name}"
        version = _latest_version(self.directory.path(folder))
        if self.directory.force or not self._is_current(f"{folder}/{version}", [], inputs):
            version += 1
        self._build(
            f"{folder}/{version}",
            [],
            inputs,
            functools.partial(self._export, variant, serving, version, exact),
        )
        model_dir = self.directory.path(folder)
        labels = ", ".join(publish(model_dir / str(version))) or "no label"
        self._console.print(f"{folder}/{version}: {labels}", highlight=False)
        if serving.keep_versions is not None:
            delete_old(model_dir, serving.keep_versions)

    def audit(self) -> None:
        """Asks every exported model for the test users' lists and measures them."""
        for variant in self.variants:
            self._build(
                f"{variant}/audit",
                [self.config.audit, self.config.slices, self.config.fairness.target],
                ["examples", self.served(variant), f"{variant}/model", f"{variant}/embeddings"],
                functools.partial(self._audit, variant),
            )

    def audit_lists(
        self,
        lists: str,
        name: str,
        positives: pathlib.Path | None = None,
        salts: pathlib.Path | None = None,
    ) -> None:
        """Audits files of served lists into `audits/<name>`.

        Args:
            lists: Path or glob of Parquet files, see `pipelines.audit.list_files.ListFiles`.
            name: Of the lists, and of the folder.
            positives: File of `user_id` and `item_id`, what users chose of the lists.
            salts: Folder of the salts, for a serving log.
        """
        from pipelines.audit.job import audit_files
        from pipelines.audit.list_files import ListFiles
        from pipelines.audit.pseudonyms import Pseudonyms
        from pipelines.readers.files import file_state

        config = self.config
        _check_name(name)
        self.directory.required("examples", "examples")
        self._use_beam_args()
        users = self._path("examples").absolute() / "users.parquet"
        known = Pseudonyms(salts.absolute(), users) if salts else None
        files = ListFiles.find(lists, config.seed, known)
        settings: list[object] = [
            config.audit,
            config.slices,
            config.fairness.target,
            config.data.max_dead_letter_share,
            config.seed,
            lists,
            [file_state(file) for file in files.files],
            files_fingerprint([positives] if positives else []),
        ]

        def write(out: pathlib.Path) -> dict[str, Any]:
            examples = self._path("examples")
            return audit_files(config, files, examples, out, name, positives, self._beam_args)

        self._build(f"audits/{name}", settings, ["examples"], write)

    def watch(
        self,
        lists: str,
        stop: threading.Event,
        idle: float | None = None,
        salts: pathlib.Path | None = None,
    ) -> dict[str, int]:
        """Reports on lists that arrive in a folder into `monitoring`, until it is told to stop.

        Arguments and result are those of `pipelines.monitoring.watch.watch`.
        """
        self.directory.required("examples", "examples")
        from pipelines.monitoring.watch import watch

        out = self._path("monitoring")
        return watch(self.config, lists, self._path("examples"), out, stop, idle, salts=salts)

    def report(self) -> dict[str, Any]:
        """Compares the variants in one report and returns its content."""
        inputs = ["examples", "schema"]
        for variant in self.variants:
            inputs += [f"{variant}/{stage}" for stage in ("model", "index", "audit")]
        self._build("report", self.config, inputs, self._write_report)
        return json.loads((self._path("report") / "report.json").read_text(encoding="utf-8"))

    def sweep(self) -> dict[str, Any]:
        """Trains and measures all points of the sweep and returns its frontier."""
        if self.config.sweep is None:
            raise InvalidInputError(
                "the configuration has no `sweep`: say there which regularizers and bonuses to "
                "compare, see `configs/movielens_1m_sweep.yaml`."
            )
        self.generate()
        self.examples()
        self.validate()
        from pipelines.sweep.sweep import Sweep

        points = Sweep(
            self.config,
            self.config.sweep,
            self.directory.root,
            self._build,
            self._train,
            self._console,
        )
        return points.everything()

    def _build(
        self,
        stage: str,
        settings: object,
        inputs: Sequence[str],
        write: Callable[[pathlib.Path], dict[str, Any]],
        resumes: bool = False,
    ) -> None:
        """Brings a stage up to date and says so."""
        if self._is_current(stage, settings, inputs) and not self.directory.force:
            self._console.print(f"{stage:<42} [dim]up to date[/dim]", highlight=False)
            return
        # Training shows a bar of its own, and a terminal has room for one moving thing.
        shown = contextlib.nullcontext() if resumes else self._console.status(f"{stage} …")
        with shown:
            record = self.directory.build(
                stage, settings, self._fingerprints(inputs), write, resumes
            )
        self._console.print(
            f"{stage:<42} [green]done[/green] in {record.seconds:.1f} s", highlight=False
        )

    def _use_beam_args(self) -> None:
        """Makes what is looked up before a job starts heed the job's options."""
        from pipelines.file_systems import use_options

        use_options(self._beam_args)

    def _is_current(self, stage: str, settings: object, inputs: Sequence[str]) -> bool:
        return self.directory.is_current(stage, settings, self._fingerprints(inputs))

    def _fingerprints(self, stages: Sequence[str]) -> dict[str, str]:
        return {name: self.directory.required(name, _command(name)).fingerprint for name in stages}

    def _path(self, stage: str) -> pathlib.Path:
        return self.directory.path(stage)

    def served(self, variant: str) -> str:
        """Returns the stage of the newest exported version."""
        serving = f"{variant}/serving/{self.config.serving.name}"
        return f"{serving}/{_latest_version(self.directory.path(serving)) or 1}"

    def _train(
        self, variant: str, fairness: FairnessConfig | None, out: pathlib.Path
    ) -> dict[str, Any]:
        from pipelines.progress_bar import ProgressBar
        from towers.training import train

        config = self.config
        shown = ["retrieval_loss", f"val_ndcg@{max(config.training.evaluate_at)}"]
        bar = ProgressBar(f"{variant}/model", shown, self._console)
        history = train(
            config.model, self._path("examples"), out, config.seed, fairness, callbacks=[bar]
        )
        return {"epochs": len(history), **_without_slices(history[-1]), **_constraint(out)}

    def _train_checked(
        self, variant: str, fairness: FairnessConfig | None, out: pathlib.Path
    ) -> dict[str, Any]:
        """Trains the first variant; what the second would be refused for is refused before."""
        from towers.building import build_regularizer
        from towers.training_data import TrainingData

        config = self.config
        if config.groups and config.fairness.weight > 0:
            data = TrainingData.load(config.model, self._path("examples"))
            second = variant_fairness(config, config.fairness.regularizer)
            build_regularizer(second, config.training, data)
        return self._train(variant, fairness, out)

    def _embed_catalogue(self, variant: str, out: pathlib.Path) -> dict[str, Any]:
        from pipelines.embedding import embed_catalogue

        return embed_catalogue(
            self._path("examples") / "catalogue.parquet",
            self._path(f"{variant}/model") / "candidate_tower",
            self.config.towers.dim,
            out,
            self._beam_args_here,
        )

    def _index_settings(self) -> list[object]:
        settings: list[object] = [self.config.serving.of_the_index(), self.config.seed]
        needs_target = self.config.serving.policy.kind != "relevance"
        return [*settings, self.config.fairness.target] if needs_target else settings

    def _build_index(self, variant: str, out: pathlib.Path) -> dict[str, Any]:
        from serving.index import build_index
        from serving.mix.plan import index_queries, index_vectors, plan_mix
        from towers.exported_tower import ExportedTower

        config = self.config.serving
        embeddings = self._path(f"{variant}/embeddings")
        vectors = np.load(embeddings / "vectors.npy")
        items = pq.read_table(embeddings / "items.parquet")
        labels = items["group"].to_numpy()
        users = pq.read_table(self._path("examples") / "users.parquet")
        queries = ExportedTower(self._path(f"{variant}/model") / "query_tower").embed(users)
        report = build_index(
            index_vectors(vectors, labels, config.policy),
            labels,
            config,
            out,
            self.config.seed,
            query_vectors=index_queries(queries, labels, config.policy),
            item_ids=items[ITEM_ID].to_numpy(),
            previous_dir=None if self.directory.force else self._path(f"{variant}/index"),
        )
        if config.policy.kind == "relevance":
            return report
        catalogue = pq.read_table(self._path("examples") / "catalogue.parquet")
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

    def _export(
        self, variant: str, serving: ServingConfig, version: int, exact: bool, out: pathlib.Path
    ) -> dict[str, Any]:
        from serving.check import check_in_fresh_process
        from serving.export import keys_of_slices, write_version
        from towers.exported_tower import ExportedTower

        model, examples = self._path(f"{variant}/model"), self._path("examples")
        users = pq.read_table(examples / "users.parquet").slice(0, _WARMUP_USERS)
        items = pq.read_table(examples / "catalogue.parquet").slice(0, _WARMUP_USERS)
        write_version(
            model / "query_tower",
            self._path(f"{variant}/embeddings"),
            self._path(f"{variant}/index"),
            serving,
            out,
            version,
            {"run": self.config.name, "variant": variant, "seed": self.config.seed},
            ExportedTower(model / "query_tower").raw(users),
            policy_keys=keys_of_slices(
                self.directory.path(f"{variant}/serving/{serving.name}"), serving
            ),
            candidate_tower_dir=model / "candidate_tower",
            warmup_items=ExportedTower(model / "candidate_tower").raw(items),
            temperature=self.config.training.temperature,
            exact=exact,
        )
        check_in_fresh_process(out)
        return {"version": version}

    def _audit(self, variant: str, out: pathlib.Path) -> dict[str, Any]:
        from pipelines.audit.figures import audit
        from pipelines.audit.served_lists import serve_test_users

        lists = serve_test_users(
            self._path("examples"),
            self._path(f"{variant}/model") / "query_tower",
            self._path(self.served(variant)),
            self.config,
        )
        pq.write_table(lists, out / "lists.parquet")
        report = audit(self._measure(variant, lists), self.config)
        report["leakage"] = self._probe(variant, lists[USER_ID])
        (out / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False))
        return {
            "lists": lists.num_rows,
            "candidates": len(lists["candidate_ids"].combine_chunks().flatten()),
        }

    def _probe(self, variant: str, user_ids: pa.ChunkedArray) -> list[dict[str, Any]]:
        from pipelines.audit.leakage import leakage
        from towers.exported_tower import ExportedTower

        users = pq.read_table(self._path("examples") / "users.parquet")
        users = users.filter(pc.is_in(users[USER_ID], user_ids.combine_chunks()))
        tower = ExportedTower(self._path(f"{variant}/model") / "query_tower")
        embeddings = self._path(f"{variant}/embeddings")
        return leakage(
            users,
            tower.embed(users),
            pq.read_table(embeddings / "items.parquet"),
            np.load(embeddings / "vectors.npy"),
            self.config,
        )

    def _measure(self, variant: str, lists: pa.Table) -> Measurement:
        from pipelines.audit.measurement import measure
        from pipelines.audit.served_lists import relevant_pairs

        examples = self._path("examples")
        return measure(
            lists,
            pq.read_table(examples / "catalogue.parquet"),
            pq.read_table(examples / "users.parquet"),
            relevant_pairs(examples),
            self.config,
            {"variant": variant},
        )

    def _write_report(self, out: pathlib.Path) -> dict[str, Any]:
        from pipelines.audit.figures import compare
        from pipelines.report.build import build_report, write_report

        audits = list(self._read_per_variant("audit/report.json").values())
        measurements = [
            self._measure(v, pq.read_table(self._path(f"{v}/audit") / "lists.parquet"))
            for v in self.variants
        ]
        extra = {
            "counts": _read_json(self._path("examples") / "counts.json"),
            "index": self._read_per_variant("index/index.json"),
            "training": {
                variant: [_without_slices(row) for row in history]
                for variant, history in self._read_per_variant("model/history.json").items()
            },
            "constraint": {
                variant: {name: said[name] for name in ("bands", "unmet_bands")}
                for variant in self.variants
                if (said := _constraint(self._path(f"{variant}/model")))
            },
        }
        comparison = None
        if len(measurements) == 2:
            comparison = compare(measurements[0], measurements[1], self.config)
        write_report(build_report(self.config, audits, comparison, extra), out)
        return {"runs": self.variants}

    def _read_per_variant(self, name: str) -> dict[str, Any]:
        return {variant: _read_json(self._path(f"{variant}/{name}")) for variant in self.variants}


def variant_fairness(config: RunConfig, variant: str) -> FairnessConfig:
    """Returns how a variant is trained: its depth said, and without a weight for the baseline."""
    depth = config.fairness.depth or max(config.audit.ks)
    off = {"weight": 0.0} if variant == BASELINE else {}
    return config.fairness.model_copy(update={"depth": depth, **off})


def examples_settings(config: RunConfig) -> list[object]:
    """Returns what examples depend on besides the data."""
    return [
        config.data.interactions,
        config.data.users,
        config.data.items,
        config.data.max_dead_letter_share,
        config.features,
        config.groups,
        config.slices,
        config.split,
        config.seed,
    ]


def model_settings(config: RunConfig, fairness: FairnessConfig | None) -> list[object]:
    """Returns what a trained model depends on besides the examples."""
    return [config.model, fairness, config.seed]


def _check_name(name: str) -> None:
    """A name is that of a folder beside others, which no other path should take the place of."""
    if not name or name.startswith(".") or name != pathlib.PurePath(name).name:
        raise InvalidInputError(
            "`--name` should be a plain name, without `/` and with no dot at its beginning. "
            f"Received: `{name}`."
        )


def _constraint(model: pathlib.Path) -> dict[str, Any]:
    """How much of a model's constraint is met and what is not; nothing if it has none."""
    path = model / "constraint.json"
    if not path.is_file():
        return {}
    found = _read_json(path)
    return {
        "bands": len(found["constraints"]),
        "unmet_bands": len(found["unmet"]),
        "unmet": found["unmet"],
    }


def _without_slices(epoch: dict[str, Any]) -> dict[str, Any]:
    """Leaves figures of user slices to the audit, which knows when to suppress them."""
    return {
        name: value
        for name, value in epoch.items()
        if "[" not in name or name.startswith("val_exposure_ratio")
    }


def _read_json(path: pathlib.Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _latest_version(folder: pathlib.Path) -> int:
    """Number of the newest complete version in a serving folder; 0 if there is none."""
    return max((int(p.name) for p in folder.glob("[0-9]*") if p.name.isdigit()), default=0)


def _folder_fingerprint(directory: str | None, run: pathlib.Path) -> str:
    if directory is None or not pathlib.Path(directory).is_dir():
        raise InvalidInputError(
            f"the folder of the data set is {'not given' if directory is None else directory}"
            f"{'' if directory is None else ', which is not there'}: give it with `--data`."
        )
    files = [p.resolve() for p in pathlib.Path(directory).rglob("*") if p.is_file()]
    return files_fingerprint([p for p in files if not p.is_relative_to(run.resolve())])


def _command(stage: str) -> str:
    """The command that makes a stage."""
    commands = {"source": "generate", "schema": "validate", "model": "train", "embeddings": "index"}
    last = "export" if "/serving/" in stage else stage.rsplit("/", 1)[-1]
    return commands.get(last, last)
