"""The run directory: output appears whole or not at all, and is not made twice."""

import json
import os
import pathlib
import re
import subprocess
import sys
import time

import pytest

from fairness_losses.errors import InvalidInputError
from pipelines import run_directory
from pipelines.run_directory import RunDirectory, files_fingerprint


class Stage:
    """A stage whose output says how often it has been made."""

    def __init__(self, directory: RunDirectory, name: str = "examples") -> None:
        self.directory = directory
        self.name = name
        self.calls = 0

    def write(self, out: pathlib.Path) -> dict:
        self.calls += 1
        (out / "output").write_text(str(self.calls))
        return {"calls": self.calls}

    def bring_up_to_date(self, settings: object = "s", **inputs: str) -> None:
        """As a run does it."""
        if self.directory.force or not self.directory.is_current(self.name, settings, inputs):
            self.directory.build(self.name, settings, inputs, self.write)

    @property
    def output(self) -> str:
        return (self.directory.path(self.name) / "output").read_text()


def _fail(out: pathlib.Path) -> dict:
    (out / "output").write_text("half")
    raise KeyboardInterrupt


def _visible(folder: pathlib.Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


def _manifest(root: pathlib.Path) -> list[str]:
    return [s["stage"] for s in json.loads((root / "manifest.json").read_text())["stages"]]


def test_a_stage_is_made_once(tmp_path):
    stage = Stage(RunDirectory(tmp_path / "new" / "run"))
    stage.bring_up_to_date()
    stage.bring_up_to_date()
    assert stage.calls == 1
    record = stage.directory.record("examples")
    assert record is not None
    assert record.result == {"calls": 1}
    assert record.seconds >= 0
    assert record.versions["tensorflow"].startswith("2.")


def test_a_stage_is_made_anew_when_its_settings_or_inputs_change(tmp_path):
    stage = Stage(RunDirectory(tmp_path))
    stage.bring_up_to_date("s", source="1")
    stage.bring_up_to_date("t", source="1")
    assert stage.output == "2"
    stage.bring_up_to_date("t", source="2")
    assert stage.output == "3"
    stage.bring_up_to_date("t", source="2")
    assert stage.calls == 3


def test_a_stage_is_made_anew_with_other_packages(tmp_path, monkeypatch):
    stage = Stage(RunDirectory(tmp_path))
    stage.bring_up_to_date()
    monkeypatch.setattr(run_directory, "_versions", lambda: {"tensorflow": "3"})
    stage.bring_up_to_date()
    assert stage.calls == 2


def test_force_makes_a_stage_anew_although_it_is_up_to_date(tmp_path):
    Stage(RunDirectory(tmp_path)).bring_up_to_date()
    stage = Stage(RunDirectory(tmp_path, force=True))
    stage.bring_up_to_date()
    assert stage.calls == 1


def test_a_crash_leaves_the_previous_output_in_its_place(tmp_path):
    stage = Stage(RunDirectory(tmp_path))
    stage.bring_up_to_date("s")
    with pytest.raises(KeyboardInterrupt):
        stage.directory.build("examples", "t", {}, _fail)
    assert stage.output == "1"
    assert stage.directory.is_current("examples", "s", {})
    assert not stage.directory.is_current("examples", "t", {})
    stage.bring_up_to_date("t")
    assert stage.output == "2"
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_a_crash_of_the_first_call_leaves_nothing_under_the_final_name(tmp_path):
    directory = RunDirectory(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        directory.build("model", "s", {}, _fail)
    assert _visible(tmp_path) == []
    assert directory.record("model") is None


@pytest.mark.parametrize("killed_at", ["first rename", "second rename", "removal"])
def test_a_kill_at_any_moment_of_the_replacement_leaves_a_whole_output(
    tmp_path, monkeypatch, killed_at
):
    """Old output aside, new output in place, old output removed: in between lies a kill each."""
    stage = Stage(RunDirectory(tmp_path))
    stage.bring_up_to_date("s")
    with monkeypatch.context() as patch:
        renames, really_rename = [], pathlib.Path.rename

        def rename(path, target):
            renames.append(target)
            if killed_at == "first rename" or (killed_at == "second rename" and len(renames) == 2):
                raise KeyboardInterrupt
            really_rename(path, target)

        def rmtree(*_, **__):
            raise KeyboardInterrupt

        patch.setattr(pathlib.Path, "rename", rename)
        if killed_at == "removal":
            patch.setattr("shutil.rmtree", rmtree)
        with pytest.raises(KeyboardInterrupt):
            stage.directory.build("examples", "t", {}, stage.write)

    # The next process.
    directory = RunDirectory(tmp_path)
    expected = "t" if killed_at == "removal" else "s"
    assert directory.is_current("examples", expected, {})
    assert stage.output == ("2" if killed_at == "removal" else "1")
    stage.bring_up_to_date("t")
    assert stage.calls == (2 if killed_at == "removal" else 3)
    assert [p.name for p in tmp_path.iterdir()] in (
        ["examples", "manifest.json"],
        ["manifest.json", "examples"],
    )


def _resume(out: pathlib.Path) -> dict:
    return {"found": sorted(p.name for p in out.iterdir())}


def test_a_stage_that_resumes_finds_what_a_killed_call_left(tmp_path):
    directory = RunDirectory(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        directory.build("model", "s", {}, _fail, resumes=True)
    record = directory.build("model", "s", {}, _resume, resumes=True)
    assert record.result == {"found": ["output"]}


@pytest.mark.parametrize(
    ("settings", "force", "resumes"),
    [("t", False, True), ("s", True, True), ("s", False, False)],
    ids=["other settings", "force", "stage that does not resume"],
)
def test_what_was_left_is_thrown_away_otherwise(tmp_path, settings, force, resumes):
    with pytest.raises(KeyboardInterrupt):
        RunDirectory(tmp_path).build("model", "s", {}, _fail, resumes=True)
    directory = RunDirectory(tmp_path, force=force)
    record = directory.build("model", settings, {}, _resume, resumes=resumes)
    assert record.result == {"found": []}
    assert [p.name for p in tmp_path.glob(".model*")] == []


def test_stages_whose_names_begin_alike_keep_out_of_each_others_way(tmp_path):
    directory = RunDirectory(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        directory.build("serving/r/1", "s", {}, _fail, resumes=True)
    directory.build("serving/r/10", "s", {}, _resume)
    record = directory.build("serving/r/1", "s", {}, _resume, resumes=True)
    assert record.result == {"found": ["output"]}


def test_the_manifest_lists_every_stage_newest_last_and_no_hidden_one(tmp_path):
    root = tmp_path / ".hidden" / "run"
    directory = RunDirectory(root)
    for name in ("examples", "exposure_parity/model", "exposure_parity/serving/r/1", "schema"):
        Stage(directory, name).bring_up_to_date()
        _set_time(root / name / "stage.json", later=len(_manifest(root)))
    with pytest.raises(KeyboardInterrupt):
        directory.build("exposure_parity/model", "t", {}, _fail)
    hidden = root / "exposure_parity" / ".model.partial-x"
    hidden.mkdir()
    (hidden / "stage.json").write_text("{}")
    Stage(directory, "report").bring_up_to_date()
    assert _manifest(root) == [
        "examples",
        "exposure_parity/model",
        "exposure_parity/serving/r/1",
        "schema",
        "report",
    ]


def _set_time(path: pathlib.Path, later: int) -> None:
    """Files of one moment have an order then; all lie in the past."""
    moment = time.time() - 1000 + later
    os.utime(path, (moment, moment))


def test_the_next_process_completes_the_manifest_of_one_that_was_killed(tmp_path):
    directory = RunDirectory(tmp_path)
    Stage(directory, "examples").bring_up_to_date()
    Stage(directory, "report").bring_up_to_date()
    (tmp_path / "manifest.json").write_text('{"stages": []}')
    with RunDirectory(tmp_path).locked():
        assert _manifest(tmp_path) == ["examples", "report"]


def test_a_stage_that_is_needed_is_asked_for_by_its_command(tmp_path):
    with pytest.raises(InvalidInputError) as error:
        RunDirectory(tmp_path).required("schema", "validate")
    expected = f"{tmp_path}/schema is not there. Run `fairtowers validate` first."
    assert str(error.value) == expected


def test_a_stage_made_from_what_has_been_made_anew_is_refused(tmp_path):
    """So nobody trains on examples that broke their schema, or audits a model that is gone."""
    directory = RunDirectory(tmp_path)
    examples, schema = Stage(directory, "examples"), Stage(directory, "schema")
    examples.bring_up_to_date("s")
    used = directory.required("examples", "examples").fingerprint
    schema.bring_up_to_date("s", examples=used)
    directory.required("schema", "validate")
    examples.bring_up_to_date("t")
    with pytest.raises(InvalidInputError) as error:
        directory.required("schema", "validate")
    assert "is older than `examples`" in str(error.value)
    assert "Run `fairtowers validate` first." in str(error.value)


_HOLD = """
import pathlib, sys
from pipelines.run_directory import RunDirectory
with RunDirectory(pathlib.Path(sys.argv[1])).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_kept_out_until_the_first_is_gone_even_if_killed(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        refusal = re.escape(str(tmp_path)) + ": another fairtowers process is working in"
        with pytest.raises(InvalidInputError, match=refusal), RunDirectory(tmp_path).locked():
            pass
        other.kill()
        other.wait()
    with RunDirectory(tmp_path).locked():
        pass


def test_a_file_cannot_be_the_run_directory(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InvalidInputError, match="cannot be the run directory"):
            RunDirectory(path)


def test_files_have_another_fingerprint_once_they_are_changed_and_the_same_in_any_order(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("1")
    b.write_text("2")
    before = files_fingerprint([a, b])
    assert files_fingerprint([b, a]) == before
    a.write_text("12")
    assert files_fingerprint([a, b]) != before
    with pytest.raises(InvalidInputError, match="there is no such file"):
        files_fingerprint([tmp_path / "c"])


def test_a_stage_is_fresh_until_something_it_comes_from_is_made_anew(tmp_path):
    directory = RunDirectory(tmp_path)
    assert not directory.is_fresh("c")
    record = directory.build("a", 1, {}, lambda out: {})
    between = directory.build("b", 1, {"a": record.fingerprint}, lambda out: {})
    directory.build("c", 1, {"b": between.fingerprint}, lambda out: {})
    assert directory.is_fresh("c")
    directory.build("a", 2, {}, lambda out: {})
    assert not directory.is_fresh("c")
    assert directory.is_fresh("a")
