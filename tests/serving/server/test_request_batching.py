"""Merged requests are answered as if each had come alone."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from small_server import predict_request

from serving.server.batching import BatchingRunner
from serving.server.errors import Code, StatusError
from serving.server.metrics import Metrics
from serving.server.runners import Call
from serving.server.signatures import Signature, Tensor
from serving.server.text_protos import Batching


class Echo:
    """Stands for a loaded version: returns its input, when it is allowed to."""

    name = "echo"

    def __init__(self) -> None:
        self.batches: list[np.ndarray] = []
        self.open = threading.Event()
        self.open.set()

    def run(self, signature, inputs, outputs):
        assert self.open.wait(20)
        x = inputs["x"]
        self.batches.append(x)
        if x.size and (x == -1).any():
            raise StatusError(Code.INVALID_ARGUMENT, "there is a -1")
        return {"y": x[:, :1] * 10}


def _signature(has_rows: bool = True) -> Signature:
    tensor = Tensor("x:0", tf.int64, (None, None))
    return Signature("s", "tensorflow/serving/predict", {"x": tensor}, {"y": tensor}, has_rows)


def ask(requests, has_rows=True, **settings) -> tuple[list, Echo]:
    """Sends requests at once, before any of them is computed."""
    defaults = {"max_batch_size": 8, "batch_timeout_micros": 1, "num_batch_threads": 1}
    defaults["pad_variable_length_inputs"] = True
    echo = Echo()

    async def run():
        runner = BatchingRunner(Batching(**{**defaults, **settings}), Metrics(lambda: 0))
        call = Call(echo, _signature(has_rows), ("y",))
        echo.open.clear()
        first = asyncio.create_task(runner.run(call, {"x": np.array([[0]])}, 1))
        while runner._idle:
            await asyncio.sleep(0)
        rest = [asyncio.create_task(runner.run(call, {"x": np.array(x)}, len(x))) for x in requests]
        await asyncio.sleep(0)
        echo.open.set()
        answers = await asyncio.gather(first, *rest, return_exceptions=True)
        runner.close()
        return answers[1:]

    return asyncio.run(run()), echo


def rows(answer) -> list:
    return answer["y"][:, 0].tolist()


def test_requests_that_wait_share_a_batch_and_get_their_own_rows():
    answers, echo = ask([[[1]], [[2], [3]], [[4]]])
    assert [rows(a) for a in answers] == [[10], [20, 30], [40]]
    assert [len(b) for b in echo.batches] == [1, 4]


def test_a_batch_is_never_larger_than_allowed():
    answers, echo = ask([[[1]] * 5, [[2]] * 5, [[3]] * 3], max_batch_size=8)
    assert [len(rows(a)) for a in answers] == [5, 5, 3]
    assert [len(b) for b in echo.batches] == [1, 5, 8]


def test_shorter_inputs_are_padded_with_their_first_value():
    answers, echo = ask([[[1, 2]], [[3]]])
    assert [rows(a) for a in answers] == [[10], [30]]
    assert echo.batches[1].tolist() == [[1, 2], [3, 3]]


def test_without_padding_only_equal_shapes_share_a_batch():
    _, echo = ask([[[1, 2]], [[3]], [[4]]], pad_variable_length_inputs=False)
    assert [b.tolist() for b in echo.batches] == [[[0]], [[1, 2]], [[3], [4]]]


def test_inputs_without_values_are_not_merged_with_others():
    answers, echo = ask([np.zeros([1, 0], np.int64), [[3]]])
    assert [b.shape for b in echo.batches] == [(1, 1), (1, 0), (1, 1)]
    assert rows(answers[1]) == [30]


def test_one_long_list_does_not_blow_up_its_neighbours():
    _, echo = ask([np.ones([1, 600_000], np.int64), [[3]], [[4]]])
    assert [b.shape for b in echo.batches] == [(1, 1), (1, 600_000), (2, 1)]


def test_a_request_that_fails_does_not_fail_its_neighbours():
    answers, _ = ask([[[1]], [[-1]], [[2]]])
    assert rows(answers[0]) == [10]
    assert rows(answers[2]) == [20]
    assert str(answers[1]) == "INVALID_ARGUMENT: there is a -1"


def test_a_signature_without_rows_is_asked_request_by_request():
    answers, echo = ask([[[1]], [[2]]], has_rows=False)
    assert [rows(a) for a in answers] == [[10], [20]]
    assert [len(b) for b in echo.batches] == [1, 1, 1]


def test_a_full_queue_and_a_large_request_are_refused():
    answers, _ = ask([[[1]] * 2] * 3 + [[[1]] * 3], max_batch_size=2, max_enqueued_batches=2)
    assert [len(rows(a)) for a in answers[:2]] == [2, 2]
    assert answers[2].code is Code.UNAVAILABLE
    assert "The batch scheduling queue to which this task was submitted is full" in str(answers[2])
    assert "Task size 3 is larger than maximum input batch size 2" in str(answers[3])


def test_a_request_that_was_given_up_is_not_computed():
    echo = Echo()

    async def run():
        runner = BatchingRunner(Batching(num_batch_threads=1), Metrics(lambda: 0))
        call = Call(echo, _signature(), ("y",))
        echo.open.clear()
        first = asyncio.create_task(runner.run(call, {"x": np.array([[0]])}, 1))
        while runner._idle:
            await asyncio.sleep(0)
        given_up = asyncio.create_task(runner.run(call, {"x": np.array([[7]])}, 1))
        await asyncio.sleep(0)
        given_up.cancel()
        echo.open.set()
        await first
        runner.close()

    asyncio.run(run())
    assert [b.tolist() for b in echo.batches] == [[[0]]]


@pytest.mark.parametrize("signature", ["serving_default", "query_embedding"])
def test_a_server_answers_many_at_once_as_each_alone(running, signature):
    rng = np.random.default_rng(1)
    requests = [
        predict_request(
            "lists",
            signature,
            user_id=[f"u{i}-{j}" for j in range(size)],
            offset=rng.normal(size=(size, 1)).astype(np.float32),
        )
        for i, size in enumerate(rng.integers(1, 6, 100))
    ]

    def answer(request) -> dict:
        outputs = running.prediction.Predict(request, timeout=20).outputs
        return {name: tf.make_ndarray(proto) for name, proto in outputs.items()}

    alone = [answer(request) for request in requests]
    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(answer, requests))
    for one, other in zip(alone, together, strict=True):
        assert set(one) == set(other)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
