"""The patterns of `phrasing`: what each kind of question sounds like.

The name of a group is its kind, with what is asked about behind a dot where that changes the words.
"""

from __future__ import annotations

PARTS = {
    "<in>": "[| in the <picture>| in this <picture>| here]",
    "<in the>": "[in the|in this] <picture>",
    "<picture>": "[picture|image|photo|drawing|scene]",
    "<colour>": "[color|colour]",
    "<what is>": "[what is|what's]",
    "<do you see>": "[do|can] you see",
}

PATTERNS: dict[str, dict[str, tuple[str, ...]]] = {
    "name": {
        "direct": (
            "what is this",
            "what's this",
            "[what is|what's] it",
            "<what is> <in the>",
            "what <do you see><in>",
            "what [object|thing] is [this|shown|it|shown here]",
            "which [object|thing] is <in the>",
            "what does [the|this] <picture> [show|contain|depict]",
            "what can be seen<in>",
            "<what is> shown<in>",
            "what kind of [thing|object] is [this|shown]",
            "what would you call this",
        ),
        "command": (
            "name the [object|thing]<in>",
            "name what you see<in>",
            "identify the [object|thing]<in>",
            "say what you see<in>",
        ),
        "indirect": (
            "what this is",
            "what is <in the>",
            "what you see<in>",
            "what [the|this] <picture> shows",
            "what [object|thing] this is",
        ),
    },
    "colour": {
        "direct": (
            "what <colour> is the {name}<in>",
            "what is the <colour> of the {name}<in>",
            "what's the <colour> of the {name}<in>",
            "which <colour> is the {name}<in>",
            "[which|what] <colour> does the {name}<in> have",
            "the {name}<in> has [what|which] <colour>",
        ),
        "command": (
            "name the <colour> of the {name}<in>",
            "give the <colour> of the {name}<in>",
            "identify the {name}'s <colour>",
        ),
        "indirect": ("[what|which] <colour> the {name} is<in>",),
        "noun": ("the <colour> of the {name}<in>",),
    },
    "exists": {
        "direct": (
            "{is} there {a_name}<in>",
            "<do you see> {a_name}<in>",
            "does [the|this] <picture> [show|contain|include|have] {a_name}",
            "{is} {a_name} [visible|shown]<in>",
            "can {a_name} be [seen|found]<in>",
            "{is} there {a_name} to be seen<in>",
        ),
        "command": ("check [if|whether] there {is} {a_name}<in>",),
        "indirect": (
            "[if|whether] there {is} {a_name}<in>",
            "[if|whether] you see {a_name}<in>",
            "[if|whether] [the|this] <picture> [shows|contains] {a_name}",
        ),
    },
    "exists.single": {
        "direct": (
            "is [this|it|that] {a_name}",
            "is the [object|thing] <in the> {a_name}",
            "does this look like {a_name}",
        ),
        "command": (),
        "indirect": ("[if|whether] [this|it|that] is {a_name}",),
    },
    "where": {
        "direct": (
            "where {is} the {name}<in>",
            "where <in the> {is} the {name}",
            "where can [I|you|one] [find|see] the {name}<in>",
            "where <do you see> the {name}<in>",
            "[in which|in what] part of [the|this] <picture> {is} the {name}",
            "what is the [position|location|place] of the {name}<in>",
            "where {is} the {name} [placed|located|positioned]<in>",
        ),
        "command": (
            "[locate|find] the {name}<in>",
            "give the [position|location|place] of the {name}<in>",
        ),
        "indirect": (
            "where the {name} {is}<in>",
            "[in which|in what] part of [the|this] <picture> the {name} {is}",
        ),
        "noun": ("the [position|location] of the {name}<in>",),
    },
    "what_at": {
        "direct": (
            "<what is> at the {place}",
            "<what is> at the {place} of [the|this] <picture>",
            "what <do you see> at the {place}[| of [the|this] <picture>]",
            "[which|what] [object|thing] is at the {place}[| of [the|this] <picture>]",
            "<what is> [shown|placed|located] at the {place}[| of [the|this] <picture>]",
            "at the {place}[| of [the|this] <picture>], what <do you see>",
            "what can be [seen|found] at the {place}[| of [the|this] <picture>]",
        ),
        "command": (
            "name the [object|thing] at the {place}[| of [the|this] <picture>]",
            "name what is at the {place}[| of [the|this] <picture>]",
        ),
        "indirect": (
            "what is at the {place}[| of [the|this] <picture>]",
            "what you see at the {place}[| of [the|this] <picture>]",
            "[which|what] [object|thing] is at the {place}",
        ),
    },
    "count": {
        "direct": (
            "how many {plural} are there<in>",
            "how many {plural} <do you see><in>",
            "how many {plural} are <in the>",
            "how many {plural} are [shown|visible]<in>",
            "how many {plural} can [I|you|one] [see|find|count]<in>",
            "how many {plural} does [the|this] <picture> [show|contain|have]",
            "<what is> the number of {plural}<in>",
        ),
        "command": (
            "count the {plural}<in>",
            "count all {plural}<in>",
            "count how many {plural} there are<in>",
            "give the number of {plural}<in>",
        ),
        "indirect": (
            "how many {plural} there are<in>",
            "how many {plural} you [see|can see]<in>",
            "how many {plural} are <in the>",
        ),
        "noun": ("the number of {plural}<in>",),
    },
    "more.yes_no": {
        "direct": (
            "are there more {first} than {second}<in>",
            "<do you see> more {first} than {second}<in>",
            "does [the|this] <picture> [show|contain|have] more {first} than {second}",
            "do the {first} outnumber the {second}<in>",
            "is the number of {first} [larger|greater|higher] than the number of {second}",
            "are there fewer {second} than {first}<in>",
        ),
        "command": ("check [if|whether] there are more {first} than {second}<in>",),
        "indirect": (
            "[if|whether] there are more {first} than {second}<in>",
            "[if|whether] you see more {first} than {second}<in>",
        ),
    },
    "more.which": {
        "direct": (
            "which are there more of<in>, {first} or {second}",
            "what are there more of<in>, {first} or {second}",
            "are there more {first} or more {second}<in>",
            "are there more {first} or {second}<in>",
            "[which|what] <do you see> more of<in>, {first} or {second}",
            "[which|what] is there a larger number of<in>, {first} or {second}",
        ),
        "command": ("name what there are more of<in>, {first} or {second}",),
        "indirect": (
            "[which|what] there are more of<in>, {first} or {second}",
            "whether there are more {first} or {second}<in>",
        ),
    },
    "larger.yes_no": {
        "direct": (
            "{is} the {first} {more} than the {second}<in>",
            "<in the>, {is} the {first} {more} than the {second}",
            "{is} the {first} shown {more} than the {second}",
        ),
        "command": ("check [if|whether] the {first} {is} {more} than the {second}<in>",),
        "indirect": ("[if|whether] the {first} {is} {more} than the {second}<in>",),
    },
    "larger.which": {
        "direct": (
            "which is {more}<in>, the {first} or the {second}",
            "what is {more}<in>, the {first} or the {second}",
            "which [object|thing|one] is {more}<in>, the {first} or the {second}",
            "which of the two is {more}<in>, the {first} or the {second}",
            "which is the {more} one<in>, the {first} or the {second}",
            "which looks {more}<in>, the {first} or the {second}",
        ),
        "command": ("name the {more} one<in>, the {first} or the {second}",),
        "indirect": (
            "which is {more}<in>, the {first} or the {second}",
            "which of the two is {more}<in>, the {first} or the {second}",
        ),
    },
    "larger.most": {
        "direct": (
            "which [object|thing] is the {most}<in>",
            "<what is> the {most} [object|thing]<in>",
            "what [object|thing] is {most}<in>",
            "which is the {most} [object|thing]<in>",
        ),
        "command": ("name the {most} [object|thing]<in>",),
        "indirect": (
            "which [object|thing] is the {most}<in>",
            "what the {most} [object|thing] is<in>",
        ),
    },
    "left_of.yes_no": {
        "direct": (
            "{is} the {first} {relation} the {second}<in>",
            "<in the>, {is} the {first} {relation} the {second}",
            "<do you see> the {first} {relation} the {second}<in>",
            "{is} the {first} [placed|located|shown] {relation} the {second}<in>",
            "does the <picture> show the {first} {relation} the {second}",
        ),
        "command": ("check [if|whether] the {first} {is} {relation} the {second}<in>",),
        "indirect": ("[if|whether] the {first} {is} {relation} the {second}<in>",),
    },
    "left_of.which": {
        "direct": (
            "which is {further}<in>, the {first} or the {second}",
            "what is {further}<in>, the {first} or the {second}",
            "which [object|thing|one] is {further}<in>, the {first} or the {second}",
            "which of the two is {further}<in>, the {first} or the {second}",
            "<in the>, which is {further}, the {first} or the {second}",
        ),
        "command": ("name the one that is {further}<in>, the {first} or the {second}",),
        "indirect": (
            "which is {further}<in>, the {first} or the {second}",
            "which of the two is {further}<in>, the {first} or the {second}",
        ),
    },
    "odd_one_out": {
        "direct": (
            "which [object|thing|one] does not belong<in>",
            "which [object|thing|one] doesn't belong[| with the others]<in>",
            "<what is> the odd one out<in>",
            "which is the odd one out<in>",
            "which [object|thing|one] is different[| from the others]<in>",
            "which [object|thing|one] is not like the [others|rest]<in>",
            "what [does not|doesn't] fit with the [others|rest]<in>",
        ),
        "command": (
            "find the odd one out<in>",
            "name the odd one out<in>",
            "name the [object|thing] that [does not|doesn't] belong<in>",
        ),
        "indirect": (
            "which [object|thing|one] [does not|doesn't] belong<in>",
            "which [object|thing|one] is the odd one out<in>",
        ),
    },
    "read_word.word": {
        "direct": (
            "what [word|text] is on the {carrier}<in>",
            "[what|which] word does the {carrier}<in> [show|say|have]",
            "what does the text on the {carrier}<in> say",
            "what [word|text] <do you see> on the {carrier}<in>",
        ),
        "command": ("read the [word|text] on the {carrier}<in>",),
        "indirect": ("what [word|text] is on the {carrier}<in>",),
    },
    "read_word.carrier": {
        "direct": (
            "what does the {carrier} say<in>",
            "<what is> [written|printed] on the {carrier}<in>",
            "what <do you see> [written|printed] on the {carrier}<in>",
            "what [can you|do you] read on the {carrier}<in>",
        ),
        "command": ("read the {carrier}<in>", "read what the {carrier} says<in>"),
        "indirect": (
            "what the {carrier} says<in>",
            "what is [written|printed] on the {carrier}<in>",
        ),
    },
    "read_word.any": {
        "direct": (
            "what does it say<in>",
            "<what is> [written|printed]<in>",
            "what does the [text|writing] say<in>",
            "what [can you|do you] read<in>",
        ),
        "command": ("read the [text|writing]<in>", "read what is written<in>"),
        "indirect": (
            "what is written<in>",
            "what the [text|writing] says<in>",
        ),
    },
    "read_number.plain": {
        "direct": (
            "what number is on the {carrier}<in>",
            "[what|which] number does the {carrier}<in> [show|say|display]",
            "what does the {carrier} [show|say|read]<in>",
            "<what is> the number on the {carrier}<in>",
            "what number <do you see> on the {carrier}<in>",
            "what number is [written|printed|shown] on the {carrier}<in>",
        ),
        "command": (
            "read the number on the {carrier}<in>",
            "read the {carrier}<in>",
            "give the number on the {carrier}<in>",
        ),
        "indirect": (
            "what number is on the {carrier}<in>",
            "[what|which] number the {carrier} shows<in>",
        ),
        "noun": ("the number on the {carrier}<in>",),
    },
    "read_number.clock": {
        "direct": (
            "what time is it<in>",
            "what time does the clock [show|say]<in>",
            "<what is> the time<in>",
            "<what is> the time on the clock<in>",
            "what does the clock [show|say|read]<in>",
            "which time is [shown|displayed] on the clock<in>",
        ),
        "command": ("read the clock<in>", "read the time on the clock<in>", "give the time<in>"),
        "indirect": (
            "what time it is<in>",
            "what time the clock shows<in>",
            "what the clock says<in>",
        ),
    },
    "read_number.item": {
        "direct": (
            "how much is the {item}",
            "how much is the {item} on the receipt",
            "how much does the {item} cost<in>",
            "what does the {item} cost[| on the receipt]<in>",
            "<what is> the [price|cost] of the {item}[| on the receipt]<in>",
            "what [price|number] is next to {item}[| on the receipt]",
            "how much did the {item} cost",
        ),
        "command": (
            "give the price of the {item}<in>",
            "read the price of the {item}<in>",
        ),
        "indirect": (
            "how much the {item} [is|costs|cost]",
            "what the {item} costs<in>",
        ),
        "noun": ("the price of the {item}[| on the receipt]<in>",),
    },
    "arithmetic.sum": {
        "direct": (
            "<what is> the [result|answer|solution]<in>",
            "<what is> the result of the [sum|calculation]<in>",
            "<what is> the answer to the [sum|calculation|problem]<in>",
            "what does the [sum|calculation]<in> [come to|equal|give]",
            "what do you get[| when you work it out]",
            "what does the [sum|calculation]<in> make",
        ),
        "command": (
            "solve the [sum|calculation|problem]<in>",
            "work out the [sum|calculation|result|answer]<in>",
            "calculate the result<in>",
            "do the [sum|maths|math]<in>",
        ),
        "indirect": (
            "what the [result|answer] is<in>",
            "what the [sum|calculation] comes to<in>",
        ),
        "noun": ("the [result|answer]<in>",),
    },
    "arithmetic.total": {
        "direct": (
            "<what is> the total[| of the receipt]<in>",
            "how much is [everything|it all] together<in>",
            "how much does [everything|it all] cost[| together]<in>",
            "what does [everything|it all] cost [together|in total]<in>",
            "what does the receipt [add up|come] to<in>",
            "<what is> the sum of [the|all] prices<in>",
        ),
        "command": (
            "add up the [receipt|prices]<in>",
            "work out the total<in>",
            "give the total[| of the receipt]<in>",
        ),
        "indirect": (
            "what [everything|it all] costs together<in>",
            "what the receipt comes to<in>",
        ),
        "noun": ("the total[| of the receipt]<in>",),
    },
    "arithmetic.difference": {
        "direct": (
            "how much more does the {first} cost than the {second}<in>",
            "how much more is the {first} than the {second}<in>",
            "by how much is the {first} more expensive than the {second}<in>",
            "how much cheaper is the {second} than the {first}<in>",
            "<what is> the [price difference|difference in price] between the {first} and the "
            "{second}<in>",
        ),
        "command": (
            "work out how much more the {first} costs than the {second}<in>",
            "give the price difference between the {first} and the {second}<in>",
        ),
        "indirect": (
            "how much more the {first} costs than the {second}<in>",
            "how much cheaper the {second} is than the {first}<in>",
        ),
    },
}

_EXTREME = {
    "direct": (
        "which {part} is the {most}<in>",
        "which {part} is {most}<in>",
        "<what is> the {most} {part}<in>",
        "which is the {most} {part}<in>",
        "what {part} is the {most}<in>",
        "which {part} has the {most_value} value<in>",
        "what has the {most_value} value in the {chart}",
        "which label has the {most_value} value in the {chart}",
        "which {part} is the {most} in the {chart}",
    ),
    "command": (
        "name the {most} {part}<in>",
        "find the {most} {part}<in>",
        "name the {part} with the {most_value} value<in>",
    ),
    "indirect": (
        "which {part} is the {most}<in>",
        "which {part} has the {most_value} value<in>",
        "what the {most} {part} is<in>",
    ),
}
_EXTREME_COLOUR = {
    "direct": (
        "[which|what] <colour> is the {most} {part}<in>",
        "<what is> the <colour> of the {most} {part}<in>",
        "[which|what] <colour> does the {most} {part}<in> have",
    ),
    "command": (
        "name the <colour> of the {most} {part}<in>",
        "give the <colour> of the {most} {part}<in>",
    ),
    "indirect": ("[which|what] <colour> the {most} {part} is<in>",),
    "noun": ("the <colour> of the {most} {part}<in>",),
}
PATTERNS |= {
    "largest": _EXTREME,
    "largest.colour": _EXTREME_COLOUR,
    "smallest": _EXTREME,
    "smallest.colour": _EXTREME_COLOUR,
    "chart_value": {
        "direct": (
            "<what is> the value of {entry}<in>",
            "what value does {entry} have<in>",
            "how [high|large|big|much] is {entry}<in>",
            "what does the {chart} show for {entry}",
            "<what is> the value for {entry}[<in>| in the {chart}]",
            "what number does {entry} have[<in>| in the {chart}]",
            "<what is> the number for {entry}[<in>| in the {chart}]",
        ),
        "command": (
            "give the value of {entry}<in>",
            "read the value of {entry}<in>",
            "read {entry} [off|from] the {chart}",
        ),
        "indirect": (
            "what value {entry} has<in>",
            "what the {chart} shows for {entry}",
        ),
        "noun": ("the value of {entry}<in>",),
    },
    "table_lookup": {
        "direct": (
            "what does the table [say|show|list] for {entry}",
            "<what is> the value [of|for] {entry}[<in>| in the table]",
            "[what|which] number is next to {entry}[<in>| in the table]",
            "what value does {entry} have[<in>| in the table]",
            "what number does {entry} have[<in>| in the table]",
            "what is in the row [of|for] {entry}[| in the table]",
        ),
        "command": (
            "look up {entry}<in>",
            "look up {entry} in the table",
            "give the value [of|for] {entry}[<in>| in the table]",
            "read the value of {entry}<in>",
        ),
        "indirect": (
            "what the table [says|shows] for {entry}",
            "what value {entry} has<in>",
        ),
        "noun": ("the value [of|for] {entry}[<in>| in the table]",),
    },
    "chart_compare": {
        "direct": (
            "is {first} {more} than {second}[<in>| in the {chart}]",
            "is the value of {first} {more} than that of {second}<in>",
            "is the value of {first} {more} than the value of {second}<in>",
            "does {first} have a {more} value than {second}<in>",
            "<in the>, is {first} {more} than {second}",
        ),
        "command": ("check [if|whether] {first} is {more} than {second}<in>",),
        "indirect": (
            "[if|whether] {first} is {more} than {second}<in>",
            "[if|whether] the value of {first} is {more} than that of {second}<in>",
        ),
    },
    "chart_sum": {
        "direct": (
            "<what is> {first} plus {second}<in>",
            "how much are {first} and {second} together<in>",
            "what do {first} and {second} [add up to|come to|make together]<in>",
            "<what is> the [sum|total] of {first} and {second}[<in>| in the {chart}]",
            "what do you get if you add {first} and {second}<in>",
        ),
        "command": (
            "add {first} and {second}<in>",
            "add up {first} and {second}<in>",
            "work out the sum of {first} and {second}<in>",
            "give the [sum|total] of {first} and {second}<in>",
        ),
        "indirect": (
            "what {first} and {second} add up to<in>",
            "how much {first} and {second} are together<in>",
        ),
        "noun": ("the [sum|total] of {first} and {second}<in>",),
    },
}
