#!/usr/bin/env bash
# The long form of the test of high availability: so many faults, each during a roll; prints the write gap of each.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/prepare.sh test
[ "$(id -u)" = 0 ] && docker version >/dev/null 2>&1 || { echo "needs root and a Docker Engine"; exit 1; }
scripts/build-image.sh drover/hello:1
cargo build --workspace --bins
DROVER_TEST_ENGINE=1 DROVER_HA_KILLS=${1:-20} cargo test --workspace --test ha -- --nocapture --test-threads=1 rolls_survive
