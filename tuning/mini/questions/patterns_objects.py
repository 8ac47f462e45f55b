"""What questions about things and shapes sound like; `phrasing` says how to read this."""

from __future__ import annotations

OBJECT_PATTERNS: dict[str, dict[str, tuple[str, ...]]] = {
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
            "[if|whether] the {first} outnumber the {second}<in>",
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
}
