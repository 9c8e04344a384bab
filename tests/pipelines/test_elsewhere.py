"""Examples that workers write to another file system, and their way into the run directory."""

import json
import pathlib

import pytest
from fake_file_system import FakeFileSystem
from small_log import LOG, build, config, write_files

from fairness_losses.errors import InvalidInputError
from pipelines.config import RunConfig
from pipelines.examples.elsewhere import build_elsewhere, fetch, is_complete
from pipelines.examples.inputs import inputs_fingerprint
from pipelines.examples.pipeline import build_examples
from pipelines.run import Run

AT = "fake://bucket/monday"


@pytest.fixture(autouse=True)
def bucket():
    FakeFileSystem.objects.clear()
    FakeFileSystem.log.clear()
    return FakeFileSystem


def _files(folder: pathlib.Path) -> dict[str, bytes]:
    paths = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in paths}


def _filled(folder: pathlib.Path) -> dict[str, bytes]:
    """Those that are not empty, as the dead letters of an input without any."""
    return {name: content for name, content in _files(folder).items() if content}


def _remote(run: RunConfig) -> RunConfig:
    """The same run, its inputs in the bucket."""
    data = run.data.model_dump()
    for name in ("interactions", "users", "items"):
        path = pathlib.Path(data[name]["path"])
        FakeFileSystem.put(f"fake://bucket/in/{path.name}", path.read_bytes())
        data[name]["path"] = f"fake://bucket/in/{path.name}"
    return RunConfig.model_validate({**run.model_dump(), "data": data})


def test_the_same_files_come_out_whatever_the_file_system(tmp_path, bucket):
    """Byte for byte: shards, catalogue, vocabularies, checksums, counts."""
    run = config(write_files(tmp_path, LOG + ",i1,100\n"))
    build(run, tmp_path / "local")
    build_examples(_remote(run), None, AT)
    local = _filled(tmp_path / "local")
    letters = "dead_letter/interactions.jsonl"
    assert bucket.names(AT) == sorted(local)
    remote = {name: bucket.objects[f"{AT}/{name}"][0] for name in local}
    assert json.loads(remote.pop(letters))["file"] == "fake://bucket/in/log.csv"
    assert json.loads(local.pop(letters))["row"] == 6
    assert remote == local


def test_no_file_is_written_under_its_final_name_and_the_counts_come_last(tmp_path, bucket):
    build_examples(config(write_files(tmp_path)), None, AT)
    assert not [p for what, p in bucket.log if what == "create" and "/." not in p]
    renamed = [path for what, path in bucket.log if what == "rename"]
    assert renamed[-2:] == [f"{AT}/shards.json", f"{AT}/counts.json"]


def test_finished_examples_are_fetched_and_not_built_again(tmp_path, bucket, monkeypatch):
    run = config(write_files(tmp_path))
    build(run, tmp_path / "local")
    (tmp_path / "first").mkdir()
    counts = build_elsewhere(run, None, AT, "print", tmp_path / "first")
    bucket.put(f"{AT}/.train-00000-of-00001.tfrecord.gz.0123", b"of a worker that was killed")
    monkeypatch.delattr("pipelines.examples.elsewhere.run")
    (tmp_path / "second").mkdir()
    assert build_elsewhere(run, None, AT, "print", tmp_path / "second") == counts
    for out in ("first", "second"):
        found = _files(tmp_path / out)
        assert json.loads(found.pop("built_from.json")) == {"fingerprint": "print"}
        assert found == _filled(tmp_path / "local")


def test_examples_of_other_settings_are_refused(tmp_path):
    build_elsewhere(config(write_files(tmp_path)), None, AT, "print", tmp_path)
    assert is_complete(AT, "print")
    with pytest.raises(InvalidInputError, match="were built from other data or settings"):
        is_complete(AT, "another")


def test_unfinished_examples_are_refused(tmp_path, bucket):
    build_elsewhere(config(write_files(tmp_path)), None, AT, "print", tmp_path)
    del bucket.objects[f"{AT}/counts.json"]
    with pytest.raises(InvalidInputError, match=r"still running, wait for it; if it failed"):
        is_complete(AT, "print")


def test_a_job_that_cannot_start_leaves_the_folder_empty(tmp_path, bucket):
    run = config(write_files(tmp_path, log="who,when\n"))
    with pytest.raises(InvalidInputError, match="no column `what`"):
        build_elsewhere(run, None, AT, "print", tmp_path / "out")
    assert not bucket.names(AT)


def test_a_folder_of_other_files_is_refused(bucket):
    assert not is_complete(AT, "print")
    bucket.put(f"{AT}/photos/holiday.jpg", b"")
    with pytest.raises(InvalidInputError, match="Received a folder of other files"):
        is_complete(AT, "print")


@pytest.mark.parametrize("damage", ["damaged", "missing"])
def test_a_shard_that_is_not_what_was_written_is_named(tmp_path, bucket, damage):
    run = config(write_files(tmp_path / "in"))
    build_elsewhere(run, None, AT, "print", tmp_path / "first")
    shard = f"{AT}/train-00000-of-00001.tfrecord.gz"
    if damage == "damaged":
        bucket.put(shard, bucket.objects[shard][0][:-1])
    else:
        del bucket.objects[shard]
    with pytest.raises(InvalidInputError, match=rf"{shard}: the file is {damage}"):
        fetch(AT, tmp_path / "second")


def test_too_many_dead_letters_are_told_again_when_they_are_fetched(tmp_path):
    """A job that nobody waits for, such as one on Dataflow, tells it only then."""
    log = LOG + ",i1,100\n"
    run = config(write_files(tmp_path, log), data={"max_dead_letter_share": 0.1})
    for _ in range(2):
        with pytest.raises(InvalidInputError, match=r"data.interactions: 1 of 6 rows \(16.7%\)"):
            build_elsewhere(run, None, AT, "print", tmp_path / "out")


def test_a_run_goes_on_from_examples_that_were_built_elsewhere(tmp_path, bucket):
    run = config(write_files(tmp_path))
    Run(run, tmp_path / "run", examples_at=AT).examples()
    created = len(bucket.log)
    Run(run, tmp_path / "run").examples()  # Up to date, wherever the examples were built.
    Run(run, tmp_path / "other", examples_at=AT).examples()
    assert len(bucket.log) == created
    assert _files(tmp_path / "other" / "examples").keys() > {"counts.json", "users.parquet"}
    changed = config(write_files(tmp_path, LOG + "u3,i1,600\n"))
    with pytest.raises(InvalidInputError, match="were built from other data or settings"):
        Run(changed, tmp_path / "other", examples_at=AT).examples()


def test_only_examples_are_built_elsewhere(tmp_path, monkeypatch):
    """Other machines share no run directory that validation could read."""
    arguments = {}

    def validate(config, examples_dir, out_dir, previous, pipeline_args):
        arguments["validate"] = pipeline_args
        (out_dir / "schema.pbtxt").touch()
        return {}

    monkeypatch.setattr("pipelines.validation.validate.validate_examples", validate)
    args = ["--streaming_flag_of_a_runner"]
    run = Run(config(write_files(tmp_path)), tmp_path / "run", beam_args=args, examples_at=AT)
    run.examples()
    run.validate()
    assert arguments == {"validate": []}


def test_a_folder_that_the_workers_do_not_share_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.examples.elsewhere.run", lambda pipeline: None)
    run = config(write_files(tmp_path))
    with pytest.raises(InvalidInputError, match=f"^{AT}: the job has ended, but"):
        build_elsewhere(run, None, AT, "print", tmp_path / "out")


def test_remote_inputs_that_change_are_noticed(tmp_path, bucket):
    run = _remote(config(write_files(tmp_path)))
    before = inputs_fingerprint(run)
    assert inputs_fingerprint(run) == before
    path = run.data.users.path
    bucket.put(path, bucket.objects[path][0] + b"u4,F,30,NO\n")
    larger = inputs_fingerprint(run)
    bucket.log.append(("a second", "later"))
    bucket.put(path, bucket.objects[path][0])
    assert len({before, larger, inputs_fingerprint(run)}) == 3


def test_local_inputs_that_change_are_noticed(tmp_path):
    run = config(write_files(tmp_path))
    before = inputs_fingerprint(run)
    assert inputs_fingerprint(run) == before
    (tmp_path / "items.csv").write_text("id\n")
    assert inputs_fingerprint(run) != before
