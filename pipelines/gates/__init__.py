"""Gates: what the figures of a report have to be, for CI and for promotion."""
