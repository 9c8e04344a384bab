"""Promotion and rollback: one command each, and no moment in which a label leads nowhere."""

import contextlib
import fcntl
import json
import os
import threading

import pytest
from fake_model_server import FakeModelServer, RefusedError, running
from hypothesis import given, settings
from hypothesis import strategies as st

from fairness_losses.errors import InvalidInputError
from serving import promotion
from serving.model_server import connected
from serving.models_config import Served, read_models_config, write_models_config
from serving.promotion import promote, rollback
from serving.versions import Versions, add_version, delete_old


@pytest.fixture(autouse=True)
def checked(monkeypatch):
    """The folders hold no models: the check takes all but those named here for good."""
    broken = set()

    def check(version_dir):
        if int(version_dir.name) in broken:
            raise RuntimeError("the answers are others")

    monkeypatch.setattr(promotion, "check_in_fresh_process", check)
    return broken


@pytest.fixture
def model(tmp_path):
    """A model's folder without a version."""
    folder = tmp_path / "retriever"
    folder.mkdir()
    return folder


def export(folder, version: int) -> None:
    (folder / str(version)).mkdir()
    add_version(folder, version)


def labels(folder) -> dict[str, int]:
    return dict(read_models_config(folder).labels)


def listed(folder) -> tuple[int, ...]:
    return read_models_config(folder).versions


def test_the_life_of_a_version_without_a_server(model):
    export(model, 1)
    assert (listed(model), labels(model)) == ((1,), {"stable": 1})
    export(model, 2)
    assert (listed(model), labels(model)) == ((1, 2), {"stable": 1, "canary": 2})
    promote(model, poll_seconds=0)
    assert (listed(model), labels(model)) == ((1, 2), {"stable": 2, "canary": 2})
    rollback(model)
    assert (listed(model), labels(model)) == ((1, 2), {"stable": 1, "canary": 1})
    with pytest.raises(InvalidInputError, match="has pointed to no other version"):
        rollback(model)


def test_a_label_in_use_moves_only_to_what_was_listed_before(model):
    for version in (1, 2):
        export(model, version)
    export(model, 3)  # While 2 is canary: a server would refuse the label now.
    assert (listed(model), labels(model)) == ((1, 2, 3), {"stable": 1, "canary": 2})
    promote(model, label="canary", poll_seconds=0)
    assert (listed(model), labels(model)) == ((1, 2, 3), {"stable": 1, "canary": 3})
    (model / "4").mkdir()  # Copied there, and never listed.
    with pytest.raises(InvalidInputError, match=r"was not in `models\.config`"):
        promote(model, 4, poll_seconds=0)
    assert (listed(model), labels(model)) == ((1, 3, 4), {"stable": 1, "canary": 3})
    promote(model, 4, poll_seconds=0)
    assert (listed(model), labels(model)) == ((1, 3, 4), {"stable": 4, "canary": 3})


def test_what_a_rollback_returns_to_stays_loaded_whatever_comes(model):
    for version in range(1, 6):
        export(model, version)
        promote(model, version, poll_seconds=0)
        promote(model, version, "canary", poll_seconds=0)
    assert (listed(model), labels(model)) == ((4, 5), {"stable": 5, "canary": 5})
    export(model, 6)
    assert 4 in listed(model)
    for expected in (4, 3, 2, 1):
        assert expected in listed(model)
        rollback(model)
        assert labels(model)["stable"] == expected


def test_a_canary_that_is_newer_stays_when_stable_is_rolled_back(model):
    for version in (1, 2):
        export(model, version)
    promote(model, poll_seconds=0)
    export(model, 3)
    promote(model, 3, "canary", poll_seconds=0)
    rollback(model)
    assert labels(model) == {"stable": 1, "canary": 3}


def test_without_a_number_the_canary_is_promoted_or_else_the_newest(model):
    for version in (1, 2, 3):
        export(model, version)
    assert promote(model, poll_seconds=0).served.labels["stable"] == 2
    with pytest.raises(InvalidInputError, match="version 3 was not in"):  # Any more.
        promote(model, poll_seconds=0)
    assert read_models_config(model) == Served((1, 2, 3), {"stable": 2, "canary": 2})
    assert promote(model, poll_seconds=0).served.labels["stable"] == 3
    assert promote(model, poll_seconds=0).served.labels["stable"] == 3


def test_a_version_that_was_rolled_back_does_not_return_with_the_next_run(model):
    for version in (1, 2):
        export(model, version)
    promote(model, poll_seconds=0)
    rollback(model)
    add_version(model, 2)  # An export that was up to date.
    assert labels(model) == {"stable": 1, "canary": 1}


def test_a_version_that_a_polling_server_may_not_have_loaded_waits(model):
    for version in (1, 2):
        export(model, version)
    before = (model / "models.config").read_bytes()
    with pytest.raises(InvalidInputError, match=r"Run the command again in (59|60) seconds"):
        promote(model)
    assert (model / "models.config").read_bytes() == before


def test_a_broken_version_is_refused(model, checked):
    for version in (1, 2):
        export(model, version)
    checked.add(2)
    with pytest.raises(
        InvalidInputError, match="2: does not answer as at its export: the answers are others"
    ):
        promote(model, poll_seconds=0)
    with pytest.raises(InvalidInputError, match=r"no version 9. Those there are: 1, 2\."):
        promote(model, 9)
    assert labels(model) == {"stable": 1, "canary": 2}


def test_an_old_version_can_be_promoted_again_and_rolled_back(model):
    for version in (1, 2):
        export(model, version)
    for version in (2, 1):
        promote(model, version, poll_seconds=0)
    assert Versions.load(model).stable == (1, 2, 1)
    rollback(model)
    assert labels(model)["stable"] == 2
    rollback(model)
    assert labels(model)["stable"] == 1


def test_only_one_process_changes_labels_at_a_time(model):
    export(model, 1)
    handle = os.open(model, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(InvalidInputError, match="another process is changing what is served"):
        rollback(model)
    os.close(handle)
    with pytest.raises(InvalidInputError, match="no such folder"):
        promote(model / "missing")


def test_a_process_killed_between_its_two_files_leaves_a_history_that_can_be_used(model):
    for version in (1, 2):
        export(model, version)
    history = (model / "versions.json").read_text()
    promote(model, poll_seconds=0)
    (model / "versions.json").write_text(history)
    assert Versions.load(model).stable == (1, 2)
    rollback(model)
    assert labels(model)["stable"] == 1
    (model / "versions.json").unlink()
    assert Versions.load(model).stable == (1,)


def test_old_versions_are_deleted_but_for_those_that_somebody_may_need(model):
    for version in range(1, 4):
        export(model, version)
        promote(model, version, poll_seconds=0)
    for version in range(4, 9):
        export(model, version)
    assert labels(model) == {"stable": 3, "canary": 2}
    assert delete_old(model, keep=2) == [1, 4, 5, 6]
    assert Versions.load(model).on_disk == [2, 3, 7, 8]
    assert delete_old(model, keep=1) == [7]
    rollback(model)
    assert labels(model)["stable"] == 2
    assert not list(model.glob(".deleted*"))


def test_a_folder_that_somebody_deleted_is_not_listed_any_more(model):
    for version in (1, 2):
        export(model, version)
    (model / "1").rmdir()
    export(model, 3)
    assert (listed(model), labels(model)) == ((2, 3), {"stable": 3, "canary": 2})


def test_a_configuration_of_another_model_is_not_touched(model, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    write_models_config(other, Served((1,), {"stable": 1}))
    (other / "models.config").rename(model / "models.config")
    with pytest.raises(InvalidInputError, match="should configure the model `retriever`"):
        export(model, 1)
    (model / "models.config").write_text("model_config_list {")
    with pytest.raises(InvalidInputError, match="is no ModelServerConfig"):
        export(model, 2)


COMMANDS = st.lists(
    st.sampled_from(["export", "promote", "promote to canary", "rollback"]), max_size=12
)


@settings(max_examples=40, deadline=None)
@given(commands=COMMANDS)
def test_a_server_that_polls_accepts_every_file_and_answers_for_every_label(
    tmp_path_factory, commands
):
    """After every command, also when the server was started anew just then."""
    folder = tmp_path_factory.mktemp("models") / "retriever"
    folder.mkdir()
    export(folder, 1)
    server, path = FakeModelServer(), folder / "models.config"
    server.start(path)
    for number, command in enumerate(commands, start=2):
        known = set(server.labels)
        if command == "export":
            export(folder, number)
        elif command.startswith("promote"):
            label = "canary" if "canary" in command else "stable"
            with contextlib.suppress(InvalidInputError):  # A version that is listed first.
                promote(folder, label=label, poll_seconds=0)
        elif Versions.load(folder).before is not None:
            rollback(folder)
        server.poll(path)  # Refuses what it would refuse.
        # Labels that clients use lead to loaded versions at once, new ones when it is loaded.
        assert {server.labels[label] for label in known} <= server.loaded
        server.load()
        assert set(server.labels.values()) <= server.loaded
        assert known <= set(server.labels)
        another = FakeModelServer()
        another.start(path)
        assert another.labels == server.labels
    assert server.max_loaded <= 4


def test_the_server_of_these_tests_refuses_what_the_real_one_does(model):
    export(model, 1)
    (model / "2").mkdir()
    server = FakeModelServer()
    server.start(model / "models.config")
    write_models_config(model, Served((1, 2), {"stable": 2}))
    with pytest.raises(RefusedError):
        server.poll(model / "models.config")
    assert (server.labels, server.aspired) == ({"stable": 1}, {1})


@pytest.fixture
def serving(model):
    """A server of three exported versions, by gRPC, and what reads from it all the time."""
    for version in (1, 2, 3):
        export(model, version)
    server = FakeModelServer(broken=(9,))
    server.start(model / "models.config")
    stop, broken_reads = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            labels, loaded = server.labels, server.loaded
            if not set(labels.values()) <= loaded:
                broken_reads.append((labels, loaded))

    reader = threading.Thread(target=read)
    reader.start()
    with running(server) as address, connected([address], "retriever", timeout=10) as clients:
        yield server, clients
    stop.set()
    reader.join()
    assert broken_reads == []


def test_a_running_server_loads_then_moves_the_label_then_unloads(model, serving):
    server, clients = serving
    (model / "4").mkdir()
    server.seen.clear()
    promote(model, 4, servers=clients)
    assert server.seen == [
        ({"stable": 1, "canary": 2}, {1, 2, 3, 4}),
        ({"stable": 4, "canary": 2}, {1, 2, 4}),
        ({"stable": 4, "canary": 2}, {1, 2, 4}),
    ]
    promote(model, 4, "canary", servers=clients)
    assert server.seen[-1] == ({"stable": 4, "canary": 4}, {1, 4})
    rollback(model, clients)
    assert server.seen[-1] == ({"stable": 1, "canary": 1}, {1})
    assert (listed(model), labels(model)) == ((1,), {"stable": 1, "canary": 1})


def test_a_version_that_the_server_cannot_load_leaves_everything_as_it_was(model, serving):
    server, clients = serving
    (model / "9").mkdir()
    before = (listed(model), labels(model))
    with pytest.raises(InvalidInputError, match="cannot load version 9: Op type not registered"):
        promote(model, 9, servers=clients)
    assert (listed(model), labels(model)) == before
    assert server.aspired == set(before[0])
    assert server.labels == before[1]


def test_a_label_waits_for_the_last_of_several_servers(model, serving):
    server, clients = serving
    (model / "4").mkdir()
    broken = FakeModelServer(broken=(4,))
    broken.start(model / "models.config")
    with running(broken) as address, connected([address], "retriever", timeout=10) as others:
        with pytest.raises(InvalidInputError, match=f"{address}: the server cannot load version 4"):
            promote(model, 4, servers=[*clients, *others])
        assert server.labels == broken.labels == {"stable": 1, "canary": 2}
        broken.broken.clear()
        promote(model, 4, servers=[*clients, *others])
    assert server.labels == broken.labels == {"stable": 4, "canary": 2}


def test_a_version_that_takes_too_long_leaves_everything_as_it_was(model, serving, monkeypatch):
    server, clients = serving
    (model / "4").mkdir()
    monkeypatch.setattr(server, "load", lambda: None)
    monkeypatch.setattr(clients[0], "_timeout", 0.3)
    with pytest.raises(InvalidInputError, match=r"not loaded version 4 within 0\.3 seconds"):
        promote(model, 4, servers=clients)
    assert labels(model) == {"stable": 1, "canary": 2}


def test_a_server_that_refuses_or_is_not_there_leaves_everything_as_it_was(model, serving):
    server, clients = serving
    server.labels = {"stable": 3}  # Not what the file says.
    server.loaded = {3}
    with pytest.raises(InvalidInputError, match="the server refused the configuration: Request"):
        promote(model, 2, servers=clients)
    server.labels = {}
    with (
        connected(["localhost:1"], "retriever", timeout=1) as nobody,
        pytest.raises(InvalidInputError, match="localhost:1: the server refused: UNAVAILABLE"),
    ):
        promote(model, 2, servers=nobody)
    assert labels(model) == {"stable": 1, "canary": 2}


def test_the_history_is_json_that_a_person_can_read(model):
    for version in (1, 2):
        export(model, version)
    promote(model, poll_seconds=0)
    content = json.loads((model / "versions.json").read_text())
    assert content["stable"] == [1, 2]
    assert content["newest"] == 2
    assert set(content["listed_at"]) == {"1", "2"}
