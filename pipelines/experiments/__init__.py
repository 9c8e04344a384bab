"""Experiments: what was observed of their users, read from logs; and their results for people."""
