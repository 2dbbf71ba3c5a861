#!/usr/bin/env bash
# Installs what Shardwise needs and says what it does; when nothing is missing it takes milliseconds.
#
#   scripts/setup.sh [build|test|dev]     each includes the ones before it; default build
#
# Debian packages by apt-get, as root or by password-free sudo; Python wheels, pinned in
# scripts/requirements.txt, into .venv of the checkout. Where it may not install, it prints the
# command to run and ends with 2. SHARDWISE_SKIP_SETUP=1 trusts that everything is there.
set -euo pipefail
cd "$(dirname "$0")/.."

level=${1:-build}
case $level in
  build) sections="build" ;;
  test) sections="build test" ;;
  dev) sections="build test dev" ;;
  *) echo "setup: unknown level '$level'; known: build, test, dev" >&2; exit 2 ;;
esac
if [ "${SHARDWISE_SKIP_SETUP:-0}" = 1 ]; then exit 0; fi

stamp=.venv/.shardwise-setup-$level
inputs=$(cat scripts/setup.sh scripts/requirements.txt scripts/debian_packages.txt | sha256sum | cut -c1-16)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$inputs" ]; then exit 0; fi

say() { echo "setup: $*"; }

# Two set-ups of one checkout at once would write the same files.
mkdir -p .venv
exec 9> .venv/.setup-lock
flock 9 2> /dev/null || true

install_debian_packages() {
  local missing=() name section mark
  if ! command -v dpkg-query > /dev/null; then
    say "this is not a Debian system. Install the counterparts of the packages in"
    say "scripts/debian_packages.txt by hand, then run again with SHARDWISE_SKIP_SETUP=1"
    say "after: python3 -m venv .venv && .venv/bin/pip install -r scripts/requirements.txt"
    exit 2
  fi
  while read -r section name mark; do
    case " $sections " in *" $section "*) ;; *) continue ;; esac
    if [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2> /dev/null)" = installed ]; then continue; fi
    missing+=("$name$mark")
  done < <(grep -v '^#' scripts/debian_packages.txt)
  if [ ${#missing[@]} = 0 ]; then return; fi

  local root=()
  if [ "$(id -u)" != 0 ]; then
    if ! sudo -n true 2> /dev/null; then
      local needed=()
      for name in "${missing[@]}"; do
        if [[ $name == *\? ]]; then say "left out, not installed: ${name%\?}"; else needed+=("$name"); fi
      done
      if [ ${#needed[@]} = 0 ]; then return; fi
      say "missing Debian packages, and no right to install them. Run:"
      say "  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${needed[*]}"
      say "then run again"
      exit 2
    fi
    root=(sudo -n)
  fi
  say "installing Debian packages: ${missing[*]%\?}"
  "${root[@]}" apt-get update -qq
  local wanted=()
  for name in "${missing[@]}"; do
    if [[ $name == *\? ]] && [ -z "$(apt-cache madison "${name%\?}" 2> /dev/null)" ]; then
      say "left out, not in this distribution: ${name%\?}"
      continue
    fi
    wanted+=("${name%\?}")
  done
  if [ ${#wanted[@]} = 0 ]; then return; fi
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${wanted[@]}" > /dev/null
}

install_wheels() {
  local version
  version=$(sed -n 's/^torch==//p' scripts/requirements.txt)
  if [ ! -x .venv/bin/python ] || ! .venv/bin/python -m pip --version > /dev/null 2>&1; then
    local options=()
    # An installed torch of the right version is worth gigabytes: let .venv see it.
    if python3 -c "import importlib.metadata as m; exit(m.version('torch').split('+')[0] != '$version')" \
      2> /dev/null; then
      say "taking the installed torch $version"
      options=(--system-site-packages)
    fi
    say "creating .venv with $(python3 --version)"
    if ! python3 -m venv "${options[@]}" .venv > /dev/null 2>&1 && ! /usr/bin/python3 -m venv "${options[@]}" .venv; then
      say "python3 cannot create a virtual environment: install python3-venv"
      exit 2
    fi
  fi
  if ! .venv/bin/python -c "import importlib.metadata as m; exit(m.version('torch').split('+')[0] != '$version')" \
    2> /dev/null; then
    say "installing torch $version; where only the CUDA build is offered this fetches gigabytes"
  fi
  say "installing pinned wheels into .venv: $(grep -v '^#' scripts/requirements.txt | paste -sd ' ')"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -r scripts/requirements.txt
}

install_debian_packages
install_wheels
echo "$inputs" > "$stamp"
say "done"
