#!/usr/bin/env python3
"""Estimates pi over slices, through the REST surface, with nothing but the standard library.

    muster serve --js-runner &
    python3 examples/compute/pi.py [http://127.0.0.1:9652 [slices [darts of each]]]

The keystore beside this file is a published test vector: never use it for anything of worth.
"""
import base64, json, pathlib, sys, time, urllib.request

HERE = pathlib.Path(__file__).parent
BASE = (sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:9652") + "/api/v0"
KEYSTORE, PASSWORD = (HERE / "keystore.json").read_text().strip(), "correct horse"
TOKEN = base64.b64encode(f"{KEYSTORE}:{PASSWORD}".encode()).decode()
SLICES, DARTS = (int(number) for number in (sys.argv[2:4] if len(sys.argv) > 3 else (100, 200_000)))


def call(verb, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": "Basic " + TOKEN, "Content-Type": "application/json"}
    request = urllib.request.Request(BASE + path, data, headers, method=verb)
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read() or "null")


job = call("POST", "/job", {
    "work": {"language": "js", "function": (HERE / "pi.js").read_text()},
    "slices": list(range(1, SLICES // 2 + 1)),
    "args": [DARTS],
    "account": {"json": KEYSTORE, "password": PASSWORD},
    "public": {"name": "pi"},
})["jobId"]
# Slices can be added at any time.
call("POST", f"/job/{job}/slices", {"sliceData": list(range(SLICES // 2 + 1, SLICES + 1))})

told = 0
while told < SLICES:
    # Results can be read at any time; each slice is there once, whoever ran it.
    answer = call("GET", f"/job/{job}/result")
    if answer["errors"]:
        sys.exit(f"slices failed: {answer['errors'][:3]}")
    counts = [one["value"] for one in answer["results"]]
    if len(counts) > told:
        told = len(counts)
        print(f"{told}/{SLICES} slices: pi is about {4 * sum(counts) / (told * DARTS):.6f}", flush=True)
    else:
        time.sleep(0.1)
call("DELETE", f"/job/{job}")
