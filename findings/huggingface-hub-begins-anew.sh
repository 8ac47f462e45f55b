#!/usr/bin/env bash
# huggingface_hub 2.4.0: a download by hf_hub_download that was killed begins anew at byte 0, and what
# had arrived stays in the cache beside the new file, under a name that ends in .incomplete.
# With 0.36.2 the next call asked for the rest (Range: bytes=N-) and finished the same file. Both are
# asked over plain HTTP (HF_HUB_DISABLE_XET=1).
#
# What works is to fetch the URL of hf_hub_url oneself, and to go on at the bytes that are there.
#
# Seen, of a file of 32 MB of which 20 had arrived when the process was killed:
#   0.36.2: asks for bytes=20971520-; 0 files left
#   2.4.0: asks for everything; 1 files left
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat > try.py <<'PYTHON'
import http.server
import os
import pathlib
import subprocess
import sys
import threading

ARRIVED = 20 * 2**20  # it is written in pieces of 10 MB
BODY = os.urandom(32 * 2**20)
asked = []
is_slow = threading.Event()
is_slow.set()


class Hub(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def head(self, first=0):
        self.send_response(206 if first else 200)
        self.send_header("ETag", '"abc123"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(BODY) - first))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(BODY) - 1}/{len(BODY)}")
        self.end_headers()

    def do_HEAD(self):
        self.head()

    def do_GET(self):
        wanted = self.headers.get("Range")
        asked.append(wanted or "everything")
        first = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
        self.head(first)
        if is_slow.is_set():
            self.wfile.write(BODY[: 24 * 2**20])
            self.wfile.flush()
            threading.Event().wait(20)
        else:
            self.wfile.write(BODY[first:])

    def log_message(self, *args):
        pass


hub = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
threading.Thread(target=hub.serve_forever, daemon=True).start()
home = pathlib.Path("home-" + sys.argv[1])
env = {
    **os.environ,
    "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
    "HF_HOME": str(home),
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
code = "from huggingface_hub import hf_hub_download as get; get('a/b', 'model.safetensors')"
command = [sys.executable, "-c", code]


def arrived():
    return [path.stat().st_size for path in home.rglob("*.incomplete")]


first = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
for _ in range(600):
    if ARRIVED in arrived():
        break
    threading.Event().wait(0.05)
first.kill()
first.wait()
assert arrived() == [ARRIVED], arrived()
is_slow.clear()
asked.clear()
subprocess.run(command, env=env, check=True, stderr=subprocess.DEVNULL)
(whole,) = [path for path in home.rglob("blobs/*") if path.suffix != ".incomplete"]
assert whole.read_bytes() == BODY
print(f"{sys.argv[1]}: asks for {asked[0]}; {len(arrived())} files left")
PYTHON

for version in 0.36.2 2.4.0; do
    python3 -m venv "venv-$version"
    "venv-$version/bin/pip" install --quiet "huggingface_hub==$version"
    "venv-$version/bin/python" try.py "$version"
done | tee seen.txt

diff seen.txt - <<'SEEN'
0.36.2: asks for bytes=20971520-; 0 files left
2.4.0: asks for everything; 1 files left
SEEN
