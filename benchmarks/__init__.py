"""Benchmarks: what an answer takes, phase by phase, beside baselines that do the same work."""
