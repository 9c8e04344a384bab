"""Retrieval A/B experiments: assignment, planning, and an analysis with fairness guardrails.

| module | what for |
|---|---|
| `serving.experiments.config` | `Experiment`: what is fixed before the launch |
| `serving.experiments.assignment` | `Assigner`: which arm a user is in |
| `serving.experiments.labels` | how an arm is written into the serving log |
| `serving.experiments.client` | `ExperimentClient`: asks for what a user's arm is served |
| `serving.experiments.observations` | what was observed of every user |
| `serving.experiments.planning` | users and days that an effect needs |
| `serving.experiments.analysis` | `analyze(...)`: mismatch, effects, guardrails, verdict |
| `serving.experiments.interleaving` | which of two retrievers users prefer, within one list |
| `serving.experiments.off_policy` | what a policy would earn, from the log of another one |
| `serving.experiments.simulation` | null experiments, and planted effects |
"""
