#!/bin/sh
# Estimates pi over slices with curl:  muster serve --js-runner &  sh examples/compute/pi.sh
# The keystore beside this file is a published test vector: never use it for anything of worth.
set -eu
here=$(dirname "$0")
base="${1:-http://127.0.0.1:9652}/api/v0"
token=$(printf '%s:%s' "$(cat "$here/keystore.json")" 'correct horse' | base64 | tr -d '\n')
call() { curl -sSf -H "Authorization: Basic $token" -H 'Content-Type: application/json' "$@"; }

body=$(python3 - "$here/pi.js" <<'PY'
import json, sys
work = {"language": "js", "function": open(sys.argv[1]).read()}
account = {"address": "3c283b5a559b2d02bc279e02f7e3a73ecc52f827"}
print(json.dumps({"work": work, "slices": list(range(1, 101)), "args": [200000], "account": account}))
PY
)
job=$(call -d "$body" "$base/job" | sed 's/.*"jobId":"\([^"]*\)".*/\1/')
while :; do
  status=$(call "$base/job/$job")
  echo "$status"
  case $status in *'"status":"completed"'*|*'"status":"corrupted"'*) break ;; esac
  sleep 1
done
echo 'the first three counts:'
call "$base/job/$job/result?range=1-3"
echo
