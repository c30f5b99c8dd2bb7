#!/bin/sh
# Estimates pi over slices with curl:
#     muster serve --js-runner &
#     sh examples/compute/pi.sh [http://127.0.0.1:9652 [slices [darts of each]]]
# The keystore beside this file is a published test vector: never use it for anything of worth.
set -eu
here=$(dirname "$0")
base="${1:-http://127.0.0.1:9652}/api/v0" slices=${2:-100} darts=${3:-200000}
token=$(printf '%s:%s' "$(cat "$here/keystore.json")" 'correct horse' | base64 | tr -d '\n')
call() { curl -sSf -H "Authorization: Basic $token" -H 'Content-Type: application/json' "$@"; }

# The source as JSON text: backslashes and quotes escaped, lines joined.
function=$(sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' "$here/pi.js" | awk '{ printf "%s\\n", $0 }')
numbers=$(seq -s, 1 "$slices")
address=3c283b5a559b2d02bc279e02f7e3a73ecc52f827
job=$(call -d @- "$base/job" <<BODY | sed 's/.*"jobId":"\([^"]*\)".*/\1/'
{"work": {"language": "js", "function": "$function"}, "slices": [$numbers], "args": [$darts],
 "account": {"address": "$address"}, "public": {"name": "pi"}}
BODY
)
while :; do
  status=$(call "$base/job/$job")
  echo "$status"
  case $status in *'"status":"completed"'*|*'"status":"corrupted"'*) break ;; esac
  sleep 1
done
echo 'the first three counts:'
call "$base/job/$job/result?range=1-3"
echo
call "$base/job/$job/result" | tr '{' '\n' | sed -n 's/.*"value":\([0-9]*\).*/\1/p' |
  awk -v darts="$darts" '{ inside += $1 } END { printf "%d slices: pi is about %.6f\n", NR, 4 * inside / (NR * darts) }'
call -X DELETE "$base/job/$job"
