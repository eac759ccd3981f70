#!/usr/bin/env bash
# Plants each bug of docs/mutants.md and runs the harness that must find it. Ends non-zero unless all are found.
#   scripts/mutants.sh [--list] [ID-PREFIX…]   only the bugs whose id begins so
# A row's harness is `PACKAGE TARGET FILTER…`: TARGET is lib, bin or the name of an integration test; FILTER are names
# of tests as libtest takes them. Before any bug is planted every harness must pass as it is.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly TABLE=docs/mutants.md
# A harness that a bug makes hang has noticed it; the slowest that finishes takes a third of this on two busy cores.
readonly PATIENCE_SECS=90

rows() { # id|harness, of all bugs or of those asked for
  sed -nE 's/^\| `([A-Z][0-9]+-[a-z0-9-]+)` \|.*\| `([^`|]+)` \|$/\1|\2/p' "$TABLE" | while IFS='|' read -r id harness; do
    [ $# -eq 0 ] && echo "$id|$harness"
    for prefix in "$@"; do [[ $id == "$prefix"* ]] && echo "$id|$harness"; done
  done || true
}

# Runs one harness with DROVER_MUTANT=$1 (empty: none). 0: passed; 1: failed; 2: it ran no test.
run() {
  local id=$1 package target filters exe
  read -r package target filters <<<"$2"
  exe=$(grep "^$package $target " "$WORK/executables" | cut -d' ' -f3)
  [ -n "$exe" ] || { echo "no test executable for '$package $target'" >"$WORK/$id.log"; return 2; }
  # shellcheck disable=SC2086 # the filters are separate words
  (cd "$package" && DROVER_MUTANT=$id CARGO_MANIFEST_DIR=$PWD timeout "$PATIENCE_SECS" nice "$exe" $filters) >"$WORK/${id:-control-$3}.log" 2>&1 || return 1
  grep -qE '^running [1-9]' "$WORK/${id:-control-$3}.log" || return 2
}

control() {
  local harness=$1 number=$2
  run "" "$harness" "$number" && return 0
  echo "CONTROL FAILED: '$harness' does not pass, or runs nothing, without any bug"
  tail -n 20 "$WORK/control-$number.log"
}

hunt() {
  local id=${1%%|*} harness=${1#*|} started=$SECONDS code=0
  run "$id" "$harness" "" || code=$?
  case $code in
    1) echo "found      $id ($((SECONDS - started)) s) by $harness" ;;
    *) echo "NOT FOUND  $id by $harness" ;;
  esac
}

[ "${1:-}" = --list ] && { rows; exit 0; }

WORK=$(mktemp -d)
export WORK TABLE PATIENCE_SECS
export -f run control hunt
trap 'rm -rf "$WORK"' EXIT
rows "$@" >"$WORK/rows"
[ -s "$WORK/rows" ] || { echo "no such bug in $TABLE"; exit 1; }

packages=$(cut -d'|' -f2 "$WORK/rows" | cut -d' ' -f1 | sort -u)
echo "building the tests with planted bugs: $(echo $packages)"
# shellcheck disable=SC2046 # one flag a package
cargo test --quiet --no-run --features drover-api/mutants --message-format=json -p drover-api \
  $(for package in $packages; do echo "-p drover-$package"; done) >"$WORK/build.json"
grep '"executable":"' "$WORK/build.json" |
  sed -E 's/.*"manifest_path":"([^"]*)\/Cargo.toml".*"target":\{"kind":\["([a-z-]+)"\],.*"name":"([A-Za-z0-9_-]+)","src_path".*"executable":"([^"]*)".*/\1 \2 \3 \4/' |
  while read -r folder kind name exe; do
    [ "$kind" = test ] || name=$kind
    echo "${folder#"$PWD"/} $name $exe"
  done >"$WORK/executables"

started=$SECONDS
cut -d'|' -f2 "$WORK/rows" | sort -u | nl -ba | while read -r number harness; do printf '%s\0%s\0' "$harness" "$number"; done |
  xargs -0 -P 2 -n 2 bash -c 'control "$1" "$2"' control >"$WORK/control"
if [ -s "$WORK/control" ]; then
  cat "$WORK/control"
  exit 1
fi
echo "control: $(cut -d'|' -f2 "$WORK/rows" | sort -u | wc -l) harnesses pass without a bug ($((SECONDS - started)) s)"

tr '\n' '\0' <"$WORK/rows" | xargs -0 -P 2 -n 1 bash -c 'hunt "$1"' hunt | tee "$WORK/found"
total=$(wc -l <"$WORK/rows")
found=$(grep -c '^found' "$WORK/found" || true)
echo "$found of $total planted bugs found in $((SECONDS - started)) s"
[ "$found" = "$total" ]
