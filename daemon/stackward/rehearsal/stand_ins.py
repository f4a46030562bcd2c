"""The programs that a rehearsed system VM needs and this machine cannot lend: small bash scripts.

`systemctl show` reads a file that the rehearsal keeps; whatever changes something is asked of the
rehearsal itself, over loopback, so there is one owner of the unit's state and one ledger. `stat`
tells the VM's own file systems, and hangs where a mount hangs.

The `@names@` are filled in when a VM is made.
"""

# The format that is asked with `stat -f`; numbers are kept in this order.
FS_FORMAT = "%b %f %a %S %c %d %n"

SYSTEMCTL = r"""#!/bin/bash
# systemctl, as far as this rehearsed VM knows it.
state=@run@/unit
properties=() verbs=() value_only= quiet= all="$*"
while (($#)); do
  case $1 in
    -p) shift; properties+=(${1//,/ }) ;;
    -p*) properties+=(${1:2}) ;;
    --property=*) one=${1#*=}; properties+=(${one//,/ }) ;;
    --property) shift; properties+=(${1//,/ }) ;;
    --value) value_only=1 ;;
    -q | --quiet) quiet=1 ;;
    -*) ;;
    *) verbs+=("$1") ;;
  esac
  shift
done
verb=${verbs[0]:-} unit=${verbs[1]:-cloud} unit=${unit%.service}

known() { [[ $unit == cloud ]]; }

print_properties() {
  local line name
  while IFS= read -r line; do
    name=${line%%=*}
    if ((${#properties[@]})) && [[ " ${properties[*]} " != *" $name "* ]]; then continue; fi
    if [[ -n $value_only ]]; then line=${line#*=}; fi
    printf '%s\n' "$line"
  done
}

ask() {
  local status=1 line
  if ! exec 3<>/dev/tcp/@host@/@port@; then
    printf 'Failed to connect to bus: No such file or directory\n' >&2
    exit 1
  fi
  printf '%s %s %s\n' '@token@' '@vm@' "$all" >&3
  IFS= read -r status <&3
  while IFS= read -r line <&3; do printf '%s\n' "$line" >&2; done
  exit "$status"
}

active=inactive sub=dead
while IFS== read -r name value; do
  case $name in ActiveState) active=$value ;; SubState) sub=$value ;; esac
done <"$state"

case $verb in
  show)
    if known; then print_properties <"$state"; else
      printf '%s\n' "Id=$unit.service" LoadState=not-found ActiveState=inactive SubState=dead |
        print_properties
    fi ;;
  is-active)
    known || active=inactive
    [[ -n $quiet ]] || printf '%s\n' "$active"
    [[ $active == active ]] || exit 3 ;;
  is-failed)
    [[ -n $quiet ]] || printf '%s\n' "$active"
    [[ $active == failed ]] || exit 1 ;;
  status)
    printf '* cloud.service - CloudStack Agent service\n     Active: %s (%s)\n' "$active" "$sub"
    [[ $active == active ]] || exit 3 ;;
  start | stop | restart | try-restart | reset-failed | kill) ask ;;
  daemon-reload | list-jobs | is-system-running) ;;
  *) printf 'Unknown command verb %s.\n' "$verb" >&2; exit 1 ;;
esac
"""

STAT = r"""#!/bin/bash
# stat, which knows the file systems of this rehearsed VM.
run=@run@
if [[ $1 != -f ]]; then exec @stat@ "$@"; fi
if [[ $2 != -c || $3 != '@format@' ]]; then exec @stat@ "$@"; fi
shift 3
status=0
for point in "$@"; do
  inside=${point#"${STACKWARD_ROOT%/}"}
  while IFS= read -r hung; do
    if [[ $hung == hard && $inside == /mnt/SecStorage/* ]]; then
      # As when a request is with the server: killing the asker does not end the asking, and the
      # pipe of the answer stays open.
      setsid /bin/bash -c 'while [[ -s $1 ]]; do sleep 0.3; done' hung "$run/hung" &
    fi
    if [[ $inside == /mnt/SecStorage/* ]]; then
      while [[ -s $run/hung ]]; do sleep 0.3; done
    fi
  done <"$run/hung"
  if [[ ! -e $point ]]; then
    printf "stat: cannot read file system information for '%s': No such file or directory\n" \
      "$point" >&2
    status=1
    continue
  fi
  case $inside in
    /mnt/SecStorage/*) IFS= read -r numbers <"$run/fs-mount" ;;
    *) IFS= read -r numbers <"$run/fs-root" ;;
  esac
  printf '%s %s\n' "$numbers" "$point"
done
exit $status
"""


def filled(script: str, **values: str) -> str:
    """The script with its names filled in."""
    for name, value in values.items():
        script = script.replace(f"@{name}@", value)
    return script
