"""What examples need when workers are on other machines, or are killed."""

import pathlib

import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from small_log import build, config, write_files

from fairness_losses.errors import InvalidInputError
from pipelines import beam_runner
from pipelines.examples import pipeline
from pipelines.readers.files import find_files


def test_local_files_are_found_with_their_whole_path(tmp_path, monkeypatch):
    """Workers run in other folders."""
    write_files(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert find_files("data/log*", "data.interactions.path") == [str(tmp_path / "data" / "log.csv")]


def test_the_folder_that_workers_write_to_is_whole(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = []
    monkeypatch.setattr(pipeline, "assemble", lambda *arguments: told.append(arguments[-1]))
    with pytest.raises(InvalidInputError):
        build(config(write_files(tmp_path)), pathlib.Path("out"))
    assert told == [tmp_path / "out"]


def test_a_folder_that_workers_do_not_share_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "assemble", lambda *_: None)
    with pytest.raises(InvalidInputError, match="what its workers wrote is not here"):
        build(config(write_files(tmp_path)), tmp_path / "out")


def test_what_a_killed_worker_left_half_written_is_removed(tmp_path, monkeypatch):
    left = tmp_path / "out" / f".train-00000-of-00001.tfrecord.gz.{'0123' * 8}"

    class Runner(FnApiRunner):
        def run_pipeline(self, *arguments):
            left.write_bytes(b"half")
            return super().run_pipeline(*arguments)

    monkeypatch.setattr(beam_runner, "FnApiRunner", Runner)
    build(config(write_files(tmp_path)), tmp_path / "out")
    assert not left.exists()
    assert (tmp_path / "out" / "train-00000-of-00001.tfrecord.gz").exists()
