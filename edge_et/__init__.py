"""Answers questions about images on small CPUs, by extraction and then reasoning."""
