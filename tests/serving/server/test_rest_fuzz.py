"""Whatever is sent, the answers are those that the OpenAPI document promises."""

import json
import socket

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serving.server.openapi import OPENAPI_FILE

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
QUICK = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


OPERATIONS = [
    result.ok() for result in schemathesis.openapi.from_path(OPENAPI_FILE).get_all_operations()
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=[o.label for o in OPERATIONS])
def test_answers_are_those_of_the_document(running, operation):
    @given(case=operation.as_strategy(), name=st.sampled_from(["lists", "plain", None]))
    @QUICK
    def check(case, name):
        if name is not None and "model" in case.path_parameters:
            case.path_parameters["model"] = name
        case.call_and_validate(base_url=running.url, checks=CHECKS)

    check()


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.just({"b64": "aQ=="}),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
ROW = st.fixed_dictionaries({}, optional={"user_id": JSON, "offset": JSON, "n": JSON, "x": JSON})
BODY = st.fixed_dictionaries(
    {},
    optional={
        "signature_name": st.sampled_from(["serving_default", "types", "controlled", "no", 3]),
        "instances": st.lists(ROW | JSON, max_size=3) | JSON,
        "inputs": ROW | JSON,
    },
)


@given(body=BODY, model=st.sampled_from(["lists", "plain"]))
@QUICK
def test_bodies_that_are_nearly_right_are_answered_or_refused(running, body, model):
    response = running.post(f"/v1/models/{model}:predict", data=json.dumps(body))
    assert response.status_code in (200, 400)
    assert set(response.json()) <= {"predictions", "outputs", "error"}


@given(body=st.binary(max_size=200))
@QUICK
def test_bodies_of_random_bytes_are_refused(running, body):
    response = running.post("/v1/models/lists:predict", data=body)
    assert response.status_code == 400
    assert set(response.json()) == {"error"}


@pytest.mark.parametrize("port", ["grpc_port", "rest_port"])
def test_random_bytes_on_a_port_do_no_harm(running, port):
    rng = np.random.default_rng(0)
    for size in (1, 10, 100, 1_000, 10_000, 100_000):
        address = ("127.0.0.1", getattr(running.server, port))
        with socket.create_connection(address, timeout=10) as connection:
            try:
                connection.sendall(rng.bytes(size))
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            except TimeoutError:
                raise
            except OSError:
                continue  # The server hung up, which it may.
    assert running.get("/readyz").status_code == 200
    assert running.post("/v1/models/plain:predict", json={"instances": [1.0]}).status_code == 200
