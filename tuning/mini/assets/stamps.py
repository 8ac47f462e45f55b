"""Photographs of single things, cut out: the stamps of Tux Paint.

They show the model that a thing on a photograph has the same name as its drawings. All of them are
for training; photographs for evaluation come from elsewhere.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from edge_et.errors import AssetError
from edge_et.tuning.mini.assets.cropped import open_cropped
from edge_et.tuning.mini.assets.debian import DebianPackage, unpack

TUX_PAINT_STAMPS = DebianPackage(
    name="tuxpaint-stamps-default",
    path="pool/main/t/tuxpaint-stamps/tuxpaint-stamps-default_2022.06.04-1_all.deb",
    license="GPL-2.0",
    sha256="6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
)

_FOLDER = "usr/share/tuxpaint/stamps"
_STAMP_PIXELS = 256

# One thing a line, then the file names of its photographs.
_STAMPS = """
frog: frog-1 frog
parrot: adelaide-rosella rainbow-lorikeet
bird: blackbird crow lark pigeon seagull silver-gull magpie heron_greatblue_flying
chicken: hen chicken_profile rooster
duck: drake duck
penguin: little-penguin magellanic_penguin penguin
owl: owl
peacock: peacock
flamingo: pink_flamingo
turkey: turkey
fish: bluegroper butterflyfish coraltrout dolphinfish moonwrasse stripedfish
lobster: lobster
lizard: iguana
monkey: chimp
gorilla: gorilla
dolphin: dolphin
whale: whale
otter: otter
bear: bear european-bear
cow: bull cow cow_white
goat: goat mountaingoat
sheep: ram sheep sheep_lamb
camel: camel dromedary
lion: lion-2 lion
tiger: tiger tiger_sumatran
deer: caribou deer doe wapiti
dog: dog dingo
fox: fox
elephant: elephant
donkey: donkey donkey_eating
horse: horse
zebra: zebra
giraffe: giraffe
hippopotamus: hippopotamus
pig: pig pig_golden pig_golden2
rabbit: rabbit_little rabbit-2 rabbit
rhinoceros: rhino_black
mouse: mouse rat
squirrel: squirrel
kangaroo: kangaroo
koala: koala
apple: apple_fuji apple_granny_smith apple_green apple_red apple_sierra_beauty
cherry: Cherry_Stella
strawberry: strawberry Strawberry2
peach: apricot Apricot_whole
avocado: avocado
banana: banana
grapes: grapes
kiwi: kiwi
lemon: lemon
mango: mango
orange: mandarine orange
pear: pear
pineapple: pineapple
broccoli: broccoli
carrot: carrot
corn: corn
eggplant: eggplant
garlic: garlic garlics
lettuce: lettuce redlettuce
mushroom: mushroom cep cep-1 cep-2
onion: onion
pepper: pepper yellowpepper
potato: potato
pumpkin: pumpkin_small
tomato: tomato
camera: camera_35mm
trumpet: trumpet
drum: drum_tomtom_floor drumkit
guitar: guitar2 guitar_classical guitar_electric guitar_electric_bass
violin: violin cello
light bulb: Lightbulb
scissors: scissors_small_closed scissors_small_open
cup of coffee: mug
teapot: teapot
trash can: garbagecan wheelie_bin
toilet: toilet
hammer: hammer mallet_metal
paintbrush: paintbrush_large
saw: saw
wrench: wrench wrench_adjustable wrench_plumbers
flower: adeenia anemone_red bolsom chemparathi daffodil flower1 flower2 flower5 flower9 iris
rose: rose
tree: holm_oak birch tree336
palm tree: liberia-palm
football: football
basketball: basketball
soccer ball: soccer
tennis ball: tennis_ball
trophy: trophy_cup
flag: redflag whiteflag yellowflag
car: beetle sedan sportscar2
truck: truck dumper garbagetruck
fire truck: firetruck
airplane: 747
bus: green_korean_bus
"""


class StampLibrary:
    """The photographs, by thing.

    Args:
        folder: where downloads live.

    Raises:
        AssetError: the package cannot be had, or lacks a photograph.
    """

    def __init__(self, folder: Path) -> None:
        root = unpack(TUX_PAINT_STAMPS, folder) / _FOLDER
        drawn = ("cartoon", "toys")
        files = {
            path.stem: path
            for path in sorted(root.rglob("*.png"))
            if not any(part in drawn for part in path.parts)
        }
        self._paths: dict[str, tuple[Path, ...]] = {}
        for line in _STAMPS.strip().splitlines():
            name, _, stems = line.partition(": ")
            missing = [stem for stem in stems.split() if stem not in files]
            if missing:
                raise AssetError(f"{TUX_PAINT_STAMPS.path} has no stamp {', '.join(missing)}")
            self._paths[name] = tuple(files[stem] for stem in stems.split())

    def names(self) -> frozenset[str]:
        """Return the things that there are photographs of."""
        return frozenset(self._paths)

    def cutout(self, name: str, rng: np.random.Generator) -> Image.Image:
        """Return one of the photographs of a thing, RGBA, without empty borders."""
        paths = self._paths[name]
        return open_cropped(paths[int(rng.integers(len(paths)))], _STAMP_PIXELS)
