#!/usr/bin/env bash
# Measures the control plane on hollow nodes, on both stores; docs/benchmarks.md says what and why.
#
#   scripts/bench-hollow.sh [--replicas N] [--nodes N] [--repeat N] [--store embedded|etcd|both] [--no-tokens] [--service]
#
# DROVER_BIN_DIR=DIR takes drover and bench_hollow from there instead of building them for release.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/prepare.sh build

if [ -z "${DROVER_BIN_DIR:-}" ]; then
  cargo build --quiet --release -p drover -p drover-tests --bin drover --bin bench_hollow
  export DROVER_BIN_DIR=${CARGO_TARGET_DIR:-target}/release
fi

"$DROVER_BIN_DIR/bench_hollow" "$@"
