#!/usr/bin/env bash
# openvino 2026.4.1 with openvino-telemetry 2025.2.0: `import openvino` alone, no model and no device,
# writes a client id to ~/intel. No dialog asks before, and no environment variable of its own turns
# that off. What does: CI in the environment, its command `opt_in_out --opt_out` run before the
# first import (once for each home), or the package openvino-telemetry not being there, which
# openvino gets on without though pip installs it as a dependency.
#
# Seen: intel/openvino_ga_cid after "plain"; not after "ci", "opted out" and "removed".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv v
v/bin/pip install --quiet openvino==2026.4.1 openvino-telemetry==2025.2.0

# Usage: kept NAME [VARIABLE=VALUE ...]; says whether an import kept an id in that home.
kept() {
  local home="$work/home-$1"
  shift
  mkdir -p "$home"
  env -u CI HOME="$home" "$@" v/bin/python -c "import openvino"
  if [[ -e $home/intel/openvino_ga_cid ]]; then echo yes; else echo no; fi
}

plain=$(kept plain)
ci=$(kept ci CI=true)
mkdir home-out
env -u CI HOME="$work/home-out" v/bin/opt_in_out --opt_out > /dev/null
out=$(kept out)
v/bin/pip uninstall --quiet --yes openvino-telemetry
removed=$(kept removed)
echo "plain: $plain, ci: $ci, opted out: $out, removed: $removed"
[[ "$plain $ci $out $removed" == "yes no no no" ]]
