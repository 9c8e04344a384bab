"""From an assignment over a request to the log: each user's arm is what served them."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_server import make_files, model_config, models_config, run_server

from serving.experiments.assignment import Assigner
from serving.experiments.client import ExperimentClient
from serving.experiments.config import Experiment
from serving.experiments.labels import arm_numbers
from serving.log.config import LogConfig
from serving.log.writer import ListLog

EXPERIMENT = Experiment.model_validate(
    {
        "name": "fair-tower",
        "salt": "autumn",
        "arms": [
            {"name": "control", "share": 0.5, "label": "stable"},
            {"name": "treatment", "share": 0.5, "version": 2},
        ],
        "traffic": 0.8,
        "metrics": {"primary": {"kind": "mean", "name": "clicks", "value": "clicks"}},
        "minimum_effect": 0.1,
        "start": "2026-11-02T00:00:00Z",
        "end": "2026-11-16T00:00:00Z",
    }
)


@pytest.mark.parametrize("over", ["grpc", "rest"])
def test_the_log_says_which_arm_served_each_user(saved_models, tmp_path, over):
    text = models_config(
        model_config("lists", "model_version_policy { all {} }", {"stable": 1, "canary": 2})
    )
    log = ListLog(LogConfig(directory=str(tmp_path / "log"), salts=str(tmp_path / "salts")))
    users = [f"u{i}" for i in range(40)]
    with run_server(make_files(saved_models, text), log) as server:
        address = server.address if over == "grpc" else server.url
        with ExperimentClient(EXPERIMENT, address, "lists") as client:
            for user in users:
                client.retrieve(user, {"user_id": [user], "offset": [[6.0]]})
        log.close()
    logged = pa.concat_tables(map(pq.read_table, (tmp_path / "log").glob("*.parquet"))).to_pydict()
    # The small model's items are called `<user>:<number>`.
    whose = [ids[0].split(":")[0] for ids in logged["candidate_ids"]]
    by_user = zip(logged["arm"], logged["model_version"], strict=True)
    served = dict(zip(whose, by_user, strict=True))
    assigner, names = Assigner(EXPERIMENT), [arm.name for arm in EXPERIMENT.arms]
    assert set(served) == set(users)
    seen = set()
    for user, (label, version) in served.items():
        number = assigner.number(user)
        (read,) = arm_numbers(pa.array([label]), "fair-tower", names)
        assert read == number
        assert version == ("lists/2" if number == 1 else "lists/1")
        seen.add(number)
    assert seen == {-1, 0, 1}
