#!/usr/bin/env bash
# llguidance 1.9.1: a JSON schema's exclusive bound is kept or not kept depending on the other bound.
# With "exclusiveMinimum": 5 the number 5 is refused, alone and up to 6, but accepted where
# "maximum" is 5.9. Nothing is told: the grammar compiles without an error or a warning.
#
# What works is a closed bound a little inwards ("minimum": 5.000000001).
#
# Seen: "5 behind >5: refused", "... and <=6: refused", "... and <=5.9: accepted",
# "5 behind >=5.000000001 and <=5.9: refused".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m venv venv
venv/bin/pip install --quiet llguidance==1.9.1

cat > bounds.py <<'PYTHON'
import json

from llguidance import LLMatcher, LLTokenizer

tokenizer = LLTokenizer("byte")


def tell(bounds, **schema):
    grammar = LLMatcher.grammar_from_json_schema(json.dumps({"type": "number", **schema}))
    matcher = LLMatcher(tokenizer, grammar)
    assert not matcher.get_error()
    taken = matcher.try_consume_tokens(list(b"5")) == 1 and matcher.is_accepting()
    print(f"5 behind {bounds}: {'accepted' if taken else 'refused'}")


tell(">5", exclusiveMinimum=5)
tell(">5 and <=6", exclusiveMinimum=5, maximum=6)
tell(">5 and <=5.9", exclusiveMinimum=5, maximum=5.9)
tell(">=5.000000001 and <=5.9", minimum=5.000000001, maximum=5.9)
PYTHON

venv/bin/python bounds.py | tee seen
diff seen - <<'SEEN'
5 behind >5: refused
5 behind >5 and <=6: refused
5 behind >5 and <=5.9: accepted
5 behind >=5.000000001 and <=5.9: refused
SEEN
