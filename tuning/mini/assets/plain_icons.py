"""What sets of icons for buttons and maps call the things that scenes are made of.

Sets of emoji share their slugs; these sets share others, and each has some of them.
"""

from __future__ import annotations

# One thing a line: its name, then (only where they differ from it) ": icon slugs".
_PLAIN_ICONS = """
dog: dog dog-side
cat
horse: horse horse-zodiac horse-variant horse-head
cow: cow cow-head
pig: pig pig-zodiac pig-variant pig-head
sheep
rabbit: rabbit rabbit-zodiac rabbit-variant
mouse: mouse-zodiac rat
bear: bear bear-face
panda
koala: koala koala-bear
elephant: elephant elephant-face
camel
kangaroo
monkey
fox: fox-face-tail
frog: frog frog-face
turtle
snake
fish: fish fish-one fish-simple fish-fins
shark
whale
dolphin
octopus
crab
snail
butterfly
bee
spider
ladybug
bird: bird crow dove
duck: duck rubber-duck
penguin
owl
hedgehog
squirrel
deer
bat
eagle
turkey
shrimp
otter
donkey
apple: apple food-apple apple-one apple-01 apple-whole
orange: orange orange-one citrus
banana
lemon: lemon fruit-lemon
pear: pear fruit-pear
peach
cherry: cherry fruit-cherries cherries
strawberry
grapes: grapes fruit-grapes grape
watermelon: watermelon watermelon-one fruit-watermelon
pineapple: pineapple fruit-pineapple
kiwi
avocado: avocado avocado-one
tomato
carrot
corn
broccoli
mushroom: mushroom mushroom-01
onion
garlic
bread: bread bread-one bread-slice bread-01 bread-04
croissant: croissant food-croissant
cheese
egg: egg egg-one
hamburger: hamburger hamburger-one burger hamburger-02
pizza: pizza pizza-slice pizza-01 pizza-02 pizza-03
hot dog: hot-dog food-hot-dog hotdog
sandwich
taco: taco taco-01 taco-02
fries: fries french-fries french-fries-01 french-fries-02
popcorn: popcorn popcorn-one
cake: cake cake-variant cake-candles cake-one cake-two birthday-cake cake-slice
cupcake: cupcake cupcake-01 cupcake-02 cupcake-03
cookie: cookie cookie-bite
donut
ice cream: ice-cream ice-cream-01 ice-cream-02 ice-cream-03 ice-cream-cone icecream
candy
chocolate
lollipop
cup of coffee: coffee coffee-02 mug-hot mug-saucer tea cup
teapot: teapot kettle
beer: beer beer-mug beer-stein beer-mug-empty
glass of wine: wine wine-glass glass-wine
eggplant
pepper
pumpkin: pumpkin pumpkin-carved pumpkin-scary
coconut
peanut
pretzel
pancakes
sushi: sushi sushi-01 sushi-2
bacon
car: car car-side car-01 car-02 car-03 car-front car-rear
bus: bus bus-one bus-01 bus-02 bus-side
taxi: taxi car-taxi-front taxi-02
truck: truck truck-front delivery-truck-01 delivery-truck-02 dump-truck
fire truck: fire-truck firetruck
ambulance: ambulance truck-medical
police car: police-car car-police
tractor
bicycle: bicycle bike bicycle-01
motorcycle: motorcycle motorbike motorbike-01 motorbike-02
train: train train-01 train-02 train-front
airplane: airplane plane airplane-01 airplane-02 airplane-tilt
helicopter
rocket: rocket rocket-01 rocket-02 rocket-launch
ship: ship ferry cargo-ship
sailboat: sailboat sailboat-one sail-boat sailboat-2 sailboat-coastal sailboat-offshore
scooter: scooter moped scooter-01 scooter-02 scooter-03 scooter-04
skateboard
house: house home house-03 house-01 house-02 home-two
castle: castle castle-01 castle-turret building-castle
tent
church: church church-one church-two building-church
building: building building-one building-two building-four office-building building-02 building-06
factory: factory industry
stadium: stadium stadium-variant building-stadium
tree: tree tree-one tree-two tree-deciduous tree-01 tree-02 tree-06
pine tree: pine-tree tree-evergreen tree-pine pine-tree-variant christmas-tree
palm tree: palm-tree palmtree coconut-tree tree-palm
cactus
rose: rose flower-rose flower-rose-single
tulip: tulip flower-tulip
flower: flower flower-2 flower-poppy flower-01
leaf: leaf leaf-2 leaf-maple leaf-01 leaf-02 leaf-03
sun: sun sun-one white-balance-sunny weather-sunny sun-01 sun-03
moon: moon moon-waning-crescent weather-night moon-02
cloud: cloud cloudy clouds
rainbow
snowman
fire: fire flame fire-two fire-flame-curved fire-02 fire-03
mountain: mountain mountains mountain-snow image-filter-hdr
volcano
beach: umbrella-beach beach beach-umbrella beach-02
Earth: earth earth-asia earth-africa earth-europe earth-americas globe-hemisphere-west
lightning: lightning bolt bolt-lightning lightning-bolt flash
snowflake
man: man face-man user-tie
woman: woman face-woman
baby: baby baby-01 baby-02 baby-one
hand: hand hand-palm hand-back-right palm
eye
foot
ear
tooth: tooth dental-tooth
shoe: shoe sneaker sport-shoe running-shoes shoe-sneaker shoes
hat: hat hat-top hat-cowboy hat-cowboy-side cowboy-hat hat-fedora
cap: baseball-cap hat-baseball cap
shirt: shirt t-shirt tshirt-crew shirt-t t-shirt-crew t-shirt-v shirt-01
dress: dress dress-01 dress-02 dress-03 dress-04 dress-05
jeans: pants trousers
sock: socks sock
glove: glove clothes-gloves mitten
scarf
glasses: glasses eyeglasses glasses-one
coat: jacket women-coat
boot: boot boots
hammer
wrench: wrench wrench-01 tool
screwdriver
axe
scissors
pencil: pencil pencil-simple
paintbrush: paintbrush paint-brush brush brush-variant paint-brush-01
ruler: ruler ruler-horizontal
magnifying glass: magnifying-glass search magnify search-01
microscope: microscope microscope-one
telescope: telescope telescope-01 telescope-02
saw: hand-saw
syringe: syringe vaccine injection needle
guitar: guitar guitar-acoustic guitar-electric
drum
trumpet
violin
piano
saxophone
chair: chair chair-one chair-rolling chair-01 chair-02 chair-03 chair-05
bed: bed single-bed double-bed bed-double bed-single
toilet: toilet toilet-01 toilet-02
bathtub: bathtub bath bathtub-01 bathtub-02
door: door door-closed door-01
couch: couch sofa sofa-01 sofa-02 sofa-03 sofa-two
umbrella: umbrella umbrella-one umbrella-simple
book: book book-one book-2 book-01 book-02 notebook
clock: clock alarm-clock time alarm
watch: watch watch-one watch-variant device-watch watch-01 watch-02
phone: smartphone cellphone mobile mobile-button device-mobile mobile-screen-button iphone
telephone: telephone phone phone-telephone phone-classic
laptop: laptop laptop-one device-laptop
television: television tv tv-one tv-01 tv-02 television-classic device-tv
camera: camera camera-01 camera-02 camera-retro
keyboard: keyboard keyboard-one
printer: printer printer-one print
light bulb: lightbulb bulb idea
candle: candle candle-holder-lit
key: key key-one key-01 key-variant
lock: lock lock-one lock-simple
bell
gift: gift gift-box
balloon: balloon balloons party-balloon
teddy bear
soccer ball: soccer soccer-ball ball-football futbol
basketball: basketball basketball-01 ball-basketball
football: football-american american-football ball-american-football football
backpack: backpack backpack-01 backpack-02
handbag: handbag handbag-simple purse
crown: crown crown-three
ring: ring gem-ring diamond-ring
spoon: spoon cutlery-spoon silverware-spoon
knife: knife kitchen-knife silverware-knife knife-01 knife-02
basket: basket shopping-basket basket-shopping
trash can: trash-can trash delete delete-one
broom
envelope: envelope mail email mail-01 mail-02
newspaper
trophy
dice: dice dice-five dice-5 dice-3 dice-faces-05
robot: robot robot-one bot robot-01
ghost
skull
anchor
ladder: ladder ladder-one
magnet
traffic light: traffic-light traffic-lights
flag: flag flag-variant flag-01 flag-triangle-right flag-pennant
mailbox: mailbox mailbox-01
tennis ball: tennis-ball ball-tennis
baseball: baseball ball-baseball
kite
hourglass: hourglass hourglass-full
bottle: bottle bottle-wine wine-bottle baby-bottle milk-bottle
coin: coin coins
battery: battery battery-full battery-high
feather
toothbrush
bucket
stethoscope
fountain
"""


def _parse(text: str) -> dict[str, tuple[str, ...]]:
    things = {}
    for line in text.strip().splitlines():
        name, _, slugs = line.partition(": ")
        things[name] = tuple(slugs.split()) or (name.replace(" ", "-"),)
    return things


PLAIN_ICONS = _parse(_PLAIN_ICONS)
"""Slugs of a thing's drawings by its name; some things have none."""
