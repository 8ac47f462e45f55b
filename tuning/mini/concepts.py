"""What the rendered scenes are made of: things with their drawings, shapes, colours, places.

A thing is drawn by the icon sets in `TRAINING_STYLES`, as far as they have it, and, for evaluation
only, by the set in `HELD_OUT_STYLE`. Icons are named by the slugs that the sets share.
"""

from __future__ import annotations

from dataclasses import dataclass

TRAINING_STYLES = (
    "noto",
    "twemoji",
    "fluent-emoji",
    "fluent-emoji-flat",
    "noto-v1",
    "fxemoji",
    "emojione",
    "emojione-v1",
    "streamline-emojis",
    "fluent-emoji-high-contrast",
    "emojione-monotone",
    "game-icons",
    "icon-park-outline",
    "lucide",
    "lucide-lab",
    "mdi",
    "ph",
    "tabler",
    "hugeicons",
    "fa6-solid",
)
HELD_OUT_STYLE = "openmoji"

SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond")

COLOURS = {
    "red": (214, 40, 40),
    "orange": (244, 140, 30),
    "yellow": (250, 218, 40),
    "green": (46, 152, 70),
    "blue": (40, 90, 205),
    "purple": (130, 50, 170),
    "pink": (245, 130, 180),
    "brown": (120, 72, 36),
    "black": (20, 20, 20),
    "white": (248, 248, 248),
    "gray": (135, 135, 135),
}

PLACES = (
    ("top left", "top", "top right"),
    ("left", "center", "right"),
    ("bottom left", "bottom", "bottom right"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """An everyday thing that scenes may show.

    Attributes:
        name: what people call it, in the singular.
        plural: the same for two or more.
        icons: slugs of its drawings; every icon set has some of them, the larger sets all.
        category: what it is one of, such as "animal"; None where people would name none.
    """

    name: str
    plural: str
    icons: tuple[str, ...]
    category: str | None


# One thing a line: its name, then (only where they differ from it) "| plural" and ": icon slugs".
# A line in brackets is the category of the lines below it.
_THINGS = """
[animal]
dog: dog dog-face
cat: cat cat-face
horse: horse horse-face
cow: cow cow-face
pig: pig pig-face
sheep | sheep: ewe
goat
rabbit: rabbit rabbit-face
mouse | mice: mouse mouse-face
bear
panda
koala
lion
tiger: tiger tiger-face
elephant
giraffe
zebra
camel
kangaroo
monkey: monkey monkey-face
fox | foxes
wolf | wolves
frog
turtle
snake
crocodile
fish | fish: fish tropical-fish
shark
whale: whale spouting-whale
dolphin
octopus | octopuses
crab
snail
butterfly | butterflies
bee: honeybee
spider
ladybug: lady-beetle
bird
chicken
duck
penguin
owl
parrot
flamingo
swan
hedgehog
squirrel: chipmunk
deer | deer
gorilla
rhinoceros | rhinoceroses
hippopotamus | hippopotamuses
leopard
llama
bat
eagle
peacock
turkey
lizard
lobster
shrimp | shrimp
scorpion
ant
otter
donkey

[food]
apple: red-apple
orange: tangerine
banana
lemon
pear
peach | peaches
cherry | cherries: cherries
strawberry | strawberries
grapes | grapes
watermelon
pineapple
mango
kiwi: kiwi-fruit
avocado
tomato | tomatoes
carrot
corn | corn: ear-of-corn
broccoli | broccoli
mushroom
potato | potatoes
onion
garlic | garlic
bread | bread
croissant
cheese | cheese: cheese-wedge
egg
hamburger
pizza
hot dog
sandwich | sandwiches
taco
fries | fries: french-fries
popcorn | popcorn
cake: birthday-cake shortcake
cupcake
cookie
donut: doughnut
ice cream: soft-ice-cream ice-cream
candy | candies
chocolate: chocolate-bar
lollipop
cup of coffee | cups of coffee: hot-beverage
teapot
beer: beer-mug
glass of wine | glasses of wine: wine-glass
eggplant
pepper: bell-pepper
pumpkin: jack-o-lantern
lettuce | lettuce: leafy-green
coconut
peanut: peanuts
pretzel
pancakes | pancakes
sushi | sushi
bacon | bacon
milk | milk: glass-of-milk

[vehicle]
car: automobile sport-utility-vehicle
bus | buses
taxi
truck: delivery-truck
fire truck: fire-engine
ambulance
police car
tractor
bicycle
motorcycle
train: locomotive train
airplane
helicopter
rocket
ship: ship passenger-ship
sailboat
scooter: motor-scooter kick-scooter
skateboard
canoe

[building]
house: house house-with-garden
castle
tent
church | churches
building: office-building
factory | factories
stadium

[plant]
tree: deciduous-tree
pine tree: evergreen-tree
palm tree
cactus | cactuses
sunflower
rose
tulip
flower: blossom hibiscus cherry-blossom
leaf | leaves: fallen-leaf maple-leaf four-leaf-clover

[other]
sun
moon: crescent-moon
cloud
rainbow
snowman | snowmen
fire
mountain: mountain snow-capped-mountain
volcano | volcanoes
beach | beaches: beach-with-umbrella
Earth: globe-showing-europe-africa globe-showing-americas
lightning | lightning: high-voltage
snowflake

[person]
man | men: man man-curly-hair man-beard old-man
woman | women: woman woman-curly-hair woman-blond-hair old-woman
baby | babies
hand: raised-hand hand-with-fingers-splayed
eye
foot | feet
ear
tooth | teeth

[clothing]
shoe: running-shoe mans-shoe
hat: top-hat
cap: billed-cap
shirt: t-shirt
dress | dresses
jeans | jeans
sock: socks
glove: gloves
scarf | scarves
glasses | glasses
coat
boot: womans-boot hiking-boot

[tool]
hammer
wrench | wrenches
screwdriver
axe
scissors | scissors
pencil
paintbrush | paintbrushes
ruler: straight-ruler
magnifying glass | magnifying glasses: magnifying-glass-tilted-left magnifying-glass-tilted-right
microscope
telescope
saw: carpentry-saw
syringe

[instrument]
guitar
drum
trumpet
violin
piano: musical-keyboard
saxophone

[furniture]
chair
bed
toilet
bathtub
door
couch | couches: couch-and-lamp

[other]
umbrella: umbrella umbrella-with-rain-drops
book: closed-book green-book blue-book orange-book
clock: alarm-clock mantelpiece-clock
watch | watches
phone: mobile-phone
telephone
laptop
television
camera
keyboard
printer
light bulb
candle
key
lock: locked
bell
gift: wrapped-gift
balloon
teddy bear
soccer ball
basketball
football: american-football
backpack
handbag
crown
ring
spoon
knife | knives: kitchen-knife
basket
trash can: wastebasket
broom
envelope
newspaper
trophy | trophies
dice | dice: game-die
robot
ghost
skull
anchor
ladder
magnet
traffic light: horizontal-traffic-light vertical-traffic-light
flag: triangular-flag white-flag black-flag
mailbox | mailboxes: closed-mailbox-with-raised-flag postbox
tennis ball: tennis
baseball
kite
hourglass | hourglasses: hourglass-done hourglass-not-done
bottle: baby-bottle bottle-with-popping-cork
coin
battery | batteries
feather
toothbrush | toothbrushes
bucket
stethoscope
statue: statue-of-liberty moai
fountain
"""


def _parse(text: str) -> tuple[Thing, ...]:
    things = []
    category: str | None = None
    for line in filter(None, text.splitlines()):
        if line.startswith("["):
            category = None if line == "[other]" else line.strip("[]")
            continue
        head, _, icons = line.partition(":")
        name, _, plural = (part.strip() for part in head.partition("|"))
        thing = Thing(
            name=name,
            plural=plural or name + "s",
            icons=tuple(icons.split()) or (name.replace(" ", "-").lower(),),
            category=category,
        )
        things.append(thing)
    return tuple(things)


THINGS = _parse(_THINGS)
