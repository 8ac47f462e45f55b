"""Questions about scenes, with the extraction, the reasoning and the answer that are right."""
