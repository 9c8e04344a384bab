"""The closed loop: lists are served, users click, the model is trained on that, and so on.

| module | what for |
|---|---|
| `config` | `SimulationConfig`, the YAML of `fairtowers simulate` |
| `world` | a synthetic marketplace whose truth is known, and who supplies it at first |
| `pairs` | who chose what |
| `supply` | creators leave when unseen, new ones come |
| `learning` | what was clicked to vectors: examples, two towers, the training of a run |
| `serving` | vectors to lists: index, candidate mix, exclusions, prices that move |
| `clicks` | lists to clicks and to utility, by the truth |
| `loop` | all of it, round after round, for one arm |
| `simulate` | all arms and seeds, `result.json` |
| `figures` | what the rounds come to, with intervals over the seeds |
| `plot` | the picture |
"""
