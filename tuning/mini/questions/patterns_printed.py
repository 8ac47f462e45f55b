"""What questions about print sound like; `phrasing` says how to read this."""

from __future__ import annotations

PRINT_PATTERNS: dict[str, dict[str, tuple[str, ...]]] = {
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
            "how much is [the |]{item}",
            "how much is [the |]{item} on the receipt",
            "how much does [the |]{item} cost<in>",
            "what does [the |]{item} cost[| on the receipt]<in>",
            "<what is> the [price|cost] of [the |]{item}[| on the receipt]<in>",
            "what [price|number] is next to {item}[| on the receipt]",
            "how much did [the |]{item} cost",
        ),
        "command": (
            "give the price of [the |]{item}<in>",
            "read the price of [the |]{item}<in>",
        ),
        "indirect": (
            "how much [the |]{item} [is|costs|cost]",
            "what [the |]{item} costs<in>",
        ),
        "noun": ("the price of [the |]{item}[| on the receipt]<in>",),
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
            "how much more does [the |]{first} cost than [the |]{second}<in>",
            "how much more is [the |]{first} than [the |]{second}<in>",
            "by how much is [the |]{first} more expensive than [the |]{second}<in>",
            "how much cheaper is [the |]{second} than [the |]{first}<in>",
            "<what is> the [price difference|difference in price] between [the |]{first} and the "
            "{second}<in>",
        ),
        "command": (
            "work out how much more [the |]{first} costs than [the |]{second}<in>",
            "give the price difference between [the |]{first} and [the |]{second}<in>",
        ),
        "indirect": (
            "how much more [the |]{first} costs than [the |]{second}<in>",
            "how much cheaper [the |]{second} is than [the |]{first}<in>",
        ),
    },
}
