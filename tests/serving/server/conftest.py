"""Small models and a server of them."""

import pathlib
from collections.abc import Callable, Iterator

import pytest
from small_server import (
    Running,
    make_files,
    model_config,
    models_config,
    run_server,
    save_lists,
    save_plain,
)


@pytest.fixture(scope="session")
def saved_models(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the models `lists` (versions 1 and 2) and `plain` (version 7); not changed."""
    root = tmp_path_factory.mktemp("models")
    for version in (1, 2):
        save_lists(root / "lists", version, warmup=version == 2)
    save_plain(root / "plain", 7)
    return root


@pytest.fixture(scope="session")
def running(saved_models: pathlib.Path) -> Iterator[Running]:
    """A server of `lists` (labels `stable` 1, `canary` 2) and `plain`, with batching."""
    text = models_config(
        model_config("lists", "model_version_policy { all {} }", {"stable": 1, "canary": 2}),
        model_config("plain"),
    )
    with run_server(make_files(saved_models, text), max_request_bytes=1 << 20) as server:
        yield server


@pytest.fixture
def copy_of_lists(saved_models: pathlib.Path, tmp_path: pathlib.Path) -> Callable:
    """Copies version 1 of `lists` to a number, complete or not at all, into a folder of its own."""
    import shutil

    def copy(version: int, source: int = 1) -> pathlib.Path:
        base = tmp_path / "lists"
        base.mkdir(exist_ok=True)
        incomplete = base / f".incomplete-{version}"
        shutil.copytree(saved_models / "lists" / str(source), incomplete)
        incomplete.rename(base / str(version))
        return base / str(version)

    return copy
