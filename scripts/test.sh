#!/usr/bin/env bash
# Runs everything that can run on this machine. What is skipped is said, in the last lines too.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/prepare.sh test

skipped=()
export DROVER_TEST_ENGINE=0
if [ "$(id -u)" = 0 ] && docker version >/dev/null 2>&1; then
  export DROVER_TEST_ENGINE=1
  scripts/build-image.sh drover/hello:1 drover/hello:2
  tar -C /bin -c busybox | docker import --change 'ENTRYPOINT ["/busybox"]' - drover/busybox:1 >/dev/null
else
  skipped+=("everything that needs root and a Docker Engine: end-to-end, engine conformance, network")
fi

cargo fmt --all --check
cargo build --workspace --bins
if cargo nextest --version >/dev/null 2>&1; then
  cargo nextest run --workspace
else
  cargo test --workspace --quiet -- --test-threads=1
fi

if [ ${#skipped[@]} -gt 0 ]; then
  printf 'SKIPPED: %s\n' "${skipped[@]}"
else
  echo "skipped: nothing"
fi
