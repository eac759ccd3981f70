#!/usr/bin/env bash
# Runs a program on hosts of this machine, each a network name space with a Docker Engine of its own.
#
#   scripts/hosts.sh cluster [N] [--once]     keeps them until Ctrl-C
#   scripts/hosts.sh node_loss [--kills N] [--hosts N]
#   scripts/hosts.sh away [--secs N] [--hosts N]
#   scripts/hosts.sh upheaval [--faults N] [--seed N] [--hosts N]
#   scripts/hosts.sh endpoint_change [--services N] [--few N] [--changes N]
#   scripts/hosts.sh zero_drop [--requests N] [--rolls N] [--hosts N] [--no-swarm]
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/prepare.sh test
if [ "$(id -u)" != 0 ]; then
  echo "hosts are network name spaces with engines of their own: run this as root" >&2
  exit 1
fi
scripts/build-image.sh drover/hello:1
tar -C /bin -c busybox | docker import --change 'ENTRYPOINT ["/busybox"]' - drover/busybox:1 >/dev/null
# The machine's HAProxy with what it needs, for the peer.
libraries=$(ldd "$(command -v haproxy)" | grep -o '/[^ ]*')
# shellcheck disable=SC2086 # a list of paths
tar -C / -ch "$(command -v haproxy | cut -c2-)" $(printf '%s\n' $libraries | cut -c2-) 2>/dev/null |
  docker import --change "ENTRYPOINT [\"$(command -v haproxy)\"]" - drover/haproxy:1 >/dev/null
cargo build --quiet --release --workspace --bins
program=$1
shift
bin=${CARGO_TARGET_DIR:-target}/release
DROVER_BIN_DIR=$bin exec "$bin/$program" "$@"
