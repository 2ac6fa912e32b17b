# Sourced by scripts/femtoclaw, scripts/test and scripts/bench: finds Python, makes .venv on first use, keeps it current.
# Sets ROOT and PYTHON; seals what it made. Everything it does is said on standard error.

ROOT=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
VENV="$ROOT/.venv"
PYTHON="$VENV/bin/python"

say() { printf 'femtoclaw: %s\n' "$*" >&2; }

fail() {
  say "$1"
  printf '  next      %s\n  exit code 2\n' "$2" >&2
  exit 2
}

find_python() {
  local name
  for name in "${FEMTOCLAW_PYTHON:-}" python3 python3.13 python3.12 python3.11 python3.14; do
    [ -n "$name" ] && command -v "$name" >/dev/null 2>&1 || continue
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$name"
      return
    fi
  done
  fail "no Python 3.11 or newer was found" "install one, or name it: FEMTOCLAW_PYTHON=/path/to/python3 $0"
}

# stamp LOCK...: what the environment must have been made from.
stamp() { cat "$ROOT/pyproject.toml" "$@" | cksum; }

# ensure_environment STAMP_NAME LOCK...: installs the locked packages unless that was done for these very files.
ensure_environment() {
  local name=$1
  shift
  local want
  want=$(stamp "$@")
  [ -x "$PYTHON" ] && [ "$(cat "$VENV/.$name" 2>/dev/null)" = "$want" ] && return
  exec 9>"$ROOT/.venv.lock"
  flock 9 2>/dev/null || true
  if [ ! -x "$PYTHON" ] || [ "$(cat "$VENV/.$name" 2>/dev/null)" != "$want" ]; then
    make_environment "$name" "$want" "$@"
  fi
  exec 9>&-
}

make_environment() {
  local name=$1 want=$2 base lock
  local PATH=${INSTALL_PATH:-$PATH} # where Python and what builds packages are found
  shift 2
  if [ ! -x "$PYTHON" ]; then
    base=$(find_python) || exit 2
    say "first use: making a virtual environment in .venv with $base"
    "$base" -m venv "$VENV" >&2 || fail "the virtual environment could not be made" "install Python's venv module (Debian: python3-venv)"
  fi
  for lock in "$@"; do
    say "installing the packages of $(basename "$lock")"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --requirement "$lock" >&2 ||
      fail "packages could not be installed" "check the network and the package index that pip uses, then run it again"
  done
  "$PYTHON" -c 'import sys, sysconfig; open(sysconfig.get_path("purelib") + "/femtoclaw-checkout.pth", "w").write(sys.argv[1] + "\n")' "$ROOT"
  PYTHONDONTWRITEBYTECODE= "$PYTHON" -m compileall -q "$ROOT/wal" "$ROOT/cluster" "$ROOT/femtoclaw" >&2 || true
  printf '%s' "$want" >"$VENV/.$name"
}

# seal: writes the manifest that the launcher compares every file with (docs/boot.md). Does nothing when all are as sealed.
seal() {
  "$PYTHON" -I -S -c "import sys; sys.path += sys.argv[1:]; from femtoclaw.seal import main; main(sys.argv[1])" \
    "$ROOT" "$("$PYTHON" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" >&2 ||
    fail "the distribution could not be sealed" "see the message above, then run scripts/seal again"
}

# ensure_sealed: on first use only. What changes afterwards is an operator's to seal (scripts/seal).
ensure_sealed() {
  [ -e "$ROOT/femtoclaw.sealed/manifest" ] && return
  exec 9>"$ROOT/.venv.lock"
  flock 9 2>/dev/null || true
  [ -e "$ROOT/femtoclaw.sealed/manifest" ] || seal
  exec 9>&-
}
