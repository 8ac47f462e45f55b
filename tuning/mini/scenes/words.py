"""Short everyday words, for what is printed in scenes."""

from __future__ import annotations

import functools
import hashlib

_WORDS = """
able acid acre actor adult after again age agent air alarm album alert alive alley alone angel
ankle apple april apron arch area arena arm army arrow art ash atlas attic aunt autumn away baby
back bacon badge bag baker bakery ball band bank bar barber barn base basin basket bath beach bead
beam bean bear beard bed beef beer bell belt bench berry best bike bill bird black blade blanket
blend block blood blue board boat body bolt bone book boot border boss bottle bowl box boy brain
branch brand brass brave bread break brick bride bridge bright broom brown brush bucket bud build
bulb bull burger bus bush butter button buy cab cable cafe cage cake calf call calm camel camera
camp can canal candle candy cap car card care cargo carpet cart cash castle cat cave cell chain
chair chalk cheap check cheese chef cherry chess chest chief child chips choir church cinema circle
circus city claim class clay clean clear clerk cliff clinic clock close cloth cloud club coach coal
coast coat cocoa code coffee coin cold color comet cook cookie cool copper copy coral cord corn
corner cost cotton couch count court cousin cover cow crab craft cream crew crop cross crown cube
cup cure curry curve cycle dairy dance danger dark date dawn day dead deal dear deep deer deli
dentist desert desk diary diet dinner dirt dish diver dock doctor dog doll dolphin donkey door dose
dot double dough down draft dragon dream dress drink drive drop drum dry duck dust duty eagle ear
early earth east easy eat echo edge egg eight elbow empty end energy engine enjoy enter entry equal
error event exit extra eye fabric face fact fair fall family famous fan farm fast fat father fee
feed fence ferry field fifty film final finger fire first fish five flag flame flat flight floor
flour flower fly foam fog folk food foot forest fork form forty fox frame free fresh friday fridge
friend frog front frost fruit fuel full fun fur future galaxy game garage garden garlic gas gate
gift ginger girl give glad glass globe glove glue goal goat gold golf good goose grain grape grass
gray great green grill group guard guest guide guitar gum gym habit hair half hall ham hammer hand
happy harbor hard hat hawk head heart heat heavy height helmet help herb hero high hike hill hobby
hold hole holy home honey hood hook hope horn horse hotel hour house human humor hungry hut ice
idea inch index ink insect inside iron island item ivory jacket jam january jar jazz jeans jelly
jet jewel job joke judge juice july jump june jungle junior keep kettle key kid kind king kiss kit
kitchen kite kiwi knee knife knot label lace ladder lady lake lamb lamp land lane large last laugh
law lawn layer lazy leaf left leg lemon lens letter level lid life lift light lily lime line lion
lip list live loaf loan local lock log long look loud love low luck lunch machine magic mail main
make mall man mango map maple march mark market mask match may meal meat medal media melon menu
metal meter middle mile milk mill mind mine mint minute mirror mix model modern mole moment monday
money monkey month moon moss moth mother motor mouse mouth movie mud mug museum music nail name
narrow nation nature near neck needle nephew nest net never new news next nice night nine noise
noon north nose note novel number nurse nut oak oat ocean office oil old olive one onion open
orange orbit orchid order organ oven owl owner ox oxygen page paint pair palace palm pan panda
panel paper parade parcel park party pass pasta path pause pay peace peach peak pear pearl pen
pencil penny people pepper perfect phone photo piano picnic pie pig pillow pilot pin pine pink pipe
pizza place plain plan planet plant plate play plug plum pocket poem point polar police polish polo
pond pony pool port post pot potato powder power press price prince print prize proof public pull
pump pupil puppy purple push puzzle queen quick quiet quiz rabbit race rack radio rail rain ranch
rat ray ready red reef rent report rest rice rich ride right ring ripe river road roast robe robot
rock roll roof room root rope rose rough round route row royal rub ruby rug rule run rush sack sad
safe sail salad sale salmon salon salt same sand sauce save scale scarf school science score screen
sea seal seat second seed seven shade shark sharp sheep sheet shelf shell shine ship shirt shoe
shop short show shower side sign silk silver simple singer sink six size skate ski skin skirt sky
sleep slice slim slow small smart smile smoke snack snail snake snow soap soccer sock sofa soft
soil solar soldier son song soon soup sour south soy space spare speed spice spider spoon sport
spot spring square staff stage stairs stamp star start station steak steam steel step stick stone
stool stop store storm stove street strong studio sugar suit summer sun sunday super supper surf
sweet swim switch table tail tailor tank tape target taste taxi tea team teeth ten tennis tent test
thanks theater thick thin third thread three throat thumb ticket tide tie tiger tile time tin tiny
tip tire toast today toe toilet tomato tone tool tooth top topic torch total touch tour towel tower
town toy track trade traffic trail train trash travel tray treat tree trial trip truck trunk trust
tube tulip tuna tunnel turkey turn twelve twin two type uncle under union unit urban use valley
value van vase velvet victory video view village violin visit vital voice volume vote wagon wait
walk wall wallet walnut warm wash watch water wave wax way weather web week welcome west wet whale
wheat wheel white wide wife wild wind window wine wing winner winter wire wise wolf woman wood wool
word work world worm wrap yard year yellow yes yogurt young youth zebra zero zone zoo
"""
_LONGEST = 6
_HELD_OUT = 10


@functools.cache
def words(*, held_out: bool) -> tuple[str, ...]:
    """List words of two to six letters.

    Args:
        held_out: whether to list those that training never shows, a tenth, or all others.
    """
    return tuple(
        word
        for word in _WORDS.split()
        if len(word) <= _LONGEST
        and (hashlib.sha256(word.encode()).digest()[0] % _HELD_OUT == 0) == held_out
    )
