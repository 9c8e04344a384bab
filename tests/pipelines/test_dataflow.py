"""The Flex Template: its launcher, what it submits, and that its files agree with each other."""

import json
import pathlib
import re

import apache_beam as beam
import pytest
import yaml
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.dataflow.internal.clients.dataflow import (
    dataflow_v1b3_messages as messages,
)
from apitools.base.py import encoding
from fake_file_system import FakeFileSystem
from setuptools.config.setupcfg import read_configuration
from small_log import build, config, write_files

from fairness_losses.errors import InvalidInputError
from pipelines.config_file import load_config
from pipelines.dataflow.launcher import launch, main, options, read_config
from pipelines.run import Run

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "pipelines" / "dataflow"
METADATA = json.loads((FOLDER / "metadata.json").read_text(encoding="utf-8"))
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
AT = "fake://bucket/monday"
IMAGE = "europe-docker.pkg.dev/shop-eu/images/fairtowers:1"
ON_DATAFLOW = [
    "--runner=DataflowRunner",
    "--dry_run=True",
    "--project=shop-eu",
    "--region=europe-west1",
    "--temp_location=gs://bucket/tmp",
    f"--sdk_container_image={IMAGE}",
]


@pytest.fixture
def config_at(tmp_path) -> str:
    """A configuration in a bucket, its data beside it."""
    FakeFileSystem.objects.clear()
    FakeFileSystem.log.clear()
    raw = config(write_files(tmp_path)).model_dump(mode="json")
    for name, file in (("interactions", "log"), ("users", "users"), ("items", "items")):
        raw["data"][name]["path"] = f"fake://bucket/{file}.csv"
        FakeFileSystem.put(f"fake://bucket/{file}.csv", (tmp_path / f"{file}.csv").read_bytes())
    text = yaml.safe_dump(raw, allow_unicode=True)
    (tmp_path / "run.yaml").write_text(text, encoding="utf-8")
    FakeFileSystem.put("fake://bucket/run.yaml", text.encode())
    return "fake://bucket/run.yaml"


def test_what_the_template_builds_is_fetched_by_a_run_of_the_same_configuration(
    config_at, tmp_path
):
    """The launcher with Beam's local runner: on Dataflow, only the workers are others."""
    main([f"--config={config_at}", f"--examples_at={AT}", "--runner=DirectRunner"])
    created = len(FakeFileSystem.log)
    Run(load_config(tmp_path / "run.yaml"), tmp_path / "run", examples_at=AT).examples()
    assert len(FakeFileSystem.log) == created
    build(config(tmp_path), tmp_path / "local")
    fetched, local = (
        (d / "shards.json").read_text() for d in (tmp_path / "run" / "examples", tmp_path / "local")
    )
    assert fetched == local


def test_the_job_that_would_be_submitted_holds_all_steps_and_runs_in_our_image(config_at):
    pipeline = launch(config_at, AT, ON_DATAFLOW).job.proto_pipeline
    names = {t.unique_name for t in pipeline.components.transforms.values()}
    assert {"Read log", "Look ids up", "Order rows", "Write shards", "Finish"} <= names
    environments = pipeline.components.environments.values()
    images = {
        beam_runner_api_pb2.DockerPayload.FromString(e.payload).container_image
        for e in environments
        if e.urn == "beam:env:docker:v1"
    }
    assert images == {IMAGE}
    # The image has all packages: a list of them for people is the one file that is staged.
    staged = [
        beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(d.role_payload).staged_name
        for e in environments
        for d in e.dependencies
    ]
    assert staged == ["submission_environment_dependencies.txt"]
    assert FakeFileSystem.names(AT) == ["built_from.json"]


def test_a_folder_is_used_once(config_at):
    launch(config_at, AT, ON_DATAFLOW)
    with pytest.raises(InvalidInputError, match="the examples are not complete"):
        launch(config_at, AT, ON_DATAFLOW)
    FakeFileSystem.put(f"{AT}/counts.json", b"{}")
    with pytest.raises(InvalidInputError, match="the examples are there already"):
        launch(config_at, AT, ON_DATAFLOW)


def _put(config_at: str, change: tuple[str, str]) -> None:
    text = FakeFileSystem.objects[config_at][0].decode()
    assert change[0] in text
    FakeFileSystem.put(config_at, text.replace(*change).encode())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("fake://bucket/users.csv", "users.csv"),
            r"`data\.users\.path` should be .* gs://bucket/users\.parquet\. Received: users\.csv\.",
        ),
        (("dataset: files", "dataset: synthetic"), r"`data\.dataset` should be `files`"),
        (("name: small", "nam: small"), r"^run\.yaml: `name` is needed\. `nam` is not a known key"),
    ],
)
def test_a_configuration_that_workers_cannot_use_is_refused(config_at, change, message):
    _put(config_at, change)
    with pytest.raises(InvalidInputError, match=message):
        read_config(config_at)


def test_errors_are_printed_with_their_exit_code(config_at, capsys):
    _put(config_at, ("fake://bucket/users.csv", "users.csv"))
    with pytest.raises(SystemExit) as stopped:
        main([f"--config={config_at}", f"--examples_at={AT}", *ON_DATAFLOW])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("error: `data.users.path`")


def test_the_metadata_is_what_dataflow_reads():
    """Keys that Dataflow does not know would be dropped without a word."""
    text = json.dumps(METADATA)
    parsed = encoding.JsonToMessage(messages.TemplateMetadata, text)
    assert json.loads(encoding.MessageToJson(parsed)) == METADATA
    assert not parsed.all_unrecognized_fields()
    for parameter in parsed.parameters:
        assert not parameter.all_unrecognized_fields()


def test_parameters_of_the_metadata_are_the_options_of_the_launcher():
    own = {action.dest: action for action in options()._actions if action.dest != "help"}
    described = {p["name"]: p for p in METADATA["parameters"]}
    of_beam = PipelineOptions([]).get_all_options()
    assert own.keys() <= described.keys() <= own.keys() | of_beam.keys()
    for name, action in own.items():
        assert action.required == (not described[name]["isOptional"])


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("config", "gs://bucket/configs/shop.yaml", ["shop.yaml", "gs://bucket/shop.json"]),
        ("examples_at", "gs://bucket/examples/monday", ["gs://bucket", "gs://bucket/", "/monday"]),
        ("sdk_container_image", IMAGE, ["fairtowers", "images/fairtowers", "a b/c:1"]),
    ],
)
def test_regexes_of_the_metadata_accept_what_is_meant_and_nothing_else(name, good, bad):
    """Dataflow wants a value to match as a whole."""
    (parameter,) = [p for p in METADATA["parameters"] if p["name"] == name]
    (regex,) = parameter["regexes"]
    assert re.fullmatch(regex, good)
    assert not [value for value in bad if re.fullmatch(regex, value)]


def test_the_image_has_the_versions_that_were_tested():
    assert f"apache/beam_python3.11_sdk:{beam.__version__}" in DOCKERFILE
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert f"apache-beam=={beam.__version__} ; python_version == '3.11'" in pins
    assert set(re.findall(r"python:?(3\.?\d+)", DOCKERFILE)) == {"3.11", "311"}


def test_the_image_gets_all_that_an_installation_needs():
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, flags=re.MULTILINE)
    sources = {name for line in copied for name in line.split()}
    assert not [name for name in sources if not (ROOT / name).exists()]
    packages = read_configuration(ROOT / "setup.cfg")["options"]["packages"]
    assert {package.split(".")[0] for package in packages} <= sources
    (launcher,) = re.findall(r"FLEX_TEMPLATE_PYTHON_PY_FILE=/template/(\S+)", DOCKERFILE)
    assert (ROOT / launcher).is_file()
    assert launcher.split("/")[0] in sources


def test_the_image_ends_where_beam_begins():
    assert DOCKERFILE.rstrip().endswith('ENTRYPOINT ["/opt/apache/beam/boot"]')
    stages = re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, flags=re.MULTILINE)
    assert sorted(stages) == sorted(re.findall(r"--from=(\w+)", DOCKERFILE))
