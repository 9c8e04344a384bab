"""The configuration files mean here what they mean to TensorFlow Serving."""

import pytest

from fairness_losses.errors import InvalidInputError
from serving.models_config import Served, write_models_config
from serving.server.files import find_files
from serving.server.text_protos import Batching, read_batching, read_metrics_path
from serving.server_configs import write_server_configs


@pytest.fixture
def write(tmp_path):
    def write(text: str):
        path = tmp_path / "a.config"
        path.write_text(text)
        return path

    return write


def test_batching_has_the_values_of_the_file_and_the_defaults_of_tensorflow_serving(write):
    text = """
    max_batch_size { value: 7 }   # a comment
    batch_timeout_micros: { value: 0 }
    thread_pool_name { value: "pool" }
    pad_variable_length_inputs: true
    """
    read = read_batching(write(text))
    assert (read.max_batch_size, read.batch_timeout_micros) == (7, 0)
    assert read.pad_variable_length_inputs is True
    assert read.max_enqueued_batches == Batching().max_enqueued_batches == 10


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch { value: 7 }", 'no field named "max_batch".*Its keys are max_batch_size,'),
        ("max_batch_size: 7", "in text format: 1:"),
        ("max_batch_size { value: 0 }", "`max_batch_size` should be at least 1. Received: 0."),
        ("num_batch_threads { value: -1 }", "`num_batch_threads` should be at least 1"),
        ("allowed_batch_sizes: 4", "no field named"),
        ("max_batch_size { value: 7 ", "in text format"),
    ],
)
def test_a_batching_file_that_cannot_be_honoured_is_refused(write, text, message):
    with pytest.raises(InvalidInputError, match=message):
        read_batching(write(text))


def test_metrics_are_where_the_monitoring_file_says(write):
    enabled = 'prometheus_config { enable: true path: "/here" }'
    assert read_metrics_path(write(enabled)) == "/here"
    default = "prometheus_config { enable: true }"
    assert read_metrics_path(write(default)) == "/monitoring/prometheus/metrics"
    assert read_metrics_path(write("")) is None


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidInputError, match=r"gone.config: cannot be read"):
        read_batching(tmp_path / "gone.config")


def test_the_files_of_an_export_are_understood(tmp_path):
    model = tmp_path / "retriever"
    model.mkdir()
    write_server_configs(model)
    read = read_batching(model / "batching.config")
    assert (read.max_batch_size, read.num_batch_threads) == (256, 4)
    assert read_metrics_path(model / "monitoring.config") == "/monitoring/prometheus/metrics"


def test_a_folder_stands_for_the_files_in_it(tmp_path):
    model = tmp_path / "retriever"
    model.mkdir()
    with pytest.raises(InvalidInputError, match=r"should be a `models.config` or a folder"):
        find_files(model)
    write_server_configs(model)
    write_models_config(model, Served((3,), {}))
    of_folder = find_files(model)
    assert of_folder.batching == model / "batching.config"
    assert of_folder.monitoring == model / "monitoring.config"
    assert of_folder.mount == tmp_path
    assert find_files(model, with_batching=False).batching is None
    of_file = find_files(model / "models.config", mount=model)
    assert (of_file.batching, of_file.monitoring, of_file.mount) == (None, None, model)
