#!/usr/bin/env bash
# Fuzzes each target for so many seconds: scripts/fuzz.sh SECONDS [TARGET…]; without targets, all of them.
#
# It needs a nightly toolchain (rustup toolchain install nightly) and a C++ compiler, and installs cargo-fuzz into
# .tools/ if there is none. What the fuzzer learns stays in fuzz/corpus, findings in fuzz/artifacts; neither is part of
# the repository. One line per target says what came of it; the exit code says whether anything was found.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:?how many seconds for each target}
shift
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for program in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$program" .rs)"); done
fi

export PATH=$PWD/.tools/cargo/bin:$PATH
cargo +nightly --version >/dev/null || { echo "fuzz: no nightly toolchain: rustup toolchain install nightly" >&2; exit 1; }
command -v cargo-fuzz >/dev/null || cargo install --quiet --locked --root .tools/cargo cargo-fuzz@0.13.2

found=0
for target in "${targets[@]}"; do
  corpus=fuzz/corpus/$target log=fuzz/artifacts/$target.log
  mkdir -p "$corpus" fuzz/artifacts
  cargo +nightly fuzz build --quiet "$target" 2>"$log" || { cat "$log" >&2; exit 1; }
  outcome=nothing
  # Five seconds are long for an input of this size, and a gigabyte is what no input may need.
  cargo +nightly fuzz run "$target" "$corpus" "fuzz/seeds/$target" -- \
    -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -malloc_limit_mb=512 -max_len=16384 \
    -print_final_stats=1 -verbosity=1 >"$log" 2>&1 || { outcome="A FINDING, see $log" && found=1; }
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -1)
  covered=$(grep -oE 'cov: [0-9]+' "$log" | tail -1 | cut -d ' ' -f 2)
  printf '%-26s %12s runs %8s edges  %s\n' "$target" "${runs:-?}" "${covered:-?}" "$outcome"
done
exit $found
