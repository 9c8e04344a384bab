"""What is written for Docker and Kubernetes is valid, and agrees with the model's configuration."""

import json
import pathlib
import re
import subprocess
import sysconfig

import compose_spec
import kubernetes_validate
import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.deploy.files import (
    GRPC_PORT,
    METRICS_PATH,
    REST_PORT,
    SCANN_IMAGE,
    STOCK_IMAGE,
    TF_SERVING_VERSION,
    resource_name,
    server_flags,
    write_deploy_files,
)
from serving.server_configs import write_server_configs
from serving.versions import add_version

KUBERNETES = ("1.27", "1.31", "1.37")
NAMES = ["retriever", "Shop_2.Films"]


@pytest.fixture(params=NAMES)
def model(request, tmp_path):
    """The folder of a model with a stable version and a canary."""
    folder = tmp_path / request.param
    for version in (1, 2):
        (folder / str(version)).mkdir(parents=True)
        add_version(folder, version)
    write_server_configs(folder)
    write_deploy_files(folder, requires_scann_ops=False)
    return folder


@pytest.fixture
def manifests(model):
    """By their kind."""
    documents = yaml.safe_load_all((model / "deploy" / "kubernetes.yaml").read_text())
    return {document["kind"]: document for document in documents}


@pytest.fixture
def service(model):
    """The one service of the Compose file."""
    text = (model / "deploy" / "docker-compose.yaml").read_text()
    (service,) = yaml.safe_load(text)["services"].values()
    return service


def container(manifests) -> dict:
    (found,) = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    return found


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_the_manifests(manifests, version):
    kinds = {
        "Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget",
        "NetworkPolicy", "PersistentVolumeClaim",
    }  # fmt: skip
    assert set(manifests) == kinds
    for document in manifests.values():
        kubernetes_validate.validate(document, version, strict=True)


def test_a_manifest_with_a_mistake_would_be_refused(manifests):
    container(manifests)["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifests["Deployment"], "1.31", strict=True)


def test_compose_takes_its_file(model):
    text = (model / "deploy" / "docker-compose.yaml").read_text()
    compose = compose_spec.PyCompose.from_yaml(text)
    compose.validate()
    assert compose.service_names() == [resource_name(model.name)]
    with pytest.raises(ValueError, match="`healthchecks`"):
        compose_spec.PyCompose.from_yaml(text.replace("healthcheck:", "healthchecks:"))


def test_the_image_is_that_of_what_the_model_needs(tmp_path):
    for needs, image in ((False, STOCK_IMAGE), (True, SCANN_IMAGE)):
        folder = tmp_path / str(needs)
        folder.mkdir()
        write_deploy_files(folder, requires_scann_ops=needs)
        compose = yaml.safe_load((folder / "deploy" / "docker-compose.yaml").read_text())
        (service,) = compose["services"].values()
        assert service["image"] == image
        assert ("build" in service) == needs
        kubernetes = (folder / "deploy" / "kubernetes.yaml").read_text()
        assert f"image: {image}\n" in kubernetes
    dockerfile = (folder / "deploy" / "Dockerfile").read_text()
    assert f"FROM tensorflow/serving:{TF_SERVING_VERSION}-devel AS build" in dockerfile
    assert f"docker build --tag {SCANN_IMAGE} ." in dockerfile


def test_flags_and_mounts_lead_to_the_files_beside_the_versions(model, manifests, service):
    parsed = text_format.Parse(
        (model / "models.config").read_text(), model_server_config_pb2.ModelServerConfig()
    )
    (config,) = parsed.model_config_list.config
    flags = dict(flag.removeprefix("--").split("=") for flag in server_flags(model.name))
    files = [flags[name] for name in flags if name.endswith("_file")]
    assert len(files) == 3
    for path in files:
        assert pathlib.PurePosixPath(path).parent == pathlib.PurePosixPath(config.base_path)
        assert (model / pathlib.PurePosixPath(path).name).is_file()
    assert service["command"] == container(manifests)["args"] == server_flags(model.name)
    (mounted,) = service["volumes"]
    assert mounted["target"] == config.base_path
    assert (model / "deploy" / mounted["source"]).resolve() == model.resolve()
    mounts = {mount["name"]: mount for mount in container(manifests)["volumeMounts"]}
    assert mounts["models"]["mountPath"] == config.base_path
    claim = manifests["Deployment"]["spec"]["template"]["spec"]["volumes"][0]
    name = manifests["PersistentVolumeClaim"]["metadata"]["name"]
    assert claim["persistentVolumeClaim"]["claimName"] == name
    assert service["environment"]["MODEL_NAME"] == config.name


def test_labels_point_to_listed_versions(model):
    text = (model / "models.config").read_text()
    parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (config,) = parsed.model_config_list.config
    assert set(config.version_labels.values()) <= set(config.model_version_policy.specific.versions)
    assert {str(v) for v in config.model_version_policy.specific.versions} <= {
        path.name for path in model.iterdir()
    }


def test_ports_are_the_same_everywhere(manifests, service):
    """Those that the entry point of the published images sets."""
    assert (GRPC_PORT, REST_PORT) == (8500, 8501)
    assert service["ports"] == ["8500:8500", "8501:8501"]
    ports = {port["name"]: port["containerPort"] for port in container(manifests)["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501}
    offered = {p["targetPort"]: p["port"] for p in manifests["Service"]["spec"]["ports"]}
    assert offered == ports
    (rule,) = manifests["NetworkPolicy"]["spec"]["ingress"]
    assert {port["port"] for port in rule["ports"]} == {8500, 8501}
    assert "/dev/tcp/127.0.0.1/8501" in service["healthcheck"]["test"][-1]


def test_probes_ask_for_what_the_server_has(model, manifests, service):
    status = f"/v1/models/{model.name}"
    probes = container(manifests)
    for name in ("startupProbe", "readinessProbe"):
        assert probes[name]["httpGet"] == {"path": f"{status}/labels/stable", "port": "rest"}
    assert probes["livenessProbe"]["httpGet"]["path"] == status
    assert f"GET {status}/labels/stable HTTP" in service["healthcheck"]["test"][-1]


def test_prometheus_finds_what_the_monitoring_configuration_offers(model, manifests):
    (path,) = re.findall(r'path: "(.*)"', (model / "monitoring.config").read_text())
    annotations = manifests["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(REST_PORT),
        "prometheus.io/path": path,
    }
    assert path == METRICS_PATH


def test_selectors_find_the_pods(model, manifests):
    pods = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"]
    specs = {kind: manifest["spec"] for kind, manifest in manifests.items()}
    selectors = [
        specs["Deployment"]["selector"]["matchLabels"],
        specs["Service"]["selector"],
        specs["PodDisruptionBudget"]["selector"]["matchLabels"],
        specs["NetworkPolicy"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= pods.items() for selector in selectors)
    assert specs["HorizontalPodAutoscaler"]["scaleTargetRef"]["name"] == resource_name(model.name)
    assert manifests["Deployment"]["metadata"]["name"] == resource_name(model.name)
    assert "replicas" not in specs["Deployment"]  # The autoscaler's business.


@pytest.mark.parametrize(
    ("name", "expected"),
    [("retriever", "retriever"), ("Shop_2.Films", "shop-2-films"), ("a" * 80, "a" * 50)],
)
def test_a_models_name_becomes_one_that_kubernetes_takes(name, expected):
    assert resource_name(name) == expected
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", expected)


def test_the_dockerfile_has_no_mistake_that_a_linter_knows(model):
    hadolint = pathlib.Path(sysconfig.get_path("scripts")) / "hadolint"
    path = model / "deploy" / "Dockerfile"
    found = subprocess.run([hadolint, "--format", "json", path], capture_output=True, text=True)
    assert json.loads(found.stdout) == []
    wrong = model / "Dockerfile.wrong"
    wrong.write_text(path.read_text().replace(f":{TF_SERVING_VERSION}\n", "\n"))
    assert subprocess.run([hadolint, wrong], capture_output=True).returncode == 1


BUILD_FILES = {
    "scann/oss_wrappers/BUILD.bazel": (
        'deps = [\n    "@local_config_tf//:libtensorflow_framework",\n'
        '    "@local_config_tf//:tf_header_lib",\n],\n',
        'deps = [\n    "@org_tensorflow//tensorflow/core:tensorflow_opensource",\n],\n',
    ),
    "scann/scann_ops/cc/BUILD.bazel": (
        'load("@pybind11_bazel//:build_defs.bzl", "pybind_library")\n'
        'cc_library(\n    name = "scann_ops",\n)\n'
        'pybind_library(\n    name = "scann_npy",\n)\n',
        'cc_library(\n    name = "scann_ops",\n)\n\n'
        'cc_library(\n    name = "scann_ops_static",\n'
        '    deps = [":scann_ops", ":scann_ops_kernels"],\n    alwayslink = 1,\n)\n',
    ),
    "tensorflow_serving/model_servers/BUILD": (
        "SUPPORTED_TENSORFLOW_OPS = if_v2([]) + if_not_v2([\n]) + [\n"
        '    "@org_tensorflow_text//tensorflow_text:ops_lib",\n]\n',
        "SUPPORTED_TENSORFLOW_OPS = if_v2([]) + if_not_v2([\n]) + [\n"
        '    "@org_tensorflow_text//tensorflow_text:ops_lib",\n'
        '    "@com_google_scann//scann/scann_ops/cc:scann_ops_static",\n]\n',
    ),
}
"""Build files as those of ScaNN and TensorFlow Serving are, before and after."""


def test_the_dockerfile_edits_the_build_files_as_meant(tmp_path):
    """No image is built by these tests: that takes hours, a registry and GitHub."""
    text = (pathlib.Path(__file__).parents[2] / "serving/deploy/Dockerfile").read_text()
    runs = re.findall(r"^RUN ((?:.*\\\n)*.*\n)", text, flags=re.MULTILINE)
    edits = [run for run in runs if "sed --in-place" in run]
    assert len(edits) == 2
    for name, (before, _) in BUILD_FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(before)
    for edit in edits:
        subprocess.run(["bash", "-ec", edit], cwd=tmp_path, check=True)
    for name, (_, after) in BUILD_FILES.items():
        assert (tmp_path / name).read_text() == after
    assert 'name = "com_google_scann", path = "/scann"' in (tmp_path / "WORKSPACE").read_text()
