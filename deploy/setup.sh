#!/usr/bin/env bash
# Installs what building (`setup.sh build`) or building and testing (`setup.sh test`) needs on a
# Debian 12 machine that has a Rust toolchain. Does nothing, and needs no root, where all is there.
set -euo pipefail

level=${1:-build}
case "$level" in
build | test) ;;
*)
    echo "usage: $0 build|test" >&2
    exit 2
    ;;
esac

say() { echo "setup: $*" >&2; }
fail() {
    echo "setup: error: $*" >&2
    exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

# cargo is often on the path of login shells only.
if ! has cargo && [ -x "$HOME/.cargo/bin/cargo" ]; then
    export PATH="$HOME/.cargo/bin:$PATH"
fi
has cargo || fail "no Rust toolchain: install one (https://rustup.rs), then run this again"

# bindgen loads libclang at build time; a compiler alone is not enough.
has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] || compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null ||
        compgen -G '/usr/lib/*-linux-gnu/libclang*.so*' >/dev/null
}

# Debian packages that are missing, and why each is wanted.
packages=()
want() { # PACKAGE REASON PROBE...
    local package=$1 reason=$2
    shift 2
    if ! "$@" >/dev/null 2>&1; then
        packages+=("$package")
        say "missing: $package ($reason)"
    fi
}

want g++ "compiles RocksDB" has g++
want clang "reads RocksDB's header files" has clang
want libclang-dev "reads RocksDB's header files" has_libclang
want mold "links in a fraction of GNU ld's time" has mold
want make "runs the Makefile" has make
want pkg-config "finds system libraries" has pkg-config
want git "stamps the commit into the binary" has git
if [ "$level" = test ]; then
    want etcd-client "etcdctl, which the tests run against the store" has etcdctl
    want etcd-server "etcd, the reference that the contract suite compares with" has etcd
    want kubernetes-client "kubectl, which the tests run against the API" has kubectl
    want iproute2 "network namespaces for partition tests" has ip
    want nftables "packet filters for partition tests" has nft
    want e2fsprogs "file systems for power cuts" has mkfs.ext4
    want procps "finds and measures processes" has ps
fi

# Debian starts a service as soon as its package is installed. The tests want etcd's binary only,
# and a service on ports 2379 and 2380 would be in the way of everything.
policy=/usr/sbin/policy-rc.d
install_packages() {
    local own_policy=no
    if [ ! -e "$policy" ]; then
        own_policy=yes
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\n# Written by the set-up of Trireme for the time of one installation.\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "$@"
    if [ "$own_policy" = yes ]; then
        rm -f "$policy"
        trap - EXIT
    fi
    case " $* " in
    *" etcd-server "*)
        if [ -d /run/systemd/system ]; then
            systemctl disable --now etcd >/dev/null 2>&1 || true
        fi
        ;;
    esac
}

if [ ${#packages[@]} -gt 0 ]; then
    list="${packages[*]}"
    has apt-get || fail "this machine has no apt-get; install what stands for these Debian packages: $list"
    [ "$(id -u)" = 0 ] || fail "installing needs root. As root, run:  apt-get update && apt-get install -y $list"
    say "installing with apt-get: $list"
    install_packages "${packages[@]}" >&2
fi

if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
    has rustup || fail "cargo fmt and cargo clippy are missing; install these components of your Rust toolchain"
    say "installing rustfmt and clippy with rustup"
    rustup component add rustfmt clippy >&2
fi

if [ "$level" = test ] && ! cargo nextest --version >/dev/null 2>&1; then
    say "installing cargo-nextest with cargo (this takes some minutes)"
    # From / so that this repository's build settings do not apply to it.
    (cd / && env -u CARGO_TARGET_DIR cargo install cargo-nextest --locked) >&2 ||
        fail "cargo-nextest could not be installed: see above, or put a binary release of it on the path"
fi
