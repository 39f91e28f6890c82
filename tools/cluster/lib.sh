# shellcheck shell=bash disable=SC2034  # the scripts that source it use them all
# What the scripts in this folder share: settings, each of which the environment
# can override, and functions.

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# The one folder everything is kept in: programs (bin/), which survive `down`, and
# the state of the running cluster (state/), which does not.
CLUSTER=${MESHMART_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/meshmart}/cluster
BIN=$CLUSTER/bin
STATE=$CLUSTER/state

# Ports on this machine.
APISERVER_PORT=${APISERVER_PORT:-6443}
ETCD_PORT=${ETCD_PORT:-2379}
ETCD_PEER_PORT=${ETCD_PEER_PORT:-2380}
REGISTRY_PORT=${REGISTRY_PORT:-5000}

# Names and addresses inside the cluster.
NODE_NAME=${NODE_NAME:-meshmart}
POD_CIDR=${POD_CIDR:-10.244.0.0/24}
SERVICE_CIDR=${SERVICE_CIDR:-10.96.0.0/16}
APISERVER_SERVICE_IP=${APISERVER_SERVICE_IP:-10.96.0.1}
DNS_SERVICE_IP=${DNS_SERVICE_IP:-10.96.0.10}
BRIDGE=${BRIDGE:-cni0}

KUBECONFIG=$STATE/admin.kubeconfig
CONTAINERD_SOCKET=$STATE/containerd/containerd.sock

log() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*" >&2; }
die() { log "error: $*"; exit 1; }

# help_if ARGUMENT: print the calling script's usage and stop, where it is asked for.
help_if() {
  case ${1:-} in
    -h | -help | --help) usage; exit ;;
    -*) usage >&2; exit 2 ;;
  esac
}

kubectl() { "$BIN/kubectl" --kubeconfig "$KUBECONFIG" "$@"; }
ctr() { command ctr --address "$CONTAINERD_SOCKET" --namespace k8s.io "$@"; }

# wait_until SECONDS WHAT COMMAND...: run COMMAND until it succeeds.
wait_until() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" &>/dev/null; do
    ((SECONDS < deadline)) || die "timed out waiting for $what (logs: $STATE/log)"
    sleep 0.2
  done
}

# --- The processes of the cluster: state/run/NAME.pid holds the process id and
# --- its start time, which together name one process for certain.

# start_time PID: nothing for a process that is dead but not yet buried.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 !~ /[ZX]/ { print $20 }'; }

# running NAME: is the process started under NAME still alive?
running() {
  local pid started
  read -r pid started 2>/dev/null <"$STATE/run/$1.pid" || return 1
  [[ -n $started && $(start_time "$pid") == "$started" ]]
}

# start NAME COMMAND...: run COMMAND in the background unless it already runs.
start() {
  local name=$1 pid
  shift
  if running "$name"; then
    return
  fi
  setsid "$@" >>"$STATE/log/$name.log" 2>&1 </dev/null &
  pid=$!
  echo "$pid $(start_time "$pid")" >"$STATE/run/$name.pid"
}

# stop NAME: end the process started under NAME. What it would write down in its
# last moments is removed right after, so it is given none.
stop() {
  local pid
  if running "$1"; then
    read -r pid _ <"$STATE/run/$1.pid"
    kill -KILL "$pid"
    while running "$1"; do
      sleep 0.05
    done
  fi
  rm -f "$STATE/run/$1.pid"
}

# render FILE: FILE with every @NAME@ replaced by the value of the variable NAME.
render() {
  local text name
  text=$(<"$1")
  while [[ $text =~ @([A-Z_]+)@ ]]; do
    name=${BASH_REMATCH[1]}
    text=${text//"@$name@"/"${!name}"}
  done
  printf '%s\n' "$text"
}

# configure FILE TARGET: render FILE into TARGET, which is not touched where it
# would stay the same: kube-proxy exits when its configuration is written to.
configure() {
  local text
  text=$(render "$1")
  if [[ ! -f $2 || $(<"$2") != "$text" ]]; then
    printf '%s\n' "$text" >"$2"
  fi
}
