"""What people call the classes of ImageNet-1k, for a classifier that was trained on them.

Classes are numbered as in the challenge of 2012. Breeds and kinds are joined under the word of
`concepts.THINGS` where there is one. Classes that are no thing to be named, or whose pictures show
something else besides, are left out.
"""

from __future__ import annotations

CLASSES = 1000

# One word a line, with its classes.
_CLASS_WORDS = """
fish: 0 1 389 391-397
shark: 2-4
stingray: 5 6
chicken: 7 8
ostrich: 9
bird: 10-21 80-83 85 86 91-95 127-129 131-143 146
eagle: 22
vulture: 23
owl: 24
lizard: 25-29 38-48
frog: 30-32
turtle: 33-37
crocodile: 49 50
dinosaur: 51
snake: 52-68
spider: 70 72-77
scorpion: 71
tick: 78
centipede: 79
peacock: 84
parrot: 87-90
toucan: 96
duck: 97 98
goose: 99
swan: 100
elephant: 101 385 386
platypus: 103
kangaroo: 104
koala: 105
wombat: 106
jellyfish: 107
coral: 109 973 991
worm: 110 111
shell: 112 117
snail: 113
slug: 114 115
crab: 118-121 125
lobster: 122-124
flamingo: 130
pelican: 144
penguin: 145
whale: 147 148
seal: 149 150
dog: 151-268 273
wolf: 269-272
wild dog: 274 275
hyena: 276
fox: 277-280
cat: 281-285
cougar: 286
lynx: 287
leopard: 288-290
lion: 291
tiger: 292
cheetah: 293
bear: 294-297
mongoose: 298
meerkat: 299
beetle: 300 302-307
ladybug: 301
fly: 308
bee: 309
ant: 310
grasshopper: 311-313
cockroach: 314
mantis: 315
cicada: 316 317
dragonfly: 318-320
butterfly: 321-326
starfish: 327
sea urchin: 328
rabbit: 330-332
hamster: 333
hedgehog: 334
squirrel: 335
marmot: 336
beaver: 337
guinea pig: 338
horse: 339
zebra: 340
pig: 341-343
hippopotamus: 344
cow: 345
buffalo: 346 347
sheep: 348 349
goat: 350
antelope: 351-353
camel: 354
llama: 355
weasel: 356-359
otter: 360
skunk: 361
badger: 362
armadillo: 363
sloth: 364
orangutan: 365
gorilla: 366
monkey: 367-382
lemur: 383 384
red panda: 387
panda: 388
eel: 390
accordion: 401
guitar: 402 546
airplane: 404 895
airship: 405
ambulance: 407
clock: 409 530 892
trash can: 412
rifle: 413 764
backpack: 414
balloon: 417
pen: 418 563
barn: 425
barrel: 427 756
wheelbarrow: 428
baseball: 429
basketball: 430
towel: 434
bathtub: 435 876
car: 436 511 627 656 661 751 817
lighthouse: 437
bottle: 440 720 737 898 907
beer: 441
church: 442 497 663
bicycle: 444 671
binoculars: 447
bookcase: 453
bow: 456
broom: 462
bucket: 463
train: 466 547 565 820
taxi: 468
pot: 469 521 544
candle: 470
cannon: 471
canoe: 472 693
box: 478 492 519
castle: 483
sailboat: 484 780 871 914
violin: 486 889
phone: 487 605
chain: 488
bell: 494
sock: 496 806
cup of coffee: 504 967
teapot: 505 849
lock: 507 695
keyboard: 508 878
ship: 403 510 628 724
trumpet: 513 566 875
boot: 514
hat: 515 808
helmet: 518 560
desk: 526
computer: 527 664
telephone: 528 707
watch: 531
table: 532 736
fan: 545
drum: 541 822
dumbbell: 422 543
envelope: 549
fire truck: 555
boat: 554 576 625 814
flag: 557
flute: 558 683
chair: 423 559 765 857
fountain: 562
bed: 564
truck: 569 717 864 867
glass of wine: 966
golf ball: 574
piano: 579 881
hammer: 587
hair dryer: 589
harp: 594
axe: 596
hook: 600
hourglass: 604
iron: 606
pumpkin: 607
jeans: 608
jeep: 609
shirt: 610
knot: 616
spoon: 618 910
lamp: 619 846
laptop: 620 681
lawn mower: 621
knife: 499 623
lighter: 626
lipstick: 629
shoe: 502 630 770 774
magnifying glass: 633
compass: 635
mailbox: 637
match: 644
microphone: 650
microwave: 651
bus: 654 779 874
rocket: 657 744
glove: 658
bowl: 659 809
scooter: 665 670
mosque: 668
tent: 672
mouse: 673
nail: 677
necklace: 679
palace: 698
paintbrush: 696
parachute: 701
bench: 703
piggy bank: 719
pillow: 721
jug: 725 899
police car: 734
drill: 740
printer: 713 742
handbag: 636 748
feather: 749
radio: 754
refrigerator: 760
remote control: 761
revolver: 763
eraser: 767
ruler: 769
safe: 771
safety pin: 772
saxophone: 776
scale: 778
screw: 783
screwdriver: 784
sewing machine: 786
shield: 787
basket: 588 790
shopping cart: 791
shovel: 792
ski: 795
soccer ball: 805
solar panel: 807
space shuttle: 812
spatula: 813
stethoscope: 823
scarf: 824
stopwatch: 826
tram: 829
couch: 831
submarine: 833
glasses: 836 837
bridge: 821 839 888
swing: 843
syringe: 845
tank: 847
teddy bear: 850
television: 851
tennis ball: 852
toaster: 859
toilet: 861
tractor: 866
coat: 568 617 869
tricycle: 870
umbrella: 879
vacuum cleaner: 882
vase: 883
volleyball: 890
wallet: 893
washing machine: 897
sink: 896
whistle: 902
camera: 732 759
dress: 601 578
plate: 923
ice cream: 928 929
bread: 930 931
pretzel: 932
hamburger: 933
hot dog: 934
cabbage: 936
broccoli: 937
cauliflower: 938
cucumber: 939 943
artichoke: 944
pepper: 945
mushroom: 947 992-997
apple: 948
strawberry: 949
orange: 950
lemon: 951
pineapple: 953
banana: 954
pomegranate: 957
pizza: 963
burrito: 965
mountain: 970
bubble: 971
beach: 978
volcano: 980
flower: 985 986
corn: 987
acorn: 988
toilet paper: 999
traffic light: 920
sign: 919
"""


def class_words() -> dict[str, tuple[int, ...]]:
    """Return the classes of each word."""
    return {
        word: tuple(number for span in spans.split() for number in _numbers(span))
        for word, _, spans in (line.partition(": ") for line in _CLASS_WORDS.strip().splitlines())
    }


def _numbers(span: str) -> range:
    first, _, last = span.partition("-")
    return range(int(first), int(last or first) + 1)
