"""How every pipeline of this package is run, and how its errors reach a person."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from fairness_losses.errors import InvalidInputError
from pipelines.file_systems import is_disk_full


def new_pipeline(pipeline_args: Sequence[str] = ()) -> beam.Pipeline:
    """Returns an empty pipeline.

    Args:
        pipeline_args: Beam's own options, such as `--runner=FlinkRunner`. By default the pipeline
            runs in this process.

    Raises:
        InvalidInputError: The runner is one that corrupts what it is given.
    """
    options = PipelineOptions(list(pipeline_args))
    return beam.Pipeline(runner=_runner(options), options=options)


def run(pipeline: beam.Pipeline) -> None:
    """Runs a pipeline to its end.

    Raises:
        InvalidInputError: A step raised one, on whatever machine.
    """
    try:
        pipeline.run().wait_until_finish()
    except Exception as error:
        raise _input_error(error) or error from error


def _runner(options: PipelineOptions) -> Any:
    name = options.view_as(StandardOptions).runner
    if name and "dask" in name.lower():
        raise InvalidInputError(
            "Beam's DaskRunner mixes up the outputs of a step, which would corrupt the examples. "
            "Use another runner, or none to run in this process."
        )
    # DirectRunner would first try a runner that it has to download.
    return FnApiRunner() if name in (None, "DirectRunner") else name


def _is_unexpected(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return error is None or not (isinstance(error, InvalidInputError) or is_disk_full(error))


# An exception in this process reaches the caller: Beam need not print its traceback, too.
logging.getLogger("apache_beam.runners.common").addFilter(_is_unexpected)


def _input_error(error: Exception) -> InvalidInputError | None:
    """Beam adds to the text of an exception, and other machines report theirs as text only."""
    text = f"{type(error).__name__}: {error}"
    message = re.search(r"InvalidInputError: (.*?)(?: \[while running|\n|$)", text)
    return InvalidInputError(message.group(1)) if message else None
