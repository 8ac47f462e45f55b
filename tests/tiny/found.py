"""What an entry point of a bundle package may point to."""

FOLDER = "found"


def folder() -> str:
    return FOLDER
