"""Every list that is answered is told to the log, which can neither fail nor delay an answer."""

import numpy as np
import pytest
from small_server import make_files, model_config, models_config, predict_request, run_server


class Log:
    def __init__(self) -> None:
        self.answers = []
        self.behaviour = lambda: True

    def append(self, answer) -> bool:
        self.answers.append(answer)
        return self.behaviour()


@pytest.fixture(scope="module")
def log():
    return Log()


@pytest.fixture(scope="module")
def logging_server(saved_models, log):
    text = models_config(model_config("lists"), model_config("plain"))
    with run_server(make_files(saved_models, text), log) as server:
        yield server


@pytest.fixture(autouse=True)
def _empty(log):
    log.answers.clear()
    log.behaviour = lambda: True


BODY = {"instances": [{"user_id": "u1", "offset": [6.0]}]}


def dropped(server) -> float:
    page = server.get("/monitoring/prometheus/metrics").text
    (line,) = [x for x in page.splitlines() if x.startswith("fairtowers_dropped_answers_total")]
    return float(line.split()[1])


def test_lists_are_logged_with_what_made_them(logging_server, log):
    arm = {"x-experiment-arm": "blue"}
    assert logging_server.post("/v1/models/lists:predict", json=BODY, headers=arm).ok
    request = predict_request("lists", user_id=["u1"], offset=np.array([[6.0]], np.float32))
    metadata = [("x-experiment-arm", "green")]
    logging_server.prediction.Predict(request, timeout=20, metadata=metadata)
    assert [a.arm for a in log.answers] == ["blue", "green"]
    for answer in log.answers:
        assert (answer.model, answer.version, answer.signature) == ("lists", 2, "serving_default")
        assert answer.inputs["user_id"].tolist() == [b"u1"]
        assert answer.outputs["candidate_ids"].tolist() == [[b"u1:0", b"u1:1", b"u1:2"]]
        assert answer.outputs["scores"].tolist() == [[6.0, 3.0, 2.0]]
        assert answer.unix_seconds > 1.7e9


def test_what_is_no_list_or_no_answer_is_not_logged(logging_server, log):
    embed = {"signature_name": "query_embedding", **BODY}
    assert logging_server.post("/v1/models/lists:predict", json=embed).ok
    assert logging_server.post("/v1/models/plain:predict", json={"instances": [1.0]}).ok
    assert not logging_server.post("/v1/models/lists:predict", json={"instances": [{}]}).ok
    assert log.answers == []


def test_a_log_that_drops_or_fails_is_counted_and_does_no_harm(logging_server, log):
    before = dropped(logging_server)

    def fail() -> bool:
        raise OSError("the disk is full")

    for behaviour in (lambda: False, fail):
        log.behaviour = behaviour
        assert logging_server.post("/v1/models/lists:predict", json=BODY).ok
    assert dropped(logging_server) == before + 2
