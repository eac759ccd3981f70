#!/usr/bin/env bash
# Sees to what a build, the demo or the tests need: installs what is missing when root on an apt system, and says
# exactly what to install otherwise. Starts the Docker Engine when it is installed and not running.
#
#   scripts/prepare.sh build|demo|test
set -euo pipefail

purpose=${1:?say what for: build, demo or test}

# command or file that must be there : Debian package that brings it
build=("cc:build-essential" "protoc:protobuf-compiler" "/usr/include/google/protobuf/descriptor.proto:libprotobuf-dev")
demo=("${build[@]}" "dockerd:docker.io" "nft:nftables" "iptables:iptables" "conntrack:conntrack" "curl:curl")
test=("${demo[@]}" "haproxy:haproxy" "etcd:etcd-server" "git:git" "strace:strace" "/bin/busybox:busybox-static")
declare -n wanted=$purpose

missing=()
for want in "${wanted[@]}"; do
  command -v "${want%%:*}" >/dev/null 2>&1 || [ -e "${want%%:*}" ] || missing+=("${want##*:}")
done
if [ "$purpose" != build ] && ! command -v docker >/dev/null 2>&1; then
  missing+=("docker-cli" )
fi
if [ "$purpose" = test ] && ! command -v kubectl >/dev/null 2>&1; then
  missing+=("kubernetes-client")
fi

if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing: ${missing[*]}"
    apt-get update -qq
    for package in "${missing[@]}"; do
      # docker-cli is a package of its own only in newer releases; docker.io brings the client elsewhere.
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null ||
        [ "$package" = docker-cli ]
    done
  else
    echo "Please install these first (Debian's names): ${missing[*]}" >&2
    echo "  sudo apt-get install ${missing[*]}" >&2
    exit 1
  fi
fi

if ! command -v cargo >/dev/null 2>&1; then
  echo "Please install Rust 1.95 or newer first: https://rustup.rs" >&2
  exit 1
fi

[ "$purpose" = build ] && exit 0

if [ "$(id -u)" != 0 ]; then
  echo "Drover's node agent makes network namespaces and talks to the Docker Engine: run this as root (sudo make $purpose)." >&2
  [ "$purpose" = test ] && exit 0
  exit 1
fi

if ! docker version >/dev/null 2>&1; then
  echo "starting the Docker Engine"
  if [ -d /run/systemd/system ]; then
    systemctl start docker
  else
    # No service manager: run the engine ourselves, detached, as its package would.
    setsid dockerd >/var/log/dockerd.log 2>&1 </dev/null &
  fi
  for _ in $(seq 60); do
    docker version >/dev/null 2>&1 && break
    sleep 0.5
  done
  if ! docker version >/dev/null 2>&1; then
    echo "The Docker Engine does not answer on /var/run/docker.sock. Start it (dockerd, or systemctl start docker) and try again." >&2
    exit 1
  fi
fi
