"""REST answers and errors are those of TensorFlow Serving: paths, shapes, statuses, words.

The words come from `http_rest_api_handler.cc`, `http_rest_api_util.cc`, `json_tensor.cc` and
`server_core.cc` of TensorFlow Serving.
"""

import gzip
import json
import math

import pytest

LISTS = "/v1/models/lists"
ROW = {"user_id": "u1", "offset": [6.0]}


def error_of(response, status: int) -> str:
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}
    return body["error"]


def test_rows_are_answered_with_a_row_each(running):
    instances = [ROW, {"user_id": "ü 2", "offset": [0.5]}]
    response = running.post(f"{LISTS}:predict", json={"instances": instances})
    assert response.json() == {
        "predictions": [
            {
                "candidate_ids": [f"{user}:0", f"{user}:1", f"{user}:2"],
                "groups": ["gruppe ä"] * 3,
                "model_version": "lists/2",
                "policy": "relevance",
                "scores": scores,
            }
            for user, scores in (("u1", [6.0, 3.0, 2.0]), ("ü 2", [0.5, 0.25, 0.16666667]))
        ]
    }


def test_columns_are_answered_with_columns(running):
    inputs = {"user_id": ["u1"], "offset": [[6.0]]}
    response = running.post(f"{LISTS}:predict", json={"inputs": inputs})
    outputs = response.json()["outputs"]
    assert outputs["scores"] == [[6.0, 3.0, 2.0]]
    assert outputs["policy"] == ["relevance"]


def test_one_plain_input_and_one_output_need_no_names(running):
    for body, answer in (
        ({"instances": [1.0, 2, 5.0]}, {"predictions": [2.5, 3.0, 4.5]}),
        ({"instances": [{"x": 1.0}]}, {"predictions": [2.5]}),
        ({"inputs": [1.0, 2.0]}, {"outputs": [2.5, 3.0]}),
        ({"inputs": {"x": [1.0]}}, {"outputs": [2.5]}),
        ({"inputs": 4.0, "signature_name": "scalar"}, {"outputs": 8.0}),
    ):
        assert running.post("/v1/models/plain:predict", json=body).json() == answer


def test_types_are_written_as_tensorflow_serving_writes_them(running):
    body = {"signature_name": "types", "instances": [{"n": 2**53 + 1, "is_odd": True}]}
    text = running.post("/v1/models/plain:predict", json=body).text
    raw_bytes = {"b64": "OTAwNzE5OTI1NDc0MDk5Mw=="}  # base64 of 9007199254740993
    row = {"f": 1.0, "n": 2**53 + 1, "raw_bytes": raw_bytes, "same": True}
    assert json.loads(text) == {"predictions": [row]}
    assert '"f":1.0' in text.replace(" ", "")


def test_numbers_that_are_not_finite_are_written_as_tensorflow_serving_writes_them(running):
    body = {"signature_name": "types", "inputs": {"n": [7, 0], "is_odd": [True, False]}}
    text = running.post("/v1/models/plain:predict", json=body).text
    assert json.loads(text)["outputs"]["f"] == [math.inf, 0.0]
    assert "[Infinity, " in text
    nan = running.post("/v1/models/plain:predict", data='{"instances": [NaN, -Infinity, 1]}')
    assert nan.text == '{"predictions": [NaN, -Infinity, 2.5]}'


def test_digits_beside_infinity_are_those_of_float32(running):
    request = {"user_id": ["u"], "offset": [[0.0]], "policy_key": ["k"], "exclude_ids": [["i"]]}
    request |= {"control_groups": [["g"]], "control_weights": [[0.1]]}
    body = {"signature_name": "controlled", "inputs": request}
    text = running.post(f"{LISTS}:predict", json=body).text
    assert '"scores": [[0.1, 0.1, -Infinity]]' in text


def test_strings_may_be_given_in_base64(running):
    row = {"user_id": {"b64": "w7w="}, "offset": [0.0]}
    response = running.post(f"{LISTS}:predict", json={"instances": [row]})
    assert response.json()["predictions"][0]["candidate_ids"][0] == "ü:0"


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("/versions/1", "lists/1"),
        ("/versions/2", "lists/2"),
        ("/labels/stable", "lists/1"),
        ("/labels/canary", "lists/2"),
        ("", "lists/2"),
    ],
)
def test_versions_and_labels_choose_who_answers(running, path, version):
    response = running.post(f"{LISTS}{path}:predict", json={"instances": [ROW]})
    assert response.json()["predictions"][0]["model_version"] == version


def test_status_names_every_version(running):
    ok = {"error_code": "OK", "error_message": ""}
    versions = [{"version": v, "state": "AVAILABLE", "status": ok} for v in ("2", "1")]
    assert running.get(LISTS).json() == {"model_version_status": versions}
    assert running.get(f"{LISTS}/versions/1").json() == {"model_version_status": versions[1:]}
    assert running.get(f"{LISTS}/labels/canary").json() == {"model_version_status": versions[:1]}


def test_metadata_describes_the_signatures(running):
    answer = running.get(f"{LISTS}/labels/stable/metadata").json()
    assert answer["model_spec"] == {"name": "lists", "version": "1", "signature_name": ""}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["method_name"] == "tensorflow/serving/predict"
    user_id = signatures["serving_default"]["inputs"]["user_id"]
    assert user_id["dtype"] == "DT_STRING"
    assert user_id["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}], "unknown_rank": False,
    }  # fmt: skip


NOT_FOUND = "Servable not found for request: "


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/v1/models/nobody", 404, "Could not find any versions of model nobody"),
        (f"{LISTS}/versions/9", 404, "Could not find version 9 of model lists"),
        (f"{LISTS}/versions/9/metadata", 404, f"{NOT_FOUND}Specific(lists, 9)"),
        ("/v1/models/nobody/metadata", 404, f"{NOT_FOUND}Latest(nobody)"),
        (f"{LISTS}/labels/none", 400, "Unrecognized servable version label: none"),
        ("/v1/models", 400, "Missing model name in request."),
        (f"{LISTS}/versions/one", 400, f"Malformed request: GET {LISTS}/versions/one"),
        (
            f"{LISTS}/versions/99999999999999999999",
            400,
            "Failed to convert version: 99999999999999999999 to numeric.",
        ),
        (f"{LISTS}:predict", 400, f"Malformed request: GET {LISTS}:predict"),
        ("/v2/models", 404, "Not found: /v2/models"),
    ],
)
def test_errors_of_paths(running, path, status, words):
    assert error_of(running.get(path), status) == words


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/v1/models/nobody", 404, f"{NOT_FOUND}Latest(nobody)"),
        (f"{LISTS}/versions/9", 404, f"{NOT_FOUND}Specific(lists, 9)"),
        (f"{LISTS}/labels/none", 400, "Unrecognized servable version label: none"),
    ],
)
def test_errors_of_who_is_asked(running, path, status, words):
    body = {"instances": [ROW]}
    assert error_of(running.post(f"{path}:predict", json=body), status) == words


ELEMENT = "Failed to process element: 0 key: user_id of 'instances' list. Error: "


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "JSON Parse error: The document is empty"),
        ("instances", "JSON Parse error: Invalid value. at offset: 0"),
        ('{"instances": [1', "JSON Parse error: Missing a comma or ] after an array element."),
        (b'{"a": "\xff"}', "JSON Parse error: Invalid encoding in string. at offset: 7"),
        ("[" * 100_000, "JSON Parse error: Terminate parsing due to Handler error."),
        ('{"a": 1' + "0" * 5000 + "}", "JSON Parse error: Terminate parsing due to Handler error."),
        ("[1]", "JSON Value: [\n    1\n] Is not object"),
        ("{}", "Missing 'inputs' or 'instances' key"),
        ({"instances": [ROW], "inputs": {}}, "expecting only one of 'inputs' or 'instances' keys"),
        ({"instances": []}, "No values in 'instances' array"),
        ({"instances": 3}, "Excepting 'instances' to be an list/array"),
        ({"signature_name": 3}, "'signature_name' key must be a string value."),
        (
            {"signature_name": "none", "instances": [ROW]},
            'Serving signature name: "none" not found in signature def',
        ),
        ({"instances": ["u1"]}, "instances is a plain list, but expecting list of objects"),
        ({"instances": [ROW, 3]}, "Expecting object but got list at item 1 of input list"),
        (
            {"instances": [{"user_id": "u"}]},
            '{\n    "user_id": "u"\n} must only have keys: offset,user_id',
        ),
        (
            {"instances": [{**ROW, "age": 3}]},
            "key: age of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have "
            "named input: age",
        ),
        (
            {"instances": [{"user_id": 3, "offset": [1]}]},
            ELEMENT + "INVALID_ARGUMENT: JSON Value: 3 Type: Number is not of expected type: "
            "string",
        ),
        (
            {"instances": [{"user_id": {"b64": "?"}, "offset": [1]}]},
            ELEMENT + "INVALID_ARGUMENT: Unable to base64 decode",
        ),
        (
            {"instances": [ROW, {"user_id": "u", "offset": [1, 2]}]},
            "Failed to process element: 1 key: offset of 'instances' list. Error: "
            "INVALID_ARGUMENT: Expecting tensor size: 1 but got: 2",
        ),
        (
            {"instances": [{"user_id": "u", "offset": [[1], 2]}]},
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        (
            {"instances": [{"user_id": "u", "offset": [True]}]},
            "JSON Value: true Type: True is not of expected type: float",
        ),
        (
            {"instances": [{"user_id": "u", "offset": [16777217]}]},
            "Cannot convert JSON value: 16777217 to float without loss of precision.",
        ),
        (
            {"instances": [{"user_id": "u", "offset": [1e300]}]},
            "Cannot convert JSON value: 1e+300 to float without loss of precision.",
        ),
        ({"inputs": {"user_id": ["u"]}}, "Missing named input: offset in 'inputs' object."),
        ({"inputs": ["u"]}, "inputs is a plain value/list, but expecting an object"),
        (
            {"inputs": {"user_id": ["u"], "offset": [[1, 2], [3]]}},
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        (
            {"inputs": {"user_id": ["u"], "offset": [[1], [2]]}},
            "Batching session Run() input tensors must have equal 0th-dimension size",
        ),
        (
            {"inputs": {"user_id": [["u"]], "offset": [[1]]}},
            "input tensor `user_id` of signature `serving_default` is expected to be string [-1] "
            "but string [1,1] is provided",
        ),
        (
            {"inputs": {"user_id": ["u"] * 65, "offset": [[1]] * 65}},
            "Task size 65 is larger than maximum input batch size 64",
        ),
    ],
)
def test_errors_of_bodies(running, body, words):
    options = {"json": body} if isinstance(body, dict) else {"data": body}
    assert words in error_of(running.post(f"{LISTS}:predict", **options), 400)


def test_an_error_of_the_graph_is_told_without_traces(running):
    body = {"signature_name": "no_negative", "instances": [-1.0]}
    words = error_of(running.post("/v1/models/plain:predict", json=body), 400)
    assert "x is negative" in words
    assert "stack trace" not in words
    assert ".py" not in words


def test_no_rows_in_columns_are_no_rows_in_answers(running):
    body = {"inputs": {"x": []}}
    assert running.post("/v1/models/plain:predict", json=body).json() == {"outputs": []}


@pytest.mark.parametrize(("method", "kind"), [("classify", "classification"), ("regress", "reg")])
def test_classify_and_regress_say_that_the_signature_has_another_method(running, method, kind):
    words = error_of(running.post(f"{LISTS}:{method}", json={"examples": [{}]}), 400)
    assert words.startswith(f"Expected {kind}")
    assert words.endswith(
        f"signature method_name to be tensorflow/serving/{method}. Was: tensorflow/serving/predict"
    )


def test_a_body_that_is_too_large_is_refused(running):
    for body in (b" " * (1 << 20) + b" ", iter([b" " * 100_000] * 20)):
        words = error_of(running.post(f"{LISTS}:predict", data=body), 413)
        assert words == "The body of the request has more than 1048576 bytes."


def test_a_compressed_body_is_read_and_bounded_by_what_it_becomes(running):
    headers = {"Content-Encoding": "gzip"}
    body = gzip.compress(json.dumps({"instances": [ROW]}).encode())
    response = running.post(f"{LISTS}:predict", data=body, headers=headers)
    assert response.status_code == 200
    bomb = gzip.compress(b" " * (50 << 20))
    assert error_of(running.post(f"{LISTS}:predict", data=bomb, headers=headers), 413)


def test_health_and_description(running):
    assert (running.get("/healthz").status_code, running.get("/readyz").status_code) == (200, 200)
    description = running.get("/openapi.json").json()
    assert "/v1/models/{model}:predict" in description["paths"]


def test_metrics_count_requests_and_batches(running):
    path = "/monitoring/prometheus/metrics"
    count = ':tensorflow:serving:request_count{model_name="plain",status="OK"} '

    def counted() -> float:
        lines = running.get(path).text.splitlines()
        return sum(float(line.removeprefix(count)) for line in lines if line.startswith(count))

    before = counted()
    running.post("/v1/models/plain:predict", json={"instances": [1.0]})
    running.post("/v1/models/made-up:predict", json={"instances": [1.0]})
    assert counted() == before + 1
    page = running.get(path).text
    assert ':tensorflow:serving:request_latency_count{API="Predict",entrypoint="REST"' in page
    assert 'fairtowers_batch_rows_count{model_name="plain"}' in page
    assert "made-up" not in page
