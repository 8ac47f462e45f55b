"""Pictures whose content is known."""
