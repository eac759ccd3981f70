#!/usr/bin/env bash
# Hosts that die, on this machine: how long it takes to notice and to replace them.
#
#   scripts/node-loss.sh [KILLS] [HOSTS]
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/prepare.sh test
[ "$(id -u)" = 0 ] && docker version >/dev/null 2>&1 || { echo "needs root and a Docker Engine"; exit 1; }
scripts/build-image.sh drover/hello:1
tar -C /bin -c busybox | docker import --change 'ENTRYPOINT ["/busybox"]' - drover/busybox:1 >/dev/null
cargo build --quiet --release --workspace --bins
bin=${CARGO_TARGET_DIR:-target}/release
DROVER_BIN_DIR=$bin exec "$bin/node_loss" --kills "${1:-50}" --hosts "${2:-3}"
