"""A bundle that says what tests tell it to, and what its scenes are drawn with."""

from pathlib import Path
from types import SimpleNamespace

import matplotlib
import msgspec
from PIL import Image

from edge_et.tuning.mini import recipe
from edge_et.tuning.mini.scenes.draw_scene import SceneKit
from tiny.icons import Squares

FONTS = (Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"),)


KIT = SceneKit(icons=[Squares()], fonts=FONTS, held_out=True)


class Extract(msgspec.Struct):
    prompt: str


class Manifest(msgspec.Struct):
    name: str
    version: str
    vision: object
    extract: Extract


class Pipe:
    """Stands in for a loaded bundle: it says what the tests tell it to."""

    def __init__(self, text: str = "dog") -> None:
        graph = SimpleNamespace(sha256="0123456789abcdef")
        self.manifest = Manifest(
            "mini", "1", SimpleNamespace(files=(graph,)), Extract(recipe.EXTRACT_PROMPT)
        )
        self.text = text
        self.asked: list[tuple[str, str]] = []

    def encode_image(self, picture: Image.Image) -> Image.Image:
        return picture

    def extract(self, image: object, question: str) -> SimpleNamespace:
        self.asked.append((self.manifest.extract.prompt, question))
        usage = SimpleNamespace(generated_tokens=5)
        return SimpleNamespace(text="The picture shows dog.", usage=usage)

    def think(self, question: str, extraction: object, **options: object) -> SimpleNamespace:
        usage = SimpleNamespace(seconds=0.25, generated_tokens=2)
        return SimpleNamespace(answer=self.text, reasoning="I think.", usage=usage, shares={})

    def answer(self, image: object, question: str) -> SimpleNamespace:
        return SimpleNamespace(text=self.text)

    def answer_directly(self, image: object, question: str) -> SimpleNamespace:
        usage = {"think": SimpleNamespace(seconds=0.125, generated_tokens=2)}
        return SimpleNamespace(text=self.text.upper(), usage=usage)
