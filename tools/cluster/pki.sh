# shellcheck shell=bash
# Certificates, keys and kubeconfig files of the cluster, all made afresh by
# every `up` from nothing. Sourced by `up`, after lib.sh.

PKI=$STATE/pki

# openssl_req ARGUMENTS...: openssl req with no defaults from the machine's own
# configuration, which would add extensions of its own.
openssl_req() {
  openssl req -config <(printf '[req]\ndistinguished_name = dn\n[dn]\n') \
    -x509 -days 3650 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 "$@" 2>>"$STATE/log/openssl.log"
}

# authority NAME: a certificate authority.
authority() {
  openssl_req -keyout "$PKI/$1.key" -out "$PKI/$1.crt" -subj "/CN=$1" \
    -addext basicConstraints=critical,CA:TRUE \
    -addext keyUsage=critical,digitalSignature,keyCertSign
}

# certificate NAME AUTHORITY SUBJECT [ALTERNATIVE_NAMES]: a certificate for
# clients, and for servers too where alternative names are given.
certificate() {
  local usage=clientAuth extra=()
  if [[ -n ${4:-} ]]; then
    usage+=,serverAuth
    extra=(-addext "subjectAltName=$4")
  fi
  openssl_req -CA "$PKI/$2.crt" -CAkey "$PKI/$2.key" -keyout "$PKI/$1.key" -out "$PKI/$1.crt" -subj "$3" \
    -addext basicConstraints=critical,CA:FALSE \
    -addext keyUsage=critical,digitalSignature \
    -addext "extendedKeyUsage=$usage" "${extra[@]}"
}

# kubeconfig NAME FILE: a self-contained kubeconfig for the certificate NAME.
kubeconfig() {
  cat >"$2" <<YAML
apiVersion: v1
kind: Config
clusters:
  - name: meshmart
    cluster:
      server: https://127.0.0.1:$APISERVER_PORT
      certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")
users:
  - name: $1
    user:
      client-certificate-data: $(base64 -w0 "$PKI/$1.crt")
      client-key-data: $(base64 -w0 "$PKI/$1.key")
contexts:
  - name: meshmart
    context: {cluster: meshmart, user: $1}
current-context: meshmart
YAML
}

make_pki() {
  local name services=DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local
  mkdir -p "$PKI"
  authority ca
  authority front-proxy-ca
  certificate apiserver ca /CN=kube-apiserver "$services,DNS:localhost,IP:127.0.0.1,IP:$NODE_IP,IP:$APISERVER_SERVICE_IP"
  certificate apiserver-kubelet-client ca /O=system:masters/CN=kube-apiserver-kubelet-client
  certificate front-proxy-client front-proxy-ca /CN=front-proxy-client
  certificate kubelet-server ca "/O=system:nodes/CN=system:node:$NODE_NAME" "DNS:$NODE_NAME,DNS:localhost,IP:127.0.0.1,IP:$NODE_IP"
  openssl genrsa -out "$PKI/service-account.key" 2048 2>>"$STATE/log/openssl.log"
  openssl rsa -in "$PKI/service-account.key" -pubout -out "$PKI/service-account.pub" 2>>"$STATE/log/openssl.log"

  certificate admin ca /O=system:masters/CN=admin
  certificate kubelet ca "/O=system:nodes/CN=system:node:$NODE_NAME"
  certificate kube-controller-manager ca /CN=system:kube-controller-manager
  certificate kube-scheduler ca /CN=system:kube-scheduler
  certificate kube-proxy ca /CN=system:kube-proxy
  for name in admin kubelet kube-controller-manager kube-scheduler kube-proxy; do
    kubeconfig "$name" "$STATE/$name.kubeconfig"
  done
}
