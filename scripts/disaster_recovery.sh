#!/usr/bin/env bash
# A drill, timed: everything of a node is deleted, the installation too, and comes back from a checkout and a backup alone.
# Usage: scripts/disaster_recovery.sh [--work DIR] [--json]
#   --work DIR  an empty or new folder for the drill (default: a temporary one, removed at the end)
# Exit 0 when the node works again with the genesis, the root and the state that were backed up; 1 when one differs.
set -euo pipefail
SOURCE=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
WORK="" JSON=0
while [ $# -gt 0 ]; do
  case $1 in
    --work) WORK=${2:?--work needs a folder}; shift 2 ;;
    --json) JSON=1; shift ;;
    *) sed -n '2,5s/^# //p' "$0" >&2; exit 2 ;;
  esac
done
PYTHON=${FEMTOCLAW_DRILL_PYTHON:-}
if [ -z "$PYTHON" ]; then
  . "$SOURCE/scripts/environment.sh"
  ensure_environment run "$SOURCE/requirements.lock"
fi
if [ -z "$WORK" ]; then
  WORK=$(mktemp -d)
  trap 'rm -rf "$WORK"' EXIT
fi
mkdir -p "$WORK"
WORK=$(cd "$WORK" && pwd)
INSTALLATION=$WORK/installation HOME_DIR=$WORK/home PLACE=$WORK/elsewhere/backups KEY=$WORK/elsewhere/recovery.key
mkdir -p "$WORK/elsewhere"
unset FEMTOCLAW_HOME

now() { "$PYTHON" -c 'import time; print(time.monotonic_ns())'; }
say() { [ $JSON = 1 ] || printf '%s\n' "$*"; }
install_program() { # from the checkout: what git knows, as it lies there
  mkdir "$INSTALLATION"
  (cd "$SOURCE" && { git ls-files -z -- wal cluster femtoclaw proto docs/requirements.toml 2>/dev/null || true; } | tar -cf - --null -T - 2>/dev/null) | tar -xf - -C "$INSTALLATION"
  [ -d "$INSTALLATION/femtoclaw" ] || cp -r "$SOURCE/wal" "$SOURCE/cluster" "$SOURCE/femtoclaw" "$INSTALLATION/"
}
femtoclaw() { # one command of the installed program, its JSON
  PYTHONPATH=$INSTALLATION "$PYTHON" -c 'import sys; sys.argv[0] = "femtoclaw"; from femtoclaw.__main__ import main; main()' --json --home "$HOME_DIR" "$@"
}
field() { "$PYTHON" -c 'import json, sys; print(json.loads(sys.stdin.read().splitlines()[-1])[sys.argv[1]])' "$1"; }

install_program
femtoclaw init --enable fs.read >/dev/null 2>&1
femtoclaw intent '{"message":{"content":"before the disaster"}}' >/dev/null
femtoclaw backup keygen --out "$KEY" >/dev/null 2>&1
BACKUP=$(femtoclaw backup create --to "$PLACE")
femtoclaw intent '{"message":{"content":"after the last backup"}}' >/dev/null
LOG=$(field log <<<"$BACKUP") ROOT_THEN=$(field root <<<"$BACKUP") STATE=$(field state_hash <<<"$BACKUP") SIZE=$(field size <<<"$BACKUP")
say "backed up   $SIZE records, root $ROOT_THEN"

rm -rf "$INSTALLATION" "$HOME_DIR"
say "deleted     the installation and the home"
BEGUN=$(now)
install_program
INSTALLED=$(now)
RESTORED=$(femtoclaw backup restore --from "$PLACE" --key "$KEY" --to "$HOME_DIR" --log "$LOG" 2>/dev/null)
THERE=$(now)
RESUMED=$(femtoclaw backup resume 2>/dev/null)
femtoclaw intent '{"message":{"content":"after the disaster"}}' >/dev/null
WORKS=$(now)
VERIFIED=$(femtoclaw verify 2>/dev/null || true)

"$PYTHON" - "$JSON" "$LOG" "$ROOT_THEN" "$STATE" "$SIZE" "$RESTORED" "$RESUMED" "$VERIFIED" "$BEGUN" "$INSTALLED" "$THERE" "$WORKS" <<'PYTHON'
import json
import sys

as_json, log, root, state, size = sys.argv[1:6]
restored, resumed, verified = (json.loads(text.splitlines()[-1]) for text in sys.argv[6:9])
begun, installed, there, works = map(int, sys.argv[9:13])
checks = {
    "same log, quoted by the new": log == restored["log_id"] == resumed["predecessor"] != resumed["log"],
    "same root": (root, int(size)) == (restored["root"], restored["size"]),
    "same state": state == restored["state_hash"],
    "verifies": verified["ok"],
}
seconds = {
    "install": (installed - begun) / 1e9, "restore": (there - installed) / 1e9, "resume and work": (works - there) / 1e9,
    "in all": (works - begun) / 1e9,
}
lost = {"first": resumed["lost_first"], "last": resumed["lost_last"]}
if as_json == "1":
    print(json.dumps({"ok": all(checks.values()), "checks": checks, "seconds": seconds, "lost": lost, "size": int(size)}))
else:
    for name, met in checks.items():
        print(f"{name:<20} {'yes' if met else 'NO'}")
    for name, taken in seconds.items():
        print(f"{name:<20} {taken:.2f} s")
    print(f"{'not recovered':<20} from record {lost['first']} on; known to have been: {lost['last'] or 'none'}")
sys.exit(0 if all(checks.values()) else 1)
PYTHON
