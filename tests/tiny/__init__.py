"""Tiny seeded models, made where a test asks for them: a tower, language models, whole bundles."""
