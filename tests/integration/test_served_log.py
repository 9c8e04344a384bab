"""From an export to an audit of what was served: server, client, log, promotion, audit."""

import json
import re
import signal
import subprocess

import pyarrow.parquet as pq
import pytest
import yaml
from tiny_run import ROOT, TINY, command, environment, fairtowers

from serving.client import Client

pytestmark = pytest.mark.slow


@pytest.fixture
def served(tiny, tmp_path):
    """A server of the tiny run's export that logs."""
    log = {"directory": str(tmp_path / "log"), "salts": str(tmp_path / "salts")}
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump({**TINY, "serving": {**TINY["serving"], "log": log}}))
    model = tiny.out / "exposure_parity" / "serving" / "retriever"
    program = command("serve", config, tmp_path)[:-4]
    ports = ["--grpc-port", "0", "--rest-port", "0"]
    with subprocess.Popen(
        [*program, str(model), "-c", str(config), *ports],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_what_a_server_logs_is_audited_without_the_ids_of_users(served, tiny, tmp_path):
    process = served
    line = process.stdout.readline()
    port = re.search(r"gRPC on 127.0.0.1:(\d+)", line)[1]
    users = pq.read_table(tiny.out / "examples" / "users.parquet").to_pandas()
    features = {"user_id": users["user_id"].tolist(), "country": users[["country"]].to_numpy(str)}
    with Client(f"127.0.0.1:{port}") as client:
        lists = client.retrieve(features, arm="b")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0

    logged = pq.read_table(sorted((tmp_path / "log").glob("*.parquet"))[0]).to_pandas()
    assert len(logged) == len(users)
    assert set(logged["arm"]) == {"b"}
    assert logged["candidate_ids"].map(list).tolist() == lists.candidate_ids.tolist()
    assert not set(logged["user_hash"]) & set(users["user_id"])

    options = ("--lists", str(tmp_path / "log" / "*.parquet"), "--salts", str(tmp_path / "salts"))
    result = fairtowers("audit-lists", tiny.config, tiny.out, *options, "--name", "logged")
    assert result.returncode == 0, result.stderr
    report = json.loads((tiny.out / "audits" / "logged" / "report.json").read_text())
    assert report["overall"]["users"] == len(users)
    stated = users["slice.gender"].value_counts()
    shown = {value: cell.get("users") for value, cell in report["slices"]["gender"].items()}
    assert {value: n for value, n in shown.items() if n} == {
        v: stated[v] for v in shown if shown[v]
    }
