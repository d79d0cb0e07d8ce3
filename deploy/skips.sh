#!/usr/bin/env bash
# Prints the nextest filter that leaves out the tests this machine cannot run, and says on stderr
# what it leaves out and why; nextest counts them as skipped.
#
# A test (or its module) that needs more than every build machine has carries it in its name:
# `needs_root`, `needs_netns`, `needs_loops`, `needs_etcdctl`, `needs_etcd_server`,
# `needs_kubectl`.
set -euo pipefail

filter="all()"
skip() { # NAME REASON PROBE...
    local name=$1 reason=$2
    shift 2
    if ! "$@" >/dev/null 2>&1; then
        echo "skipping tests named $name: $reason" >&2
        filter="$filter - test(/(^|::|_)$name/)"
    fi
}

new_kubectl() { kubectl version --client -o json | grep -Eq '"minor": *"(3[0-9]|[4-9][0-9])'; }
loops() { unshare --mount true && losetup --find && command -v mkfs.ext4; }

skip needs_root "they must run as root" test "$(id -u)" = 0
skip needs_netns "this machine lets them create no network, process and mount namespaces" \
    unshare --net --pid --mount --fork --mount-proc true
skip needs_loops "this machine has no loop devices to mount file systems with" loops
skip needs_etcdctl "etcdctl is missing (apt-get install etcd-client)" command -v etcdctl
skip needs_etcd_server "etcd is missing (apt-get install etcd-server)" command -v etcd
skip needs_kubectl "kubectl 1.30 or newer is missing (Debian's kubernetes-client is older)" new_kubectl

echo "$filter"
