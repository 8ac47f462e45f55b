"""Photographs for evaluation, of which training sees none: whole pictures, not cut out.

They come from the learning game GCompris and from scikit-image, as Debian packages them. Most show
a thing that the mini model has a name for; some do not, as people's photographs do.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from edge_et.errors import AssetError
from edge_et.tuning.mini.assets.debian import DebianPackage, unpack

GCOMPRIS = DebianPackage(
    name="gcompris-qt-data",
    path="pool/main/g/gcompris-qt/gcompris-qt-data_3.1-2_all.deb",
    license="GPL-3.0-or-later, CC-BY-SA, CC-BY, CC0",
    sha256="e9cf06ab2105529068df73085784e835d2ff03f870d2a8091f09125d40abac9f",
)
SCIKIT_IMAGE = DebianPackage(
    name="python3-skimage",
    path="pool/main/s/skimage/python3-skimage_0.19.3-8_all.deb",
    license="CC0, public domain",
    sha256="728d88c3e3440f1f3712de0805dc834d29248ff07e1eec8c0f3da07606f752f9",
)

_RCC_FOLDER = "usr/share/gcompris-qt/rcc"
_SKIMAGE_FOLDER = "usr/lib/python3/dist-packages/skimage/data"
_WEBP = re.compile(rb"RIFF(....)WEBP", re.DOTALL)

# A file of GCompris, then the number of a photograph in it and the names that are right for it.
_GCOMPRIS_PHOTOGRAPHS = """
erase 0: rhinoceros, rhino
erase 1: cow, calf
erase 2: caterpillar
erase 3: bird, spoonbill
erase 4: red panda, panda
erase 5: camel
erase 6: bird, eagle, hawk
erase 7: squirrel
erase 8: bird, kingfisher
erase 9: swan
erase 10: gorilla
erase 11: llama, alpaca
erase 12: goat, ibex, deer, antelope
erase 13: monkey, gibbon
erase 14: lizard, chameleon
erase 15: squirrel, mouse, pika
erase 16: crab
erase 17: meerkat
erase 18: butterfly
erase 19: bird, heron
erase 20: leopard, cheetah
erase 21: bee
erase 22: horse, pony
erase 23: duck, duckling, gosling, goose
erase 24: penguin
erase 25: monkey
erase 26: bat
erase 27: bird, toucan
erase 29: goat
erase 30: monkey
erase 31: giraffe
erase 32: cat, kitten
explore_farm_animals 0: duck
explore_farm_animals 1: cow
explore_farm_animals 2: sheep
explore_farm_animals 3: horse
explore_farm_animals 4: cat
explore_farm_animals 5: chicken, hen
explore_farm_animals 6: pig, piglet
explore_farm_animals 7: dog
explore_farm_animals 8: owl
explore_world_animals 0: kangaroo
explore_world_animals 1: deer, moose
explore_world_animals 2: lizard
explore_world_animals 3: crocodile, alligator
explore_world_animals 4: hedgehog
explore_world_animals 5: parrot, macaw
explore_world_animals 6: koala
explore_world_animals 7: lemur, monkey
explore_world_animals 8: lizard
explore_world_animals 9: bear, polar bear
explore_world_animals 10: bison, buffalo
explore_world_animals 11: whale, narwhal
explore_world_animals 12: leopard, jaguar
explore_world_animals 13: panda
explore_world_animals 14: giraffe
categorization 12: windmill
categorization 13: solar panel
categorization 17: windmill
categorization 29: hammer
categorization 33: scissors
categorization 34: pliers
categorization 39: wrench
categorization 40: screwdriver
categorization 41: wrench
categorization 42: hammer
categorization 44: hammer
categorization 47: scissors
categorization 50: screwdriver
categorization 51: hammer
categorization 52: hammer
categorization 54: hammer
categorization 55: scissors
categorization 58: screwdriver
categorization 60: hammer
categorization 62: hammer
categorization 65: scissors
categorization 69: fish
categorization 71: fish
categorization 72: fish
categorization 73: fish
categorization 74: fish
categorization 75: fish
categorization 80: fish, clownfish
categorization 83: fish
categorization 90: fish
categorization 93: fish, goldfish
categorization 96: fish
categorization 97: statue, monument
categorization 98: building, skyscraper
categorization 99: statue, statue of liberty
categorization 103: church, castle
categorization 108: building, capitol
categorization 109: statue
categorization 116: church, cathedral
categorization 125: cup, cup of coffee, teacup
categorization 131: volleyball, ball
categorization 132: cup, cup of coffee, teacup
categorization 133: baseball
categorization 134: bucket, basket
categorization 137: spoon
categorization 138: chair
categorization 139: pencil
categorization 141: light bulb, bulb
"""

_SKIMAGE_PHOTOGRAPHS = """
astronaut.png: woman, astronaut, person
camera.png: man, camera, photographer
chelsea.png: cat
coffee.png: cup of coffee, coffee, cup
coins.png: coin
moon.png: moon
motorcycle_left.png: motorcycle
rocket.jpg: rocket
"""


@dataclass(frozen=True, slots=True, eq=False)
class Photograph:
    """A photograph with one main thing.

    Attributes:
        id: where it comes from.
        names: what that thing may be called.
        picture: RGB.
    """

    id: str
    names: tuple[str, ...]
    picture: Image.Image


def photographs(folder: Path) -> Iterator[Photograph]:
    """Read all photographs, fetching them first if need be.

    Args:
        folder: where downloads live.

    Raises:
        AssetError: they cannot be fetched, or a package lacks one.
    """
    game = unpack(GCOMPRIS, folder) / _RCC_FOLDER
    opened: dict[str, list[bytes]] = {}
    for key, names in _parse(_GCOMPRIS_PHOTOGRAPHS):
        name, _, number = key.partition(" ")
        if name not in opened:
            opened[name] = _webp_pictures(game / f"{name}.rcc")
        if int(number) >= len(opened[name]):
            raise AssetError(f"{GCOMPRIS.path} has no picture {number} in {name}.rcc")
        picture = Image.open(io.BytesIO(opened[name][int(number)])).convert("RGB")
        yield Photograph(f"gcompris/{name}/{number}", names, picture)
    library = unpack(SCIKIT_IMAGE, folder) / _SKIMAGE_FOLDER
    for key, names in _parse(_SKIMAGE_PHOTOGRAPHS):
        yield Photograph(f"skimage/{key}", names, Image.open(library / key).convert("RGB"))


def _parse(table: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for line in table.strip().splitlines():
        key, _, names = line.partition(": ")
        yield key, tuple(names.split(", "))


def _webp_pictures(path: Path) -> list[bytes]:
    """Find the WebP pictures in a Qt resource file, which holds them as they are."""
    content = path.read_bytes()
    found = []
    for match in _WEBP.finditer(content):
        size = int.from_bytes(match.group(1), "little") + 8
        found.append(content[match.start() : match.start() + size])
    return found
