"""Restart cloud.service inside the VM: compare and act in one command.

The command restarts only the life of the unit that was diagnosed: systemd gives each start of a
unit an InvocationID of its own. It is POSIX sh, for systemd 232 (Debian 9) and newer, and says how
it ended in its last line. `--no-block`: the start is queued, nobody waits for it.
"""

import re
from datetime import timedelta

from stackward.catalog.action import Action, Changed, Declined, Done, Means, Reading, Unclear
from stackward.model.guest import CommandReply
from stackward.model.plan import ActionName

RESTART_AGENT = Action(
    name=ActionName.RESTART_AGENT,
    means=Means.SSH,
    is_disruptive=True,  # it ends what the VM serves at that moment, should it serve after all
    deadline=timedelta(seconds=30),
    settle=timedelta(seconds=2),
)

INVOCATION_ID = re.compile(r"[0-9a-f]{32}")
NEVER_STARTED = "none"
_SAID_MAX = 200

# A unit without InvocationID was never started in this boot, or its systemd is too old to tell;
# then only a dead one is touched. `show` answers for a unit that does not exist too, so LoadState
# is asked. A state `failed` keeps the start limit: reset it first. Whatever is not in the list of
# states below is on its way to another state: hands off.
_COMMAND = """\
expected=__EXPECTED__
say() { printf 'stackward: %s\\n' "$*"; exit 0; }
shown=$(LC_ALL=C systemctl show cloud -p LoadState -p ActiveState -p InvocationID 2>&1) ||
  say refused "systemctl show: $(printf %s "$shown" | tr '\\n' ' ')"
load= state= id=
while IFS='=' read -r name value; do
  case $name in
    LoadState) load=$value ;;
    ActiveState) state=$value ;;
    InvocationID) id=$value ;;
  esac
done <<END
$shown
END
[ "$load" = loaded ] || say refused "cloud.service is not loaded: $load"
case $id in *[!0-9a-f]* | '') id=none ;; esac
[ "$id" = "$expected" ] || say changed "$id"
case $state:$id in
  failed:*)
    out=$(systemctl reset-failed cloud 2>&1) ||
      say refused "systemctl reset-failed: $(printf %s "$out" | tr '\\n' ' ')" ;;
  inactive:*) ;;
  active:none | activating:none) say changed "$id $state" ;;
  active:* | activating:*) ;;
  *) say changed "$id $state" ;;
esac
out=$(systemctl --no-block restart cloud 2>&1) ||
  say unclear "systemctl restart: $(printf %s "$out" | tr '\\n' ' ')"
say sent
"""

_LAST_LINE = re.compile(r"stackward: (sent|changed|refused|unclear)(?: (.*))?")


def restart_command(invocation_id: str | None) -> str:
    """The command for the diagnosed life of the unit; None: it was never started in this boot.

    Raises ValueError for anything but an InvocationID: it goes into a shell.
    """
    expected = NEVER_STARTED if invocation_id is None else invocation_id
    if invocation_id is not None and not INVOCATION_ID.fullmatch(invocation_id):
        raise ValueError(f"{invocation_id!r:.60} is not an InvocationID")
    return _COMMAND.replace("__EXPECTED__", expected)


def read_restart_reply(reply: CommandReply) -> Reading:
    """What the reply says. Only a whole last line of ours says that nothing was done."""
    if reply.is_cut:
        return Unclear("the reply was cut")
    lines = [line for line in reply.output.splitlines() if line.strip()]
    said = _LAST_LINE.fullmatch(lines[-1].rstrip("\r")) if lines else None
    if said is None:
        return Unclear(_strange(reply, lines))
    text = (said[2] or "").strip()[:_SAID_MAX]
    match said[1]:
        case "sent" if not text:
            return Done()
        case "changed" if text:
            return Changed(text)
        case "refused" if text:
            return Declined(text)
        case "unclear" if text:
            return Unclear(text)
        case _:
            return Unclear(_strange(reply, lines))


def _strange(reply: CommandReply, lines: list[str]) -> str:
    end = "a signal" if reply.exit_status is None else f"exit status {reply.exit_status}"
    said = f"its last line was {lines[-1][:_SAID_MAX]!r}" if lines else "it said nothing"
    return f"the command ended with {end}, and {said}"
