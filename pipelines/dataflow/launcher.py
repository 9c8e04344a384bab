"""What the Flex Template runs: submits the job that builds examples and does not wait for it."""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
from collections.abc import Sequence

from apache_beam.runners.runner import PipelineResult

from fairness_losses.errors import InvalidInputError
from pipelines.config import RunConfig, fingerprint
from pipelines.config_file import load_config
from pipelines.examples.elsewhere import claim, is_complete
from pipelines.examples.inputs import inputs_fingerprint
from pipelines.examples.pipeline import examples_pipeline
from pipelines.file_systems import is_remote, use_options
from pipelines.readers.chunks import open_file
from pipelines.run import examples_settings


def options() -> argparse.ArgumentParser:
    """Returns the launcher's own options, which the template's `metadata.json` describes, too."""
    parser = argparse.ArgumentParser(
        description="Builds training examples; all other options are Beam's.", allow_abbrev=False
    )
    parser.add_argument("--config", required=True, help="YAML of the run, in any file system.")
    parser.add_argument(
        "--examples_at", required=True, help="Empty folder that the workers write the examples to."
    )
    return parser


def launch(config_path: str, examples_at: str, beam_args: Sequence[str]) -> PipelineResult:
    """Submits the job.

    Nobody waits for it here, since a template's launcher has to end for the job to begin: whether
    too many rows could not be used is said by `fairtowers run --examples-at`, which fetches the
    examples.

    Args:
        config_path: YAML of the run.
        examples_at: Empty folder for the examples.
        beam_args: Beam's own options.

    Raises:
        InvalidInputError: The configuration or its data cannot be used, or the folder is not empty.
    """
    use_options(beam_args)
    config = read_config(config_path)
    built_from = fingerprint([*examples_settings(config), inputs_fingerprint(config)], {})
    if is_complete(examples_at, built_from):
        raise InvalidInputError(f"{examples_at}: the examples are there already. Fetch them.")
    # Nothing that workers need is in this module, the main one of its process.
    beam_args = [*beam_args, "--no_save_main_session"]
    pipeline = examples_pipeline(config, None, examples_at, beam_args)
    claim(examples_at, built_from)
    return pipeline.run()


def read_config(path: str) -> RunConfig:
    """Reads a run configuration of any file system.

    Raises:
        InvalidInputError: It is wrong, or names data that only one machine has.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder).resolve() / path.rpartition("/")[2]
        with open_file(path) as file:
            copy.write_bytes(file.read())
        try:
            config = load_config(copy)
            _check_reachable(config)
        except InvalidInputError as error:
            raise InvalidInputError(str(error).replace(f"{copy.parent}/", "")) from error
    return config


def _check_reachable(config: RunConfig) -> None:
    """All workers should be able to read the data."""
    data = config.data
    if data.dataset != "files":
        raise InvalidInputError(
            f"`data.dataset` should be `files`. Received: {data.dataset}, which is made on the "
            "machine of a run."
        )
    sources = {"interactions": data.interactions, "users": data.users, "items": data.items}
    for name, source in sources.items():
        if source is not None and not is_remote(source.path or ""):
            raise InvalidInputError(
                f"`data.{name}.path` should be where all workers can read it, such as "
                f"gs://bucket/{name}.parquet. Received: {source.path}."
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; errors that a person can fix are printed without a traceback."""
    own, beam_args = options().parse_known_args(arguments)
    try:
        launch(own.config, own.examples_at, beam_args)
    except InvalidInputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
