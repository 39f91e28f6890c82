# shellcheck shell=bash disable=SC2034  # manifests use the names
# Images made on this machine from single programs, without dockerd and without
# a registry. Sourced by `up` and `load`, after lib.sh.

PAUSE_IMAGE=localhost/pause:1
COREDNS_IMAGE=localhost/coredns:1
PROVISIONER_IMAGE=localhost/local-path-provisioner:1
BUSYBOX_IMAGE=docker.io/library/busybox:1.35

# image NAME ROOT RUN: write the folder ROOT as an image of one layer, in the
# format of `docker save`, to standard output. RUN, JSON of its configuration
# such as an Entrypoint or a Cmd, says what a container of it runs.
image() {
  local name=$1 root=$2 run=$3 work digest
  work=$(mktemp -d)
  chmod 755 "$root"
  tar --create --file="$work/layer.tar" --directory="$root" --owner=0 --group=0 --numeric-owner --mtime=@0 --sort=name .
  digest=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
  cat >"$work/config.json" <<JSON
{
  "architecture": "$(dpkg --print-architecture)", "os": "linux",
  "config": {$run, "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
  "rootfs": {"type": "layers", "diff_ids": ["sha256:$digest"]}
}
JSON
  echo "[{\"Config\": \"config.json\", \"RepoTags\": [\"$name\"], \"Layers\": [\"layer.tar\"]}]" >"$work/manifest.json"
  tar --create --directory="$work" manifest.json config.json layer.tar
  rm -rf "$work"
}

# program_image NAME PROGRAM: import an image that holds PROGRAM alone, in /.
program_image() {
  local root
  root=$(mktemp -d)
  cp "$2" "$root/"
  image "$1" "$root" "\"Entrypoint\": [\"/$(basename "$2")\"]" | ctr images import - >>"$STATE/log/images.log"
  rm -rf "$root"
}

# busybox_image: import an image with a shell, from Debian's busybox-static.
busybox_image() {
  local root applet
  root=$(mktemp -d)
  mkdir -p "$root"/{bin,etc,root,tmp,var/tmp}
  chmod 1777 "$root"/tmp "$root"/var/tmp
  cp /bin/busybox "$root/bin/"
  for applet in $(/bin/busybox --list); do
    [[ $applet == busybox ]] || ln -s busybox "$root/bin/$applet"
  done
  echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
  echo 'root:x:0:' >"$root/etc/group"
  image "$BUSYBOX_IMAGE" "$root" '"Cmd": ["/bin/sh"]' | ctr images import - >>"$STATE/log/images.log"
  rm -rf "$root"
}

# grafana_page NAME: import an image that answers where Grafana does.
grafana_page() {
  local root
  root=$(mktemp -d)
  mkdir -p "$root"/{bin,www/api}
  cp /bin/busybox "$root/bin/"
  echo ok >"$root/www/api/health"
  echo 'Grafana is not here: its image can be had from its own registry only.' >"$root/www/index.html"
  image "$1" "$root" '"Entrypoint": ["/bin/busybox", "httpd", "-f", "-p", "3000", "-h", "/www"]' |
    ctr images import - >>"$STATE/log/images.log"
  rm -rf "$root"
}

# static_image NAME: push what a static program needs besides itself, as distroless
# has it: users, a /tmp, and the authorities of the public web.
static_image() {
  local root archive
  root=$(mktemp -d) archive=$(mktemp)
  mkdir -p "$root"/{etc/ssl/certs,tmp,home/nonroot}
  chmod 1777 "$root/tmp"
  printf '%s\n' 'root:x:0:0:root:/root:/sbin/nologin' 'nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin' >"$root/etc/passwd"
  printf '%s\n' 'root:x:0:' 'nonroot:x:65532:' >"$root/etc/group"
  [[ ! -f /etc/ssl/certs/ca-certificates.crt ]] || cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
  image "$1" "$root" '"User": "65532"' >"$archive"
  "$BIN/crane" push "$archive" "$1" &>>"$STATE/log/images.log"
  rm -rf "$root" "$archive"
}
