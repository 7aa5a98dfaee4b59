#!/usr/bin/env bash
# Fuzzes each target for so many seconds: scripts/fuzz.sh SECONDS [TARGET…]; without targets, all of them. JOBS=2 fuzzes
# two at a time.
#
# It needs a nightly toolchain (rustup toolchain install nightly) and a C++ compiler, and installs cargo-fuzz into
# .tools/ if there is none. What the fuzzer learns stays in fuzz/corpus, findings in fuzz/artifacts; neither is part of
# the repository. One line per target says what came of it; the exit code says whether anything was found.
set -euo pipefail
cd "$(dirname "$0")/.."

export PATH=$PWD/.tools/cargo/bin:$PATH
export programs=fuzz/target/x86_64-unknown-linux-gnu/release
export seconds=${1:?how many seconds for each target}
shift
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for program in fuzz/fuzz_targets/*.rs; do targets+=("$(basename "$program" .rs)"); done
fi

cargo +nightly --version >/dev/null || { echo "fuzz: no nightly toolchain: rustup toolchain install nightly" >&2; exit 1; }
command -v cargo-fuzz >/dev/null || cargo install --quiet --locked --root .tools/cargo cargo-fuzz@0.13.2
mkdir -p fuzz/artifacts

# All at once: the library is the work, and it is the same for all. One unit of code would keep one core busy.
only=()
if [ ${#targets[@]} -eq 1 ]; then only=("${targets[0]}"); fi
log=fuzz/artifacts/build.log
CARGO_TARGET_DIR=$PWD/fuzz/target cargo +nightly fuzz build --codegen-units 16 "${only[@]}" 2>"$log" || { cat "$log" >&2; exit 1; }

one() {
  set -euo pipefail
  local target=$1 corpus=fuzz/corpus/$1 log=fuzz/artifacts/$1.log outcome=nothing found=0
  mkdir -p "$corpus" "fuzz/artifacts/$target"
  # Five seconds are long for an input of this size, and a gigabyte is what no input may need.
  ASAN_OPTIONS=detect_odr_violation=0 "$programs/$target" -artifact_prefix="fuzz/artifacts/$target/" \
    -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -malloc_limit_mb=512 -max_len=16384 \
    -print_final_stats=1 -verbosity=1 "$corpus" "fuzz/seeds/$target" >"$log" 2>&1 \
    || { outcome="A FINDING, see $log" && found=1; }
  local runs covered
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -1)
  covered=$(grep -oE 'cov: [0-9]+' "$log" | tail -1 | cut -d ' ' -f 2 || true)
  printf '%-26s %12s runs %6s s %8s edges  %s\n' "$target" "${runs:-?}" "$seconds" "${covered:-?}" "$outcome"
  return $found
}
export -f one
printf '%s\n' "${targets[@]}" | xargs -P "${JOBS:-1}" -I{} bash -c 'one {}'
