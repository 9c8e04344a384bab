"""The serving log: every answer as a row per list in Parquet, written beside the requests.

| module | what for |
|---|---|
| `serving.log.answer` | `Answer`, `AnswerLog`: what a server hands over |
| `serving.log.writer` | `ListLog`: the bounded asynchronous writer |
| `serving.log.lists` | answers as a table; what is logged and what is not |
| `serving.log.salts` | salts that user ids are hashed with, and their rotation |
"""
