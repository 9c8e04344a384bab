"""The client asks for the same over gRPC and REST, and says what went wrong."""

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from serving.client import Client, ServingError, VersionStatus

FEATURES = {"user_id": ["u1", "ü 2"], "offset": [[6.0], [0.5]]}


@pytest.fixture(params=["grpc", "rest"])
def make_client(request, running):
    address = running.address if request.param == "grpc" else running.url
    clients = []

    def make(model="lists", **options) -> Client:
        clients.append(Client(address, model, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def test_lists_come_with_types_that_can_be_used(make_client):
    lists = make_client().retrieve(FEATURES)
    assert lists.candidate_ids.tolist()[1] == ["ü 2:0", "ü 2:1", "ü 2:2"]
    assert lists.scores.dtype == np.float32
    np.testing.assert_array_equal(lists.scores[0], np.array([6, 3, 2], np.float32))
    assert lists.groups.tolist() == [["gruppe ä"] * 3] * 2
    assert lists.model_version.tolist() == ["lists/2"] * 2


def test_controls_are_padded_and_neutral_where_not_given(make_client):
    client = make_client()
    # The model answers `policy key | groups | excluded ids`, and the largest weight as score.
    lists = client.retrieve(
        FEATURES,
        policy_key=["k1", "k2"],
        exclude=[["a", "b"], []],
        control=[{"g": 0.5, "*": 0.0}, {"h": 3.0}],
    )
    assert lists.policy.tolist() == ["k1|+g+*|+a+b", "k2|+h+|++"]
    np.testing.assert_array_equal(lists.scores[:, 0], np.array([1.0, 3.0], np.float32))
    assert np.isneginf(lists.scores[:, 2]).all()
    assert client.retrieve(FEATURES, policy_key="k").policy.tolist() == ["k||"] * 2
    assert client.retrieve(FEATURES, control={"g": 2.0}).policy.tolist() == ["|+g|"] * 2


def test_embeddings_and_other_signatures(make_client):
    assert make_client().embed(FEATURES).tolist() == [[6.0, 0.0], [0.5, 0.0]]
    outputs = make_client("plain").predict({"n": [7, 8], "is_odd": [True, True]}, "types")
    assert outputs["n"].tolist() == [7, 8]
    assert outputs["same"].tolist() == [True, False]


def test_versions_labels_and_status(make_client):
    assert make_client(label="stable").retrieve(FEATURES).model_version[0] == "lists/1"
    assert make_client(version=1).retrieve(FEATURES).model_version[0] == "lists/1"
    assert make_client().status() == [
        VersionStatus(2, "AVAILABLE", ""), VersionStatus(1, "AVAILABLE", ""),
    ]  # fmt: skip


def test_errors_have_a_code_and_the_words_of_the_server(make_client):
    with pytest.raises(ServingError, match=r"Latest\(nobody\)") as caught:
        make_client("nobody").retrieve(FEATURES)
    assert caught.value.code == "NOT_FOUND"
    with pytest.raises(ServingError, match="not found"):
        make_client("plain").retrieve({"x": [1.0]}, policy_key="k")
    with pytest.raises(ServingError) as caught:
        make_client().retrieve({"user_id": ["u"]})
    assert caught.value.code == "INVALID_ARGUMENT"
    assert "offset" in caught.value.message


@pytest.mark.parametrize("address", ["localhost:1", "http://localhost:1"])
def test_a_server_that_is_not_there_is_unavailable(address):
    with Client(address, timeout=2, attempts=2) as client, pytest.raises(ServingError) as caught:
        client.status()
    assert caught.value.code == "UNAVAILABLE"


def test_only_what_is_unavailable_is_asked_again():
    answers = [(503, "{}"), (503, "{}"), (200, '{"model_version_status": []}'), (400, "{}")]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = answers.pop(0)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with Client(f"http://127.0.0.1:{server.server_port}", attempts=3) as client:
            assert client.status() == []
            with pytest.raises(ServingError) as caught:
                client.status()
        server.shutdown()
        thread.join()
    assert caught.value.code == "INVALID_ARGUMENT"
    assert answers == []


def test_arguments_that_cannot_be_used_are_refused(make_client):
    with pytest.raises(ValueError, match="not both"):
        Client("localhost:1", version=1, label="stable")
    with pytest.raises(ValueError, match="`attempts` should be at least 1"):
        Client("localhost:1", attempts=0)
    with pytest.raises(ValueError, match="`exclude` should have an element for each of the 2"):
        make_client().retrieve(FEATURES, exclude=[["a"]])


def test_rest_needs_no_tensorflow(running):
    program = (
        "import sys; from serving.client import Client; "
        f"c = Client({running.url!r}, 'lists'); c.retrieve({FEATURES!r}); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
