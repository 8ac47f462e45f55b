"""Placeholder docstring until the first module lands."""
