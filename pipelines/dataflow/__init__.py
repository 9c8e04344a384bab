"""The building of examples as a Dataflow Flex Template; `docs/dataflow.md` says how to use it."""
