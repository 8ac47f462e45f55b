#!/usr/bin/env bash
# ray 2.60.0: a cluster that `ray start --head` begins sends a report to usage-stats.ray.io also where
# reports are turned off, by RAY_USAGE_STATS_ENABLED=0 or --disable-usage-stats. It is one POST, as
# soon as the dashboard's process runs, and tells the time, the kind of build (source) and nothing
# else; but who listens learns of the address and of the start (UsageStatsHead.run calls
# _report_disabled_usage_async in ray/dashboard/modules/usage_stats/usage_stats_head.py). ray.init
# sends none.
#
# What works is RAY_USAGE_STATS_REPORT_URL: let it name a port of this machine that nobody listens at.
#
# Seen: "RAY_USAGE_STATS_ENABLED=0: POST, told: collect_timestamp_ms schema_version source", and the
# same for "--disable-usage-stats".
set -euo pipefail
work=$(mktemp -d /tmp/ray.XXXX) # short, since sockets lie in it
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m venv venv
venv/bin/pip install --quiet ray==2.60.0

cat > listen.py <<'PYTHON'
import http.server
import json
import os
import signal
import subprocess
import sys

how, variable, flag = sys.argv[1:]


class Reports(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        told = sorted(name for name, value in body.items() if value is not None)
        print(f"{how}: POST, told: {' '.join(told)}", flush=True)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Reports)
server.timeout = 120
url = f"http://127.0.0.1:{server.server_port}/"
environment = dict(os.environ, RAY_USAGE_STATS_REPORT_URL=url, HOME=os.getcwd())
if variable:
    environment["RAY_USAGE_STATS_ENABLED"] = variable
command = ["venv/bin/ray", "start", "--head", "--block", "--num-cpus=1", "--port=0"]
command += ["--temp-dir", os.path.join(os.getcwd(), "t"), *flag.split()]
with open("ray.log", "w") as log:
    ray = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
server.handle_request()
ray.send_signal(signal.SIGTERM)
ray.wait()
PYTHON

{
    venv/bin/python listen.py RAY_USAGE_STATS_ENABLED=0 0 ""
    venv/bin/python listen.py --disable-usage-stats "" --disable-usage-stats
} | tee seen.txt

diff seen.txt - <<'SEEN'
RAY_USAGE_STATS_ENABLED=0: POST, told: collect_timestamp_ms schema_version source
--disable-usage-stats: POST, told: collect_timestamp_ms schema_version source
SEEN
