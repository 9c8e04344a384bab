"""Versions come, go and move without a request ever finding none."""

import shutil
import threading

import grpc
import numpy as np
import pytest
from google.protobuf import text_format
from small_server import (
    make_files,
    model_config,
    models_config,
    predict_request,
    run_server,
    save_plain,
)
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2

from fairness_losses.errors import InvalidInputError

ALL = "model_version_policy { all {} }"


def specific(*versions: int) -> str:
    listed = " ".join(f"versions: {version}" for version in versions)
    return f"model_version_policy {{ specific {{ {listed} }} }}"


def lists_config(policy: str = "", **labels: int) -> str:
    return models_config(model_config("lists", policy, labels))


def answered_by(server, choice: str = "") -> str:
    row = {"user_id": "u", "offset": [1.0]}
    response = server.post(f"/v1/models/lists{choice}:predict", json={"instances": [row]})
    body = response.json()
    return body["predictions"][0]["model_version"] if response.ok else body["error"]


def states(server) -> dict[int, str]:
    found = server.get("/v1/models/lists").json()["model_version_status"]
    return {int(v["version"]): v["state"] for v in found}


@pytest.fixture
def write(tmp_path):
    """Writes another `models.config` for the running server."""
    return lambda text: (tmp_path / "models.config").write_text(text)


def test_a_new_version_takes_over_and_the_old_one_is_unloaded(tmp_path, copy_of_lists):
    copy_of_lists(1, source=1)
    with run_server(make_files(tmp_path, lists_config())) as server:
        assert answered_by(server) == "lists/1"
        copy_of_lists(2, source=2)
        server.look_for_versions()
        assert answered_by(server) == "lists/2"
        server.wait_until_unloaded()
        assert states(server) == {2: "AVAILABLE", 1: "END"}
        assert answered_by(server, "/versions/1") == (
            "Servable not found for request: Specific(lists, 1)"
        )


def test_policies_choose_versions(tmp_path, copy_of_lists, write):
    for version in (1, 2, 3):
        copy_of_lists(version)
    with run_server(make_files(tmp_path, lists_config(ALL))) as server:
        assert set(states(server)) == {1, 2, 3}
        latest = "model_version_policy { latest { num_versions: 2 } }"
        for policy, available in ((latest, {2, 3}), (specific(1, 3), {1, 3}), (ALL, {1, 2, 3})):
            write(lists_config(policy))
            for _ in range(3):
                server.look_for_versions()
            assert {v for v, s in states(server).items() if s == "AVAILABLE"} == available


def test_a_corrupt_version_is_refused_and_the_old_one_goes_on(tmp_path, copy_of_lists):
    copy_of_lists(1)
    with run_server(make_files(tmp_path, lists_config())) as server:
        corrupt = copy_of_lists(2, source=2)
        model = corrupt / "saved_model.pb"
        content = model.read_bytes()
        model.write_bytes(content[: len(content) // 2])
        server.look_for_versions()
        server.look_for_versions()
        assert answered_by(server) == "lists/1"
        status = server.get("/v1/models/lists/versions/2").json()["model_version_status"][0]
        assert status["state"] == "END"
        assert status["status"]["error_code"] != "OK"
        assert status["status"]["error_message"]
        assert server.get("/readyz").status_code == 200
        # It is tried again once its files have changed.
        model.write_bytes(content)
        server.look_for_versions()
        assert answered_by(server) == "lists/2"


@pytest.mark.parametrize("damage", ["variables", "warm-up", "no model"])
def test_damage_of_every_kind_is_refused(tmp_path, copy_of_lists, damage):
    copy_of_lists(1)
    with run_server(make_files(tmp_path, lists_config())) as server:
        version = copy_of_lists(2, source=2)
        if damage == "variables":
            (version / "variables" / "variables.index").write_bytes(b"nothing")
        elif damage == "warm-up":
            path = version / "assets.extra" / "tf_serving_warmup_requests"
            path.write_bytes(path.read_bytes()[:-3])
        else:
            (version / "saved_model.pb").unlink()
        server.look_for_versions()
        assert states(server) == {2: "END", 1: "AVAILABLE"}
        assert answered_by(server) == "lists/1"


def test_a_label_moves_when_its_version_is_available(tmp_path, copy_of_lists, write):
    copy_of_lists(1, source=1)
    with run_server(make_files(tmp_path, lists_config(specific(1), stable=1))) as server:
        write(lists_config(specific(1, 2), stable=2, canary=2))
        server.look_for_versions()
        assert answered_by(server, "/labels/stable") == "lists/1"
        assert answered_by(server, "/labels/canary") == (
            "Unrecognized servable version label: canary"
        )
        copy_of_lists(2, source=2)
        server.look_for_versions()
        for label in ("stable", "canary"):
            assert answered_by(server, f"/labels/{label}") == "lists/2"
        # Back again: a rollback.
        write(lists_config(specific(1), stable=1))
        server.look_for_versions()
        assert answered_by(server, "/labels/stable") == answered_by(server) == "lists/1"


def test_a_broken_models_config_changes_nothing(tmp_path, copy_of_lists, write):
    copy_of_lists(1)
    with run_server(make_files(tmp_path, lists_config())) as server:
        write("model_config_list { confg {} }")
        with pytest.raises(InvalidInputError, match="no ModelServerConfig in text format"):
            server.look_for_versions()
        server.look_for_versions()
        assert answered_by(server) == "lists/1"


def test_versions_that_vanish_from_the_disk_stay_loaded(tmp_path, copy_of_lists):
    copy_of_lists(1)
    with run_server(make_files(tmp_path, lists_config())) as server:
        shutil.rmtree(tmp_path / "lists")
        server.look_for_versions()
        assert answered_by(server) == "lists/1"


def test_a_new_configuration_is_taken_over_by_request(tmp_path, copy_of_lists):
    copy_of_lists(1)
    save_plain(tmp_path / "plain", 1)
    with run_server(make_files(tmp_path, lists_config(ALL, stable=1))) as server:

        def reload(text: str) -> tuple[str, str]:
            request = model_management_pb2.ReloadConfigRequest()
            text_format.Parse(text, request.config)
            try:
                server.models.HandleReloadConfigRequest(request, timeout=60)
            except grpc.RpcError as error:
                return error.code().name, error.details()
            return "OK", ""

        assert reload("") == (
            "INVALID_ARGUMENT",
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
            "ModelConfigList is currently supported",
        )
        twice = models_config(model_config("lists"), model_config("lists"))
        assert reload(twice)[1] == "Illegal to list model lists multiple times in config list"
        assert reload(lists_config(ALL, stable=2)) == (
            "FAILED_PRECONDITION",
            "Request to assign label to version 2 of model lists, which is not currently "
            "available for inference",
        )
        missing = models_config(model_config("lists"), model_config("nowhere"))
        code, words = reload(missing)
        assert code == "UNKNOWN"
        assert words.startswith("1 model(s) did not become available: {{name: nowhere")
        assert reload(models_config(model_config("plain"))) == ("OK", "")
        assert server.get("/v1/models/plain").status_code == 200
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "lists"
        server.look_for_versions()
        assert answered_by(server) == "Servable not found for request: Latest(lists)"


def test_reloads_and_a_rollback_under_load_lose_no_request(tmp_path, copy_of_lists, write):
    copy_of_lists(1, source=1)
    failures, seen, stop = [], set(), threading.Event()
    request = predict_request("lists", user_id=["u"], offset=np.ones([1, 1], np.float32))

    with run_server(make_files(tmp_path, lists_config())) as server:

        def ask() -> None:
            while not stop.is_set():
                try:
                    response = server.prediction.Predict(request, timeout=20)
                    seen.add(response.model_spec.version.value)
                except grpc.RpcError as error:
                    failures.append(error)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for version in range(2, 8):
            copy_of_lists(version, source=2)
            server.look_for_versions()
        write(lists_config(specific(3)))
        server.look_for_versions()
        stop.set()
        for thread in threads:
            thread.join()
        assert failures == []
        assert answered_by(server) == "lists/2"  # the copies are all of version 2
        assert {v for v, s in states(server).items() if s == "AVAILABLE"} == {3}
    assert seen >= {1, 7}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "only ModelConfigList|Only ModelConfigList"),
        (models_config(model_config("nowhere")), "no version of `nowhere` could be loaded"),
        (
            models_config('config { name: "x" base_path: "x" model_platform: "tensorflow" }'),
            "Expected model x to have an absolute path",
        ),
        (models_config('config { name: "x" base_path: "/x" }'), "neither model_type"),
        (
            models_config('config { name: "x" base_path: "/x" model_platform: "caffe" }'),
            "requests unsupported platform caffe",
        ),
    ],
)
def test_what_cannot_be_served_is_said_at_the_start(tmp_path, text, message):
    with pytest.raises(InvalidInputError, match=message), run_server(make_files(tmp_path, text)):
        pass
