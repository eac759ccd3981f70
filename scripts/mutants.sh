#!/usr/bin/env bash
# Plants each bug of docs/mutants.md and runs the harness that must find it. Ends non-zero unless all are found.
#   scripts/mutants.sh [--list] [ID-PREFIX…]   only the bugs whose id begins so
# A row's harness is `PACKAGE TARGET FILTER…`: TARGET is lib, bin or the name of an integration test; FILTER are names
# of tests as libtest takes them. Before any bug is planted every harness must pass as it is.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly TABLE=docs/mutants.md
# A harness has this long to pass without a bug. With one it has as long as it took, several times over: then the bug
# makes it hang, which is noticing it too.
readonly PATIENCE_SECS=300

rows() { # id|harness, of all bugs or of those asked for
  sed -nE 's/^\| `([A-Z][0-9]+-[a-z0-9-]+)` \|.*\| `([^`|]+)` \|$/\1|\2/p' "$TABLE" | while IFS='|' read -r id harness; do
    [ $# -eq 0 ] && echo "$id|$harness"
    for prefix in "$@"; do [[ $id == "$prefix"* ]] && echo "$id|$harness"; done
  done || true
}

# Runs harness $2 with DROVER_MUTANT=$1 (empty: none), its output to $3, for at most $4 seconds.
# 0: passed; 1: failed; 2: it ran no test; 124: it hung.
run() {
  local id=$1 package target filters exe code=0
  read -r package target filters <<<"$2"
  exe=$(grep "^$package $target " "$WORK/executables" | cut -d' ' -f3)
  [ -n "$exe" ] || { echo "no test executable for '$package $target'" >"$3"; return 2; }
  # shellcheck disable=SC2086 # the filters are separate words
  (cd "$package" && DROVER_MUTANT=$id CARGO_MANIFEST_DIR=$PWD timeout "$4" "$exe" $filters) >"$3" 2>&1 || code=$?
  [ $code = 0 ] && { grep -qE '^running [1-9]' "$3" || code=2; }
  [ $code = 0 ] || [ $code = 2 ] || [ $code = 124 ] || code=1
  return $code
}

control() {
  local harness=$1 number=$2 started=$SECONDS
  if run "" "$harness" "$WORK/control-$number.log" "$PATIENCE_SECS"; then
    echo "$((SECONDS - started))|$harness" >>"$WORK/times"
    return 0
  fi
  echo "CONTROL FAILED: '$harness' does not pass, or runs nothing, without any bug"
  tail -n 20 "$WORK/control-$number.log"
}

hunt() {
  local id=${1%%|*} harness=${1#*|} started=$SECONDS code=0 took
  took=$(grep -F "|$harness" "$WORK/times" | head -n 1 | cut -d'|' -f1)
  run "$id" "$harness" "$WORK/$id.log" $((30 + 4 * took)) || code=$?
  case $code in
    1) echo "found      $id ($((SECONDS - started)) s) by $harness" ;;
    124) echo "found      $id (hangs for $((SECONDS - started)) s) by $harness" ;;
    *) echo "NOT FOUND  $id by $harness" ;;
  esac
}

[ "${1:-}" = --list ] && { rows; exit 0; }

WORK=$(mktemp -d)
export WORK TABLE PATIENCE_SECS
# What a planted bug fails with is no regression to keep.
export PROPTEST_DISABLE_FAILURE_PERSISTENCE=1
export -f run control hunt
trap 'rm -rf "$WORK"' EXIT
rows "$@" >"$WORK/rows"
[ -s "$WORK/rows" ] || { echo "no such bug in $TABLE"; exit 1; }

echo "building the tests with planted bugs"
# The whole workspace: any smaller choice of packages would compile most dependencies once more.
cargo test --quiet --no-run --workspace --features drover-api/mutants --message-format=json >"$WORK/build.json"
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
