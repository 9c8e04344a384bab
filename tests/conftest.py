"""Shared by all tests: the Keras flavour, and where the real data lies."""

import importlib.util
import os
import pathlib

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import pytest
from hypothesis import settings

# The same cases in every run, so that a change fails for what it does itself. For new ones:
# `pytest --hypothesis-profile=default`.
settings.register_profile("same_cases", derandomize=True)
settings.load_profile("same_cases")

SHARED_DATA = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def movielens_100k() -> pathlib.Path:
    """Folder of MovieLens-100K."""
    return _folder_of("ml-100k")


@pytest.fixture(scope="session")
def movielens_1m() -> pathlib.Path:
    """Folder of MovieLens-1M."""
    return _folder_of("ml-1m")


@pytest.fixture(scope="session")
def any_movielens_100k() -> pathlib.Path:
    """Folder of MovieLens-100K, with labels of the directors or as RecBole's wheel packs it."""
    if (SHARED_DATA / "ml-100k").is_dir():
        return SHARED_DATA / "ml-100k"
    recbole = importlib.util.find_spec("recbole")
    if recbole is None or recbole.origin is None:
        pytest.skip("neither ../shared/data/ml-100k nor the package recbole is there")
    return pathlib.Path(recbole.origin).parent / "dataset_example" / "ml-100k"


def _folder_of(name: str) -> pathlib.Path:
    folder = SHARED_DATA / name
    if not folder.is_dir():
        pytest.skip(f"{name} is not there: put it into ../shared/data, see the README")
    return folder
