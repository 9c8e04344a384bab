"""Retrieval: index, exported retriever and the files a TensorFlow Serving binary needs.

| module | what for |
|---|---|
| `serving.index` | `build_index(...)`: exact or ScaNN, built or refreshed, in one piece or shards |
| `serving.tuning` | the cheapest settings that reach a recall, overall and per item group |
| `serving.index_audit` | what the index costs each group beside exact search |
| `serving.retriever` | `Retriever`: query tower, search and names in one graph |
| `serving.export` | `export(...)`: versioned SavedModel, warm-up requests, server configs |
| `serving.retrieve` | `retrieve_lists(...)`: lists for many users as an Arrow table |
| `serving.versions`, `serving.promotion` | which version is `stable`; promotion and rollback |
| `serving.deploy` | files for Docker Compose and Kubernetes, and an image with ScaNN's ops |
| `serving.log` | `ListLog`: what was answered, in Parquet |
| `serving.server` | `fairtowers serve`: the TensorFlow Serving API in Python |
| `serving.client` | `Client`: asks this server and TensorFlow Serving alike |
| `serving.check` | `python -m serving.check DIR`: does an export answer as it did? |

Nothing is imported here but `towers`, which asks TensorFlow for Keras 2 before it is loaded.
"""

from __future__ import annotations

import towers  # noqa: F401
