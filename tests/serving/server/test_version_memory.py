"""What a version leaves behind when it is unloaded."""

from __future__ import annotations

import gc
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from serving.search import ScannSearch
from serving.server.loader import load_version

NUM_ITEMS, DIM, K = 100_000, 64, 10
RELOADS = 8


@pytest.fixture(scope="module")
def scann_version(tmp_path_factory):
    """A SavedModel that is hardly more than an index and the ids of its items."""
    from scann.scann_ops.py import scann_ops

    vectors = np.random.default_rng(0).standard_normal((NUM_ITEMS, DIM), np.float32)
    builder = scann_ops.builder(vectors, K, "dot_product").score_ah(2).reorder(K)
    module = tf.Module()
    module.search = ScannSearch(builder.build().serialize_to_module(), NUM_ITEMS, 1, 1, K)
    spec = tf.TensorSpec([None, DIM], tf.float32, name="vector")
    nothing = tf.zeros([1, 0], tf.int32)
    ids = tf.constant([f"item-{row}" for row in range(NUM_ITEMS)])
    ask = tf.function(lambda v: {"ids": tf.gather(ids, module.search(v, K, nothing)[0])}, [spec])
    folder = tmp_path_factory.mktemp("version") / "1"
    tf.saved_model.save(module, str(folder), {"serving_default": ask})
    return folder


def resident_bytes() -> int:
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.split("VmRSS:")[1].split()[0])


def test_memory_does_not_grow_with_every_reload(scann_version):
    used = []
    gc.disable()  # Or it would be up to chance when Python looks for cycles.
    try:
        for version in range(1, RELOADS + 1):
            loaded = load_version("model", version, scann_version)
            vector = np.ones([1, DIM], np.float32)
            loaded.run(loaded.signatures["serving_default"], {"vector": vector}, ["ids"])
            loaded.close()
            used.append(resident_bytes())
    finally:
        gc.enable()
    # The allocator keeps some of what was freed, so the first two say little.
    size = sum(path.stat().st_size for path in scann_version.rglob("*") if path.is_file())
    assert used[-1] - used[1] < 0.3 * (RELOADS - 2) * size, (size, used)
