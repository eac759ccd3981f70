#!/usr/bin/env bash
# From a clean clone to a served, rolled and undone sample on the local Docker Engine; then says what to try next.
# Run it again and it goes on with the same cluster. `scripts/demo.sh down` removes everything it made.
set -euo pipefail
cd "$(dirname "$0")/.."

dir=${DROVER_DEMO_DIR:-/var/lib/drover-demo}
target=${CARGO_TARGET_DIR:-target}/debug
listen=${DROVER_DEMO_LISTEN:-127.0.0.1:6443}
export KUBECONFIG=$dir/admin.kubeconfig
ctl=$target/droverctl

say() { printf '\n== %s\n' "$*"; }

running() { [ -s "$dir/pid" ] && kill -0 "$(cat "$dir/pid")" 2>/dev/null; }

down() {
  if running; then
    kill "$(cat "$dir/pid")"
    while running; do sleep 0.1; done
  fi
  "$target/drover" uninstall --data-dir "$dir"
  rm -rf "$dir"
}

if [ "${1:-}" = down ]; then
  down
  exit
fi

scripts/prepare.sh demo

say "Building (the first time takes a few minutes)"
cargo build --quiet -p drover -p drover-runc -p drover-ctl -p drover-tests --bins
scripts/build-image.sh drover/hello:1 drover/hello:2

say "Starting a cluster of one host: drover up --data-dir $dir"
mkdir -p "$dir"
if ! running; then
  rm -f "$dir/server.json"
  setsid "$target/drover" up --data-dir "$dir" --listen "$listen" >>"$dir/log" 2>&1 </dev/null &
  echo $! >"$dir/pid"
fi
until [ -s "$dir/server.json" ]; do
  running || { tail -n 20 "$dir/log" >&2; exit 1; }
  sleep 0.1
done
"$ctl" get nodes

say "Deploying manifests/hello.yaml: three replicas behind a Service"
"$ctl" apply -f manifests/hello.yaml
url=http://$("$ctl" get service hello -o 'jsonpath={.spec.clusterIP}')/
curl --silent --show-error --fail "$url"

say "Rolling to version 2 and back under 200 requests a second, half of them on new connections"
report=$(mktemp)
coproc LOAD { exec "$target/load" --url "$url" --rate 200 --min-requests 400 >"$report"; }
load=$LOAD_PID
"$ctl" apply -f <(sed -e 's/hello:1/hello:2/' -e 's/value: "1"/value: "2"/' manifests/hello.yaml)
curl --silent --show-error --fail "$url"
"$ctl" rollout undo deployment/hello
"$ctl" rollout status deployment/hello
curl --silent --show-error --fail "$url"
eval "exec ${LOAD[1]}>&-"
wait "$load" || true

count() { sed -nE "s/.*\"$1\":([0-9]+).*/\1/p" "$report"; }
sent=$(count sent) failed=$(count failed) one=$(count 1) two=$(count 2)
rm -f "$report"
echo "$sent requests: $one answered by version 1, $two by version 2, $failed failed requests"
if [ "$failed" != 0 ] || [ "$one" = 0 ] || [ "$two" = 0 ]; then
  echo "the demo expected answers of both versions and 0 failed requests" >&2
  exit 1
fi

cat <<NEXT

== It runs. Try next:
  export KUBECONFIG=$KUBECONFIG
  $ctl get pods -o wide             # or plain kubectl
  $ctl why pod/\$($ctl get pods -l app=hello -o 'jsonpath={.items[0].metadata.name}')
  $ctl scale deployment/hello --replicas=5
  $ctl logs deployment/hello -f
  curl $url
  $ctl apply -f manifests/hello-data.yaml   # a claim that keeps its data
  scripts/demo.sh down              # remove everything
NEXT
