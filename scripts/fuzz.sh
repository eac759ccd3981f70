#!/usr/bin/env bash
# Fuzzes every parser for TIME seconds each (or TARGET alone) and fails on the first crash. The flags are those of
# cargo-fuzz without a sanitizer: code coverage for libFuzzer, which a stable compiler can do; what is not ours to check
# with a sanitizer is `unsafe`, which the workspace forbids.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
time_secs=${TIME:-60}
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
host=$(rustc -vV | sed -n 's/^host: //p')
# shellcheck disable=SC2086 # FEATURES holds whole flags: `--no-default-features` builds the parsers of `api` alone.
cargo build --release --quiet --target "$host" ${FEATURES:-}
binary=target/$host/release/parsers
# Every target has seeds, so the folders are the list.
targets=${TARGET:-$(ls corpus)}
failed=()
for target in $targets; do
    mkdir -p "corpus/$target" "found/$target" "artifacts/$target"
    # New inputs go to found/ (not committed); corpus/ holds the small committed seeds.
    if DROVER_FUZZ_TARGET=$target "$binary" "found/$target" "corpus/$target" -max_total_time="$time_secs" -timeout=5 \
        -rss_limit_mb=1024 -max_len=65536 -artifact_prefix="artifacts/$target/" -print_final_stats=1 \
        >"artifacts/$target.log" 2>&1; then
        echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "artifacts/$target.log") runs, no crash"
    else
        failed+=("$target")
        echo "$target: CRASH, see fuzz/artifacts/$target.log"
        tail -n 15 "artifacts/$target.log"
    fi
done
[ ${#failed[@]} -eq 0 ] || { echo "crashes in: ${failed[*]}"; exit 1; }
