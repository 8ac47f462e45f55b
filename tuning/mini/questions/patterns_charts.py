"""What questions about charts and tables sound like; `phrasing` says how to read this."""

from __future__ import annotations

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
CHART_PATTERNS: dict[str, dict[str, tuple[str, ...]]] = {
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
