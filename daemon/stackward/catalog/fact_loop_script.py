r"""The text of the fact loop: the bash that runs inside a system VM while it is watched.

What lives here: the script, with its settings left open as `@name@`. What does not: the settings
and the reader of its answers (fact_loop.py). bash 4.4 is the floor (Debian 9, CloudStack 4.11).

Rule 1: the loop itself touches nothing but /proc and /sys/fs/cgroup, with builtins alone. Those
        answer whatever the disks and mounts do, so a tick is always answered.
Rule 2: everything else is asked by a child: started when due, at most one alive per fact, killed
        after its limit, never waited for. A child that cannot be killed stays the one of its fact.
Rule 3: a child's answer comes through a pipe of its own and is put into a block by the loop, so
        there is one writer and no file. The pipe's end is also the only sign of a child's end that
        is believed: while it is open the process exists, so a kill can never hit another one.
        Children hold neither end of the channel: one in D state does not keep it open.
Rule 4: no file on the VM's disk: no here-document, no here-string, no mkfifo.
Rule 5: a name out of the VM (a mount point, an address) gets into an arithmetic expression or an
        array subscript there only if it is made of harmless characters: bash expands those twice.

One function, called by the last line with nothing behind it: half a script defines and runs
nothing. A block is one line of text: sections end in \x1e, lines within them in \x1f. Times are
centiseconds of the VM's uptime, which no clock step moves.

STACKWARD_ROOT (absolute, empty on a real VM) goes before every path. Of /proc each file is taken
from below it if it is there, else from the machine; of /sys/fs/cgroup only what is below it.
"""

SCRIPT = r"""
stackward_facts() {
local -r version=@version@ root=${STACKWARD_ROOT-} rs=$'\x1e' us=$'\x1f' nl=$'\n'
local -r unit_every=@unit_every@ slow_every=@slow_every@ disk_every=@disk_every@
local -r connect_every=@connect_every@ retry_every=@retry_every@ connect_after=@connect_after@
local -r limit=@limit@ touch_limit=@touch_limit@ connect_limit=@connect_limit@
local -r agent=$root/usr/local/cloud/systemvm/conf/agent.properties
local -r cmdline=$root/var/cache/cloud/cmdline release=$root/etc/cloudstack-release
local -A path=() fd_of=() pid_of=() limit_of=() asked=() heard=() ended=() due=()
local -a addresses=() local_points=() touch_points=() tables=()
local -i now=0 next_due=0 missing_since=0 jitter=0 known_at=0
local tick told= boot_id= link= known= known_socket= jvm= jvm_dir= jvm_started= jvm_known=unknown
local cgroup=/system.slice/cloud.service main_pid=0 port_hex=203A
local -x LC_ALL=C

prepare() {
  local name
  set -f
  exec 2>/dev/null
  cd /
  # bash 5 forgets ended process substitutions only if it has had a job: else it grows for ever.
  : >/dev/null </dev/null &
  trap '' PIPE
  trap 'end_children; exit 0' HUP INT TERM
  for name in uptime loadavg meminfo mounts net/tcp sys/kernel/random/boot_id; do
    path[$name]=/proc/$name
    if [[ -n $root && -r $root/proc/$name ]]; then path[$name]=$root/proc/$name; fi
  done
  tables=("${path[net/tcp]}6" "${path[net/tcp]}")
  read -r boot_id <"${path[sys/kernel/random/boot_id]}"
  boot_id=${boot_id//[^0-9a-f-]/}
  # Spreads the own connects of a fleet over half a minute.
  if [[ $boot_id == [0-9a-f][0-9a-f][0-9a-f][0-9a-f]* ]]; then
    jitter=$((16#${boot_id:0:4} % 3000))
  fi
}

# --- children: start NAME LIMIT COMMAND..., where COMMAND is a function or `exec PROGRAM`
start() {
  local name=$1 fd
  limit_of[$name]=$2 asked[$name]=$now heard[$name]= ended[$name]=
  shift 2
  exec {fd}< <(child "$@")
  pid_of[$name]=$! fd_of[$name]=$fd
}

child() {
  local fd
  exec 0</dev/null 2>&1
  for fd in "${fd_of[@]}"; do exec {fd}<&-; done
  "$@"
}

collect() {
  local name text
  local -i status
  for name in "${!fd_of[@]}"; do
    if read -r -t 0 -u "${fd_of[$name]}"; then
      IFS= read -r -d '' -t 0.02 -n 8192 -u "${fd_of[$name]}" text
      status=$?
      heard[$name]+=$text
      if ((status == 1)); then finish "$name"; continue; fi
      if ((status == 0 || ${#heard[$name]} > 8192)); then end_child "$name" '!cut'; fi
    fi
    if ((now - ${asked[$name]} >= ${limit_of[$name]})); then
      end_child "$name" "!killed $(((now - ${asked[$name]}) / 100))"
    fi
  done
}

end_child() {
  if [[ -z ${ended[$1]} ]]; then ended[$1]=$2; fi
  heard[$1]=
  kill -KILL "${pid_of[$1]}"
}

end_children() {
  local name
  for name in "${!fd_of[@]}"; do kill -KILL "${pid_of[$name]}"; done
}

finish() {
  local name=$1 text=${ended[$1]:-${heard[$1]}} fd=${fd_of[$1]}
  exec {fd}<&-
  unset 'fd_of[$name]' 'pid_of[$name]' 'heard[$name]' 'ended[$name]'
  next_due=0
  if [[ -n $root ]]; then text=${text//"$root"\///}; fi
  text=${text%"$nl"}
  case $name in
    unit) note_unit "$text" ;;
    conf) note_conf "$text" ;;
    connect:*) if [[ $text != open ]]; then due[$name]=$((now + retry_every + jitter)); fi ;;
  esac
  tell "$name" "${asked[$name]}" "$text"
}

# tell NAME ASKED TEXT: a slow section for the block being made. No text takes the last one back.
tell() {
  local text=${3//[^[:print:]$nl]/?}
  told+="$rs~$1 $2"
  if [[ -n $text ]]; then told+="$us${text//"$nl"/$us}"; fi
}

# --- what the children ask
read_conf() {
  local text line
  local -a words=()
  exec 2>/dev/null
  if IFS= read -r line <"$release"; then printf 'release %s\n' "${line:0:200}"; fi
  if IFS= read -r -d '' -n 65536 text <"$agent" || [[ -n $text ]]; then
    local IFS=$nl
    for line in $text; do
      case $line in host=* | port=*) printf 'properties %s\n' "${line:0:1000}" ;; esac
    done
    IFS=$' \t\n'
  else
    printf 'properties !unreadable\n'
  fi
  if read -r -n 16384 -a words <"$cmdline" || ((${#words[@]})); then
    for line in "${words[@]}"; do
      case $line in
        host=* | port=* | type=* | name=*) printf 'cmdline %s\n' "${line:0:1000}" ;;
      esac
    done
  else
    printf 'cmdline !unreadable\n'
  fi
}

count_files() {
  local line
  local -a files
  set +f
  files=("$1"/fd/*)
  while read -r line; do
    if [[ $line == 'Max open files'* ]]; then
      files=("${#files[@]}" $line)
      printf '%s %s\n' "${files[0]}" "${files[4]}"
    fi
  done <"$1/limits"
}

try() { exec 3<>"/dev/tcp/$1/$2" && printf 'open\n'; }

# --- what the loop learns from them
note_unit() {
  if [[ $nl$1 =~ ${nl}ControlGroup=(/[^$nl]*) ]]; then cgroup=${BASH_REMATCH[1]}; fi
  if [[ $nl$1 =~ ${nl}MainPID=([0-9]+) ]]; then main_pid=${BASH_REMATCH[1]}; fi
}

note_conf() {
  local line list= port=8250 host
  local IFS=$nl
  for line in $1; do
    line=${line//\\/}
    case $line in
      'properties host='* | 'cmdline host='*) line=${line#*=}; list+=,${line%%@*} ;;
      'properties port='* | 'cmdline port='*)
        if [[ ${line#*=} == [1-9]*([0-9]) && ${#line} -lt 25 && $port == 8250 ]]; then
          port=${line#*=}
        fi ;;
    esac
  done
  printf -v port_hex %04X "$port"
  known=
  addresses=()
  IFS=,
  for host in $list; do
    if [[ $host == +([A-Za-z0-9._:-]) && ",${addresses[*]}," != *",$host:$port,"* ]]; then
      addresses+=("$host:$port")
    fi
    if ((${#addresses[@]} >= 16)); then break; fi
  done
}

# --- what the loop reads itself
# The start time (behind a field that is always 0) tells a process from a later one of its number.
look_at_jvm() {
  local line=
  if [[ -n $jvm ]]; then
    read -r line <"$jvm_dir/stat"
    if [[ $line != *") "[!ZXx]*" 0 $jvm_started "* ]]; then jvm= due[unit]=0 next_due=0; fi
  fi
  if [[ -z $jvm ]]; then find_jvm; fi
}

find_jvm() {
  local file pid name line
  local -a pids=() more=() field
  jvm_known=unknown
  for file in "$root"/sys/fs/cgroup{,/systemd,/unified}"$cgroup/cgroup.procs"; do
    if [[ -r $file ]] && mapfile -t -n 64 pids <"$file"; then jvm_known=none; break; fi
  done
  if [[ $jvm_known == unknown && $main_pid != 0 ]]; then
    place_of "$main_pid"
    if read -r -a more <"$jvm_dir/task/$main_pid/children" || [[ -d $jvm_dir ]]; then
      pids=("$main_pid" "${more[@]}") jvm_known=none
    fi
  fi
  for pid in "${pids[@]}"; do
    place_of "$pid"
    name= line=
    if read -r name <"$jvm_dir/comm" && [[ $name == java ]] && read -r line <"$jvm_dir/stat"; then
      field=(${line##*) })
      if [[ ${field[0]} != [ZXx] ]]; then jvm=$pid jvm_started=${field[19]} due[files]=0; return; fi
    fi
  done
}

place_of() {
  jvm_dir=/proc/$1
  if [[ -n $root && -d $root/proc/$1 ]]; then jvm_dir=$root/proc/$1; fi
}

# For one table the kernel walks all its buckets, and the more memory the more buckets: 2.3 CPU-ms
# on a machine of 24 GB, many times the rest of a tick. So the table that held the link last time is
# read first, and the other only if it is not there.
look_at_link() {
  local file name socket= read_any=
  for file in "${tables[@]}"; do
    look_at_table "$file"
    if [[ -n $socket ]]; then break; fi
  done
  if [[ -z $read_any ]]; then link=unreadable; return; fi
  if [[ -n $socket ]]; then
    if [[ $file != "${tables[0]}" ]]; then tables=("$file" "${tables[0]}"); fi
    for name in "${!fd_of[@]}"; do
      # What is seen may be the own connect that is under way.
      if [[ $name == connect:* ]]; then link=unsure$us$socket; return; fi
    done
    link=established$us$socket
    if ((missing_since)); then forget_connects; fi
    missing_since=0
    return
  fi
  link=none
  if ((missing_since == 0)); then missing_since=$now next_due=0; fi
}

# A remote port, a blank and 01 is an established socket to that port; the first one is enough.
# As long as it stays in its line only that line is looked at.
look_at_table() {
  local at
  local -a lines field
  mapfile -t -n 8192 lines <"$1" || return
  read_any=1
  if [[ -n $known && ${lines[known_at]} == *"$known"* ]]; then socket=$known_socket; return; fi
  if [[ ${lines[*]} != *":$port_hex 01 "* ]]; then return; fi
  for at in "${!lines[@]}"; do
    if [[ ${lines[at]} == *":$port_hex 01 "* ]]; then
      field=(${lines[at]})
      known="${field[1]} ${field[2]} 01 " known_at=$at known_socket="${field[2]} ${field[9]}"
      socket=$known_socket
      return
    fi
  done
}

forget_connects() {
  local address name
  for address in "${addresses[@]}"; do
    name=connect:$address
    if [[ -n ${asked[$name]-} ]]; then
      tell "$name" "$now" ''
      due[$name]=$((${asked[$name]} + 6000))
    fi
  done
}

look_at_mounts() {
  local line point text=
  local -a lines field gone=("${touch_points[@]}")
  mapfile -t -n 1024 lines <"${path[mounts]}"
  local_points=(/) touch_points=()
  for line in "${lines[@]}"; do
    field=($line)
    point=${field[1]}
    if [[ -n $root && $point == "$root"/* ]]; then point=${point#"$root"}; fi
    case $point:${field[2]} in
      /:*) ;;
      /mnt/SecStorage/*)
        if [[ $point != *[!A-Za-z0-9._/-]* && ${#touch_points[@]} -lt 64 ]]; then
          touch_points+=("$point")
        fi ;;
      *:ext[234] | *:xfs | *:btrfs | *:zfs | *:overlay | /tmp:tmpfs | /run:tmpfs | /var*:tmpfs)
        if [[ $point == *[!A-Za-z0-9._/-]* ]] || ((${#local_points[@]} >= 16)); then continue; fi
        local_points+=("$point") ;;
      *) continue ;;
    esac
    if ((${#text} < 12000)); then text+="${field[0]} $point ${field[2]} ${field[3]%%,*}$nl"; fi
  done
  tell mounts "$now" "${text%"$nl"}"
  for point in "${gone[@]}"; do
    if [[ " ${touch_points[*]} " != *" $point "* ]]; then tell "mount:$point" "$now" ''; fi
  done
}

# --- the slow clock
ask() {
  local name=$1
  local -i when=${due[$1]:-0} every=$2
  shift 2
  if ((when <= now)); then
    if [[ -z ${fd_of[$name]-} ]]; then start "$name" "$@"; fi
    when=$((now + every))
    due[$name]=$when
  fi
  if ((when < next_due)); then next_due=$when; fi
}

ask_what_is_due() {
  local point
  local -r format='%b %f %a %S %c %d %n'
  next_due=$((now + slow_every))
  ask unit "$unit_every" "$limit" exec systemctl show cloud --no-pager --property=@properties@
  ask conf "$slow_every" "$limit" read_conf
  if ((${due[mounts]:-0} <= now)); then look_at_mounts; due[mounts]=$((now + slow_every)); fi
  ask disk "$disk_every" "$limit" exec stat -f -c "$format" "${local_points[@]/#/"$root"}"
  for point in "${touch_points[@]}"; do
    ask "mount:$point" "$slow_every" "$touch_limit" exec stat -f -c "$format" "$root$point"
  done
  if [[ -n $jvm ]]; then ask files "$slow_every" "$limit" count_files "$jvm_dir"; fi
  if ((missing_since)); then ask_connect; fi
}

# One connect at a time, seldom: each one that is taken costs the management server a TLS
# handshake that fails. One that is refused costs it nothing and is repeated sooner.
ask_connect() {
  local address name
  local -i when from=$((missing_since + connect_after + jitter / 10))
  for name in "${!fd_of[@]}"; do if [[ $name == connect:* ]]; then return; fi; done
  for address in "${addresses[@]}"; do
    name=connect:$address
    when=${due[$name]:-0}
    if ((when < from)); then when=$from; fi
    if ((when <= now)); then
      start "$name" "$connect_limit" try "${address%:*}" "${address##*:}"
      due[$name]=$((now + connect_every + jitter))
      return
    fi
    if ((when < next_due)); then next_due=$when; fi
  done
}

answer() {
  local up idle load clock name block
  local -a memory
  read -r up idle </proc/uptime
  now=$((10#${up/./}))
  told=
  if ((${#fd_of[@]})); then collect; fi
  look_at_jvm
  look_at_link
  if ((next_due <= now)); then ask_what_is_due; fi
  if [[ ${path[uptime]} != /proc/uptime ]]; then read -r up idle <"${path[uptime]}"; fi
  read -r load <"${path[loadavg]}"
  mapfile -t -n 3 memory <"${path[meminfo]}"
  clock=${EPOCHREALTIME-}
  if [[ -z $clock ]]; then printf -v clock '%(%s)T' -1; fi
  block="##stackward $version $tick $now$rs=clock$us$clock$rs=boot$us$boot_id$rs=uptime$us$up"
  block+="$rs=load$us$load$rs=memory$us${memory[0]}$us${memory[2]}"
  block+="$rs=jvm$us${jvm:-$jvm_known}$rs=link$us$link$told"
  for name in "${!fd_of[@]}"; do block+="$rs?$name ${asked[$name]}"; done
  printf '%s\n' "$block$rs##end $tick"
}

prepare
while IFS= read -r -t @dead_man@ tick && [[ $tick == +([0-9]) && ${#tick} -le 18 ]]; do
  answer || break
done
end_children
exit 0 # a return would make bash read its commands from the channel
}
stackward_facts
"""
