"""What `RESULTS.md` reports, one module per table; `make bench` runs them all."""

# It asks for Keras 2, before a benchmark imports TensorFlow.
import towers  # noqa: F401
