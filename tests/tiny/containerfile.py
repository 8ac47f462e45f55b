"""A reader of Containerfiles, as far as ours go."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    """What stands between one FROM and the next."""

    image: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)
    """Keywords and what follows them, in order."""

    def values(self, keyword: str) -> list[str]:
        """Return what follows each instruction of this kind."""
        return [value for step, value in self.steps if step == keyword]

    def words(self, keyword: str) -> list[str]:
        """Return the words of an instruction that is there once, in its JSON form."""
        (value,) = self.values(keyword)
        words: list[str] = json.loads(value[value.index("[") :])
        return words

    def copies(self) -> list[tuple[str, list[str], str]]:
        """Return of each COPY the stage it copies from, its sources, and its target."""
        found = []
        for value in self.values("COPY"):
            *sources, target = value.split()
            stage = ""
            if sources[0].startswith("--from="):
                stage = sources.pop(0).removeprefix("--from=")
            assert not any(source.startswith("--") for source in sources), value
            found.append((stage, sources, target))
        return found


def read_stages(path: Path) -> list[Stage]:
    """Return the stages of a Containerfile.

    Args:
        path: the file.
    """
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    stages: list[Stage] = []
    for line in text.replace("\\\n", " ").splitlines():
        keyword, _, value = line.strip().partition(" ")
        if keyword == "FROM":
            image, _, name = value.partition(" AS ")
            stages.append(Stage(image, name))
        elif keyword:
            stages[-1].steps.append((keyword, value.strip()))
    return stages
