"""The candidate mix: which items of which groups make a list, decided inside the served graph.

| module | what for |
|---|---|
| `config` | `PolicyConfig`, the settings under `serving.policy` |
| `plan` | what the index stage decides: targets as numbers, strategy, starting prices |
| `bounds`, `prefix` | how many items of a group a list, and every prefix of it, may hold |
| `selection`, `ordering`, `dpp` | the best list within the bounds, and its order |
| `pools` | where candidates come from: all of them, one index, an index per group, or both |
| `steering` | prices per group that follow the exposure which is served |
| `mix` | `CandidateMix`: all of it as one TensorFlow module |
| `policy_keys` | opaque keys by which a request says which policy row it is to get |
"""
