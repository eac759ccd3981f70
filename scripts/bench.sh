#!/usr/bin/env bash
# Measures `drover up` beside a direct API client on the local Docker Engine; docs/benchmarks.md says what and why.
#
#   scripts/bench.sh [--replicas N] [--repeat N] [--sweep 1,2,4,…] [--peer-only] …
#
# DROVER_BIN_DIR=DIR takes drover, drover-runc and bench from there instead of building them for release.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/prepare.sh demo

if [ -z "${DROVER_BIN_DIR:-}" ]; then
  cargo build --quiet --release -p drover -p drover-runc -p drover-tests --bin drover --bin drover-runc --bin bench
  export DROVER_BIN_DIR=${CARGO_TARGET_DIR:-target}/release
fi

# A tag of its own, so that the images of the demo and the tests stay what they are.
image=drover/hello:bench
trap 'docker image rm "$image" >/dev/null || true' EXIT
scripts/build-image.sh "$image" >&2
"$DROVER_BIN_DIR/bench" --image "$image" "$@"
