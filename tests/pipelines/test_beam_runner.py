"""How pipelines are run, and how the errors of their steps reach a person."""

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from fairness_losses.errors import InvalidInputError
from pipelines.beam_runner import new_pipeline, run


@pytest.mark.parametrize("args", [[], ["--runner=DirectRunner"]])
def test_pipelines_run_in_this_process_by_default(args):
    assert isinstance(new_pipeline(args).runner, FnApiRunner)


def test_the_dask_runner_is_refused():
    with pytest.raises(InvalidInputError, match="DaskRunner mixes up the outputs"):
        new_pipeline(["--runner=apache_beam.runners.dask.dask_runner.DaskRunner"])


class _Fail(beam.DoFn):
    def __init__(self, error: Exception) -> None:
        self._error = error

    def process(self, element):
        raise self._error


def _run(error: Exception) -> None:
    pipeline = new_pipeline()
    _ = pipeline | beam.Create([1]) | beam.ParDo(_Fail(error))
    run(pipeline)


def test_what_is_wrong_with_an_input_is_said_without_beams_additions():
    with pytest.raises(InvalidInputError) as error:
        _run(InvalidInputError("log.csv: the file is damaged."))
    assert str(error.value) == "log.csv: the file is damaged."


def test_an_error_of_another_machine_is_known_by_its_text():
    """What runs elsewhere reports a traceback."""
    last = "fairness_losses.errors.InvalidInputError: a.csv: bad. [while running 'Read']"
    traceback = f"Traceback:\n  x\n{last}\n"
    with pytest.raises(InvalidInputError, match=r"^a\.csv: bad\.$"):
        _run(RuntimeError(traceback))


def test_other_errors_are_not_taken_for_ones_of_the_input():
    with pytest.raises(Exception, match="surprise") as error:
        _run(KeyError("surprise"))
    assert not isinstance(error.value, InvalidInputError)
