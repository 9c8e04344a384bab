"""Exposure of groups in lists as they are served: windows of time, late lists, alerts."""
