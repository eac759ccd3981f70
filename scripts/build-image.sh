#!/usr/bin/env bash
# Builds the sample application as one static binary and imports it into the local engine: no registry is needed.
#
#   scripts/build-image.sh NAME:TAG…      every tag is the same image
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --release --package drover-hello --target "$host"
binary=${CARGO_TARGET_DIR:-target}/$host/release/hello

for image in "$@"; do
  tar -C "$(dirname "$binary")" -c hello |
    docker import --change 'ENTRYPOINT ["/hello"]' --change 'EXPOSE 8080' - "$image" >/dev/null
  echo "image $image"
done
