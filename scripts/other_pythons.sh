#!/usr/bin/env bash
# Replays the golden history under every other Python >= 3.11 of this machine: each in a temporary virtual environment
# with the locked packages, under two hash seeds. With --test it runs tests/wal and tests/femtoclaw there too.
# Exit 0: all agree with tests/golden/history/v1.json. 1: one differs, or could not be tried. 2: wrong call.
set -u
. "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/environment.sh"

INSTALL_SECONDS=300
REPLAY_SECONDS=60
TEST_SECONDS=900
WHO='import platform, sys; print(platform.python_version(), platform.python_implementation(), sys.version.replace(chr(10), " "), sep="|")'

tests=no
case "$*" in
  "") ;;
  --test) tests=yes ;;
  *) fail "unknown argument: $*" "call it without arguments, or with --test" ;;
esac

ensure_environment run "$ROOT/requirements.lock"
work=$(mktemp -d) || fail "no temporary directory can be made" "free some space in ${TMPDIR:-/tmp}"
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT PIPE TERM
chmod 755 "$work" # some tests run this Python as another user
# The checkout's own byte code is another Python's, and others may be using it.
export PYTHONPYCACHEPREFIX="$work/cache"

cat >"$work/replay.py" <<'PROGRAM'
import json
import sys

REFUSED = ("socket.", "subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.system")


def refuse(event, args):
    if event.startswith(REFUSED):
        raise RuntimeError(f"replay asked for {event}")


sys.addaudithook(refuse)
from femtoclaw.replay import replay
from wal.chain import follow
from wal.lmdb_storage import split_frames
from wal.record import EMPTY

golden = sys.argv[1]
with open(f"{golden}/v1.frames", "rb") as file:
    report = replay(follow(EMPTY, split_frames(1, file.read())))
with open(f"{golden}/v1.json") as file:
    pinned = json.load(file)
found = {
    "size": report.size,
    "state_hash": report.state_hash,
    "decisions": report.decisions,
    "divergences": [list(divergence) for divergence in report.divergences],
}
same = all(pinned[name] == value for name, value in found.items())
print(f"state hash {report.state_hash}  records {report.size}  decisions {report.decisions}  "
      f"divergences {len(report.divergences)}  {'as pinned' if same else 'NOT AS PINNED'}")
sys.exit(not same)
PROGRAM

# candidates: every interpreter that might be another Python, by path.
candidates() {
  local name path
  for path in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3; do
    [ -x "$path" ] && printf '%s\n' "$path"
  done
  for name in python3 python3.11 python3.12 python3.13 python3.14 python3.15; do
    type -aP "$name" 2>/dev/null
  done
}

# make_environment_of PYTHON FOLDER: the locked packages and this checkout in a virtual environment.
make_environment_of() {
  local base=$1 venv=$2 pip
  pip=("$venv/bin/python" -m pip)
  if ! timeout "$INSTALL_SECONDS" "$base" -m venv "$venv" >"$venv.out" 2>&1; then
    rm -rf "$venv" # some distributions ship Python without ensurepip: then our pip serves it
    timeout "$INSTALL_SECONDS" "$base" -m venv --without-pip "$venv" >"$venv.out" 2>&1 || return 1
    pip=("$PYTHON" -m pip --python "$venv/bin/python")
  fi
  local wanted=(--requirement "$ROOT/requirements.lock")
  [ $tests = yes ] && wanted+=(--constraint "$ROOT/requirements-dev.lock" pytest pytest-timeout hypothesis \
    opentelemetry-proto opentelemetry-semantic-conventions)
  timeout "$INSTALL_SECONDS" "${pip[@]}" install --quiet --disable-pip-version-check --only-binary :all: \
    "${wanted[@]}" >"$venv.out" 2>&1 || return 1
  "$venv/bin/python" -c 'import sys, sysconfig; open(sysconfig.get_path("purelib") + "/femtoclaw-checkout.pth", "w").write(sys.argv[1] + "\n")' "$ROOT"
}

# try_python PYTHON FOLDER VERSION: replay under two hash seeds, then the tests when they are asked for.
try_python() {
  local base=$1 venv=$2 version=$3 seed line code=0
  if ! make_environment_of "$base" "$venv"; then
    printf '%s  NOT TRIED: no environment with the locked packages\n' "$version"
    tail -n 5 "$venv.out" | sed 's/^/    /'
    return 1
  fi
  for seed in 1 4242; do
    line=$(PYTHONHASHSEED=$seed timeout "$REPLAY_SECONDS" "$venv/bin/python" "$work/replay.py" \
      "$ROOT/tests/golden/history" 2>"$venv.err") || code=1
    printf '%s  seed %-4s  %s\n' "$version" "$seed" "${line:-FAILED}"
    [ -n "$line" ] || tail -n 5 "$venv.err" | sed 's/^/    /'
  done
  if [ $tests = yes ]; then
    (cd "$ROOT" && timeout "$TEST_SECONDS" "$venv/bin/python" -m pytest -q -p no:cacheprovider tests/wal tests/femtoclaw) \
      >"$venv.tests" 2>&1 || code=1
    printf '%s  tests      %s\n' "$version" "$(tail -n 1 "$venv.tests")"
    grep -E '^(FAILED|ERROR|SKIPPED) ' "$venv.tests" | sed 's/^/    /'
  fi
  rm -rf "$venv"
  return $code
}

failed=0 found=0 number=0
seen="$("$PYTHON" -c "$WHO")"
while read -r base; do
  # Outside of the checkout and isolated: what is asked here is the interpreter, not what lies around.
  who=$(cd / && timeout 20 "$base" -I -c "$WHO" 2>/dev/null) || continue
  "$base" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
  case "$seen" in *"$who"*) continue ;; esac
  seen="$seen
$who"
  found=$((found + 1)) number=$((number + 1))
  try_python "$base" "$work/$number" "${who%%|*}" </dev/null || failed=1
done < <(candidates)

if [ $found -eq 0 ]; then
  say "no other Python of 3.11 or newer was found"
  [ "${FEMTOCLAW_REQUIRE_ALL:-0}" = 1 ] && failed=1
fi
exit $failed
