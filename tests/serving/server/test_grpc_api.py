"""gRPC answers and errors are those of TensorFlow Serving, and equal to those of REST.

The words come from `predict_util.cc`, `server_core.cc` and `classifier.cc` of TensorFlow Serving.
"""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from small_server import predict_request
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

OFFSET = np.array([[6.0], [0.1]], np.float32)
USERS = ["u1", "ü 2"]


def request_for_lists(signature="", **inputs):
    return predict_request("lists", signature, **{"user_id": USERS, "offset": OFFSET, **inputs})


def refused(call, request) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=10)
    return caught.value.code().name, caught.value.details()


def test_an_answer_says_who_gave_it(running):
    response = running.prediction.Predict(request_for_lists(), timeout=10)
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("lists", 2, "serving_default")
    scores = response.outputs["scores"]
    assert list(scores.float_val)[:3] == [6.0, 3.0, 2.0]
    assert tf.make_ndarray(response.outputs["candidate_ids"])[1, 0] == "ü 2:0".encode()


def test_rest_and_grpc_answer_alike(running):
    controls = {
        "policy_key": ["a", "b"],
        "exclude_ids": [["x", "y"], ["z", "z"]],
        "control_groups": [["g"], ["h"]],
        "control_weights": np.array([[0.3], [2.0]], np.float32),
    }
    for signature, more in (("", {}), ("query_embedding", {}), ("controlled", controls)):
        request = request_for_lists(signature, **more)
        response = running.prediction.Predict(request, timeout=10)
        columns = {"user_id": USERS, "offset": OFFSET, **more}
        body = {"inputs": {n: np.asarray(v).tolist() for n, v in columns.items()}}
        body["signature_name"] = signature or "serving_default"
        rest = running.post("/v1/models/lists:predict", json=body).json()["outputs"]
        rest = rest if isinstance(rest, dict) else {"embedding": rest}
        assert set(rest) == set(response.outputs)
        for name, proto in response.outputs.items():
            array = tf.make_ndarray(proto)
            if array.dtype == object:
                assert np.char.decode(array.astype(bytes), "utf-8").tolist() == rest[name]
            else:
                np.testing.assert_array_equal(np.array(rest[name], np.float32), array)


def test_only_the_outputs_asked_for_are_answered(running):
    request = request_for_lists()
    request.output_filter.append("scores")
    assert set(running.prediction.Predict(request, timeout=10).outputs) == {"scores"}


def test_tensors_are_read_in_every_form_that_tensorflow_writes(running):
    contents = predict_request("plain", x=np.array([1, 2, 2], np.float32))
    assert contents.inputs["x"].tensor_content
    values = predict_pb2.PredictRequest()
    values.model_spec.name = "plain"
    proto = values.inputs["x"]
    proto.dtype = tf.float32.as_datatype_enum
    proto.tensor_shape.dim.add(size=3)
    proto.float_val.extend([1.0, 2.0])  # the last one stands for the rest
    for request in (contents, values):
        response = running.prediction.Predict(request, timeout=10)
        assert tf.make_ndarray(response.outputs["y"]).tolist() == [2.5, 3.0, 3.0]


def test_versions_and_labels_choose_who_answers(running):
    labelled, numbered = request_for_lists(), request_for_lists()
    labelled.model_spec.version_label = "stable"
    numbered.model_spec.version.value = 1
    for request in (labelled, numbered):
        assert running.prediction.Predict(request, timeout=10).model_spec.version.value == 1


def _with(change):
    request = request_for_lists()
    change(request)
    return request


def _shape(request, *sizes):
    proto = request.inputs["user_id"]
    del proto.tensor_shape.dim[:]
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)


NOT_FOUND = "Servable not found for request: "


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda: predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (lambda: predict_request(""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        (lambda: predict_request("nobody"), "NOT_FOUND", f"{NOT_FOUND}Latest(nobody)"),
        (
            lambda: _with(lambda r: setattr(r.model_spec.version, "value", 9)),
            "NOT_FOUND",
            f"{NOT_FOUND}Specific(lists, 9)",
        ),
        (
            lambda: _with(lambda r: setattr(r.model_spec, "version_label", "none")),
            "INVALID_ARGUMENT",
            "Unrecognized servable version label: none",
        ),
        (
            lambda: request_for_lists("none"),
            "FAILED_PRECONDITION",
            'Serving signature key "none" not found.',
        ),
        (
            lambda: predict_request("lists", user_id=USERS),
            "INVALID_ARGUMENT",
            "input size does not match signature: 1!=2 len({user_id}) != len({offset,user_id}). "
            "Sent extra: {}. Missing but required: {offset}.",
        ),
        (
            lambda: request_for_lists(age=[3]),
            "INVALID_ARGUMENT",
            "input size does not match signature: 3!=2 len({age,offset,user_id}) != "
            "len({offset,user_id}). Sent extra: {age}. Missing but required: {}.",
        ),
        (
            lambda: predict_request("lists", user_id=USERS, age=[3]),
            "INVALID_ARGUMENT",
            "input tensor alias not found in signature: age. Inputs expected to be in the set "
            "{offset,user_id}.",
        ),
        (
            lambda: request_for_lists(user_id=[1, 2]),
            "INVALID_ARGUMENT",
            "input tensor `user_id` of signature `serving_default` is expected to be string [-1] "
            "but int32 [2] is provided",
        ),
        (
            lambda: request_for_lists(offset=np.array([[1.0], [2.0]])),
            "INVALID_ARGUMENT",
            "input tensor `offset` of signature `serving_default` is expected to be float32 "
            "[-1,-1] but float64 [2,1] is provided",
        ),
        (
            lambda: request_for_lists(user_id=["u"]),
            "INVALID_ARGUMENT",
            "Batching session Run() input tensors must have equal 0th-dimension size",
        ),
        (
            lambda: _with(lambda r: r.output_filter.append("none")),
            "INVALID_ARGUMENT",
            "output tensor alias not found in signature: none Outputs expected to be in the set "
            "{candidate_ids,groups,model_version,policy,scores}.",
        ),
        (
            lambda: _with(lambda r: r.output_filter.extend(["scores", "scores"])),
            "INVALID_ARGUMENT",
            "duplicate output tensor alias: scores",
        ),
        (
            lambda: _with(lambda r: _shape(r, -2)),
            "INVALID_ARGUMENT",
            "tensor parsing error: user_id",
        ),
        (
            lambda: _with(lambda r: setattr(r.inputs["offset"], "tensor_content", b"123")),
            "INVALID_ARGUMENT",
            "tensor parsing error: offset",
        ),
        (
            lambda: _with(lambda r: setattr(r.inputs["offset"], "dtype", 99)),
            "INVALID_ARGUMENT",
            "tensor parsing error: offset",
        ),
        (
            # Few bytes that stand for a terabyte.
            lambda: _with(lambda r: _shape(r, 1 << 37)),
            "INVALID_ARGUMENT",
            "tensor parsing error: user_id: the shape [137438953472] has more than the 1048576 "
            "bytes that this server allows for an input",
        ),
    ],
)
def test_errors_of_predict(running, make, code, words):
    assert refused(running.prediction.Predict, make()) == (code, words)


def test_a_message_that_is_too_large_is_refused(running):
    request = request_for_lists(user_id=["u" * (1 << 20), "v"])
    code, words = refused(running.prediction.Predict, request)
    assert code == "RESOURCE_EXHAUSTED"
    assert "larger than max" in words


def test_classify_regress_and_multi_inference_say_why_not(running):
    for call, request, method in (
        (running.prediction.Classify, classification_pb2.ClassificationRequest(), "classify"),
        (running.prediction.Regress, regression_pb2.RegressionRequest(), "regress"),
    ):
        request.model_spec.name = "lists"
        code, words = refused(call, request)
        assert code == "INVALID_ARGUMENT"
        assert f"method_name to be tensorflow/serving/{method}. Was: " in words
    several = inference_pb2.MultiInferenceRequest()
    several.tasks.add(method_name="tensorflow/serving/predict").model_spec.name = "lists"
    code, words = refused(running.prediction.MultiInference, several)
    assert (code, words) == (
        "UNIMPLEMENTED", "Unsupported signature method_name: tensorflow/serving/predict",
    )  # fmt: skip


def test_status_and_metadata(running):
    request = get_model_status_pb2.GetModelStatusRequest()
    assert refused(running.models.GetModelStatus, request) == (
        "INVALID_ARGUMENT", "Missing ModelSpec",
    )  # fmt: skip
    request.model_spec.name = "lists"
    states = running.models.GetModelStatus(request, timeout=10).model_version_status
    assert [(s.version, s.state, s.status.error_code) for s in states] == [(2, 30, 0), (1, 30, 0)]

    asked = get_model_metadata_pb2.GetModelMetadataRequest()
    asked.model_spec.name = "plain"
    assert refused(running.prediction.GetModelMetadata, asked)[1] == (
        "GetModelMetadataRequest must specify at least one metadata_field"
    )
    asked.metadata_field.append("signature_def")
    response = running.prediction.GetModelMetadata(asked, timeout=10)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    assert response.model_spec.version.value == 7
    assert set(signatures.signature_def) >= {"serving_default", "types", "scalar"}


def test_the_health_service_answers_as_kubernetes_asks(running):
    health = health_pb2_grpc.HealthStub(running.channel)
    answer = health.Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
