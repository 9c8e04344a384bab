"""The TensorFlow Serving API over the same SavedModels and the same `models.config`, in Python.

For laptops, tests and small deployments: one process, one event loop, the graph on threads. What
answers here answers alike on a TensorFlow Serving binary, which is the one for large deployments.

| module | what for |
|---|---|
| `command`, `files`, `app` | `serve(...)`: start, hot reload, drain |
| `models_config`, `text_protos` | what the three configuration files say |
| `loader`, `versions`, `version_state` | loads versions, and keeps the right ones loaded |
| `signatures`, `tensors` | whether a request fits, and its tensors as arrays |
| `predict`, `runners`, `batching` | one request, and many at once |
| `grpc_service` | `PredictionService`, `ModelService`, health |
| `rest`, `body`, `listen`, `json_requests`, `json_answers`, `json_errors`, `openapi` | REST |
| `errors`, `metrics` | canonical codes, Prometheus |

Needs `pip install fairtowers[serve]`.
"""
