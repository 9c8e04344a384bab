"""Experiments on retrieval: which of two ways to make lists is better, and for whom."""
