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

import pyarrow.parquet as pq
from rich.console import Console

from fairness_losses.errors import InvalidInputError
from pipelines.config import RunConfig, fingerprint
from pipelines.run_directory import RunDirectory, files_fingerprint
from pipelines.variant import (
    BASELINE,
    Variant,
    constraint_of,
    latest_version,
    model_settings,
    variant_fairness,
    without_slices,
)

if TYPE_CHECKING:
    from serving.config import ServingConfig


FRONTIER = "sweep/frontier"
"""The stage of a sweep whose result the report shows."""


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
            model = self._variant(variant)
            train = model.train_checked if variant == BASELINE else model.train
            self._build(
                f"{variant}/model",
                model_settings(config, fairness),
                ["examples"],
                functools.partial(train, fairness, console=self._console),
                resumes=True,
            )
            for unmet in constraint_of(self._path(f"{variant}/model")).get("unmet", []):
                self._console.print(f"[yellow]constraint not met:[/yellow] {unmet}")

    def index(self) -> None:
        """Embeds the catalogue and builds the index of every variant."""
        for variant in self.variants:
            model = self._variant(variant)
            self._build(
                f"{variant}/embeddings",
                [],
                ["examples", f"{variant}/model"],
                functools.partial(model.embed_catalogue, beam_args=self._beam_args_here),
            )
            self._build(
                f"{variant}/index",
                model.index_settings,
                [f"{variant}/embeddings"],
                model.build_index,
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
        version = latest_version(self.directory.path(folder))
        if self.directory.force or not self._is_current(f"{folder}/{version}", [], inputs):
            version += 1
        self._build(
            f"{folder}/{version}",
            [],
            inputs,
            functools.partial(self._variant(variant).export, serving, version, exact),
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
                [
                    "examples",
                    self._variant(variant).served,
                    f"{variant}/model",
                    f"{variant}/embeddings",
                ],
                self._variant(variant).audit,
            )

    def audit_lists(
        self,
        lists: str,
        name: str,
        positives: pathlib.Path | None = None,
        salts: pathlib.Path | None = None,
    ) -> pathlib.Path:
        """Audits files of served lists into `audits/<name>`, and returns that folder.

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
        self._report_lists(f"audits/{name}")
        return self._path(f"audits/{name}")

    def _report_lists(self, audit: str) -> None:
        """Writes the page of an audit of lists into its folder `report`."""
        from pipelines.gates.evaluate import evaluate
        from pipelines.report.build import build_report, write_report

        def write(out: pathlib.Path) -> dict[str, Any]:
            found = _read_json(self._path(audit) / "report.json")
            # A report is shown around; where the lists lie is not.
            run = {"variant": found["run"]["variant"]}
            counts = _read_json(self._path(audit) / "counts.json")
            extra = {"counts": counts, "releases": self._releases()}
            report = build_report(self.config, [{**found, "run": run}], None, extra)
            write_report({**report, "verdict": evaluate(report, self.config.gates)}, out)
            return {}

        settings = [self.config, self._previous_report, self._earlier_reports]
        self._build(f"{audit}/report", settings, [audit], write)

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
        # A sweep is another command's work: what it found is shown while it holds.
        inputs += [FRONTIER] if self.directory.is_fresh(FRONTIER) else []
        settings = [self.config, self._previous_report, self._earlier_reports]
        self._build("report", settings, inputs, self._write_report)
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
            lambda name, fairness, out: self._variant(name).train(fairness, out, self._console),
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

    def _variant(self, name: str) -> Variant:
        return Variant(name, self.config, self.directory)

    def _path(self, stage: str) -> pathlib.Path:
        return self.directory.path(stage)

    def _write_report(self, out: pathlib.Path) -> dict[str, Any]:
        from pipelines.audit.figures import compare
        from pipelines.gates.evaluate import VERDICT, evaluate
        from pipelines.report.build import build_report, write_report
        from serving.whole_files import write_json

        audits = list(self._read_per_variant("audit/report.json").values())
        measurements = [
            self._variant(v).measure(pq.read_table(self._path(f"{v}/audit") / "lists.parquet"))
            for v in self.variants
        ]
        extra = {
            "counts": _read_json(self._path("examples") / "counts.json"),
            "index": self._read_per_variant("index/index.json"),
            "training": {
                variant: [without_slices(row) for row in history]
                for variant, history in self._read_per_variant("model/history.json").items()
            },
            "constraint": {
                variant: {name: said[name] for name in ("bands", "unmet_bands")}
                for variant in self.variants
                if (said := constraint_of(self._path(f"{variant}/model")))
            },
        }
        extra["releases"] = self._releases()
        if self.directory.is_fresh(FRONTIER):
            extra["frontier"] = _read_json(self._path(FRONTIER) / "frontier.json")
        comparison = None
        if len(measurements) == 2:
            comparison = compare(measurements[0], measurements[1], self.config)
        report = build_report(self.config, audits, comparison, extra)
        verdict = evaluate(report, self.config.gates)
        write_report({**report, "verdict": verdict}, out)
        if verdict is not None:
            write_json(verdict, out / VERDICT)
        return {"runs": self.variants}

    @property
    def _previous_report(self) -> str | None:
        previous = self.config.gates.previous
        return files_fingerprint([pathlib.Path(previous)]) if previous else None

    @property
    def _earlier_reports(self) -> list[list[object]]:
        """What is another when the report of an earlier release is."""
        if not self.config.report.previous:
            return []
        from pipelines.readers.files import file_state
        from pipelines.report.releases import find_reports

        return [file_state(str(path)) for path in find_reports(self.config.report.previous)]

    def _releases(self) -> list[dict[str, Any]]:
        from pipelines.report.releases import find_reports, read_release

        return [read_release(path) for path in find_reports(self.config.report.previous)]

    def _read_per_variant(self, name: str) -> dict[str, Any]:
        return {variant: _read_json(self._path(f"{variant}/{name}")) for variant in self.variants}


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


def _check_name(name: str) -> None:
    """A name is that of a folder beside others, which no other path should take the place of."""
    if not name or name.startswith(".") or name != pathlib.PurePath(name).name:
        raise InvalidInputError(
            "`--name` should be a plain name, without `/` and with no dot at its beginning. "
            f"Received: `{name}`."
        )


def _read_json(path: pathlib.Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


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
