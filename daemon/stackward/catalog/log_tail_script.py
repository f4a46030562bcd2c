"""The text that follows a log inside a VM: bash 4.4 and coreutils, installed nowhere.

It is sent down the channel's standard input and writes the file's bytes, cut into stretches by
records of its own, to standard output. It writes nothing on the VM. The last line calls the one
function that starts it, so half a script does nothing. What its records mean is in log_tail.py.

Rules of the text:

1. One process, one thing at a time: no `tail -f` beside the loop that would have to be killed, and
   whose bytes would mix with the records. An idle poll forks nothing.
2. What is said of a file (identity, first bytes, place) is taken from the open descriptor 3, never
   from a name that may point elsewhere a moment later. Names are only compared with descriptors.
3. A stretch counts only when its record has come. The first bytes of the file are read again
   before that record is written: after a truncation the stretch is not confirmed.
4. Bash drops NUL bytes when it reads, so what it read is printed only if its length equals the
   distance that the descriptor moved; otherwise processes copy the same stretch.
"""

SCRIPT = r"""
export LC_ALL=C
pos=0 head='' head_bytes=0 silent=0 lossy='' missed=0 calm=0 idle=0

say() { printf '\n%s %s\n' "$mark" "$*" || exit 1; }

first_bytes() { seen=''; IFS= read -r -N 256 seen <"$1"; }

# Is the open file still the one that began as we know it? It may only have grown.
whole() { first_bytes /proc/self/fd/3; [[ $seen == "$head"* ]]; }

digest() {
  printed=$(head -c "$1" <"$2" | sha256sum) || return 1
  printed=${printed:0:32}
}

where() {
  local word value
  while read -r word value; do
    if [[ $word == pos: ]]; then at=$value; return; fi
  done </proc/self/fdinfo/3
}

# Wait, and listen: a line is a sign of life from our side, silence for too long ends it all.
pause() {
  local word
  if IFS= read -r -t "$1" word; then
    silent=0
    still_there
    [[ -z $placed ]] || say K "$pos"
  elif (( $? <= 128 )); then exit 0
  elif (( ++silent > silent_max )); then exit 0
  fi
}

# Descriptor 3 is open: tell which file it is, and go to the offset.
place() {
  local kind=$1 offset=$2 gap=$3 tries identity size count
  for tries in 1 2 3 4 5; do
    { exec 3</proc/self/fd/3; } || return 1
    identity=$(stat -L -c '%d:%i %s' /proc/self/fd/3) || return 1
    size=${identity#* } identity=${identity% *}
    (( offset <= size )) || return 1
    count=$(( size < 256 ? size : 256 ))
    first_bytes /proc/self/fd/3; head=$seen
    digest "$count" /proc/self/fd/3 || return 1
    (( offset == 0 )) || dd iflag=skip_bytes skip="$offset" count=0 status=none <&3 || return 1
    where
    (( at == offset )) || return 1
    whole || continue
    head=$seen head_bytes=$count pos=$offset placed=1
    say H "$kind" "$identity" "$printed" "$count" "$offset" "$gap"
    return 0
  done
  return 1
}

# While the file is shorter than 256 bytes its fingerprint grows with it.
grown() {
  local count=$(( at < 256 ? at : 256 ))
  (( head_bytes < 256 && count > head_bytes )) || return 1
  digest "$count" /proc/self/fd/3 && news="F $printed $count" head_bytes=$count
}

# Send what is new in the open file. True: something was.
drain() {
  local piece='' full='' news=''
  IFS= read -r -N 8192 -u 3 piece && full=1
  [[ -n $piece ]] || return 1
  where
  grown
  if ! whole; then truncated; return 0; fi
  head=$seen
  [[ -z $news ]] || say "$news"
  if (( at - pos == ${#piece} )); then
    printf '%s' "$piece" || exit 1
  else
    tail -c "+$(( pos + 1 ))" </proc/self/fd/3 | head -c "$(( at - pos ))" || exit 1
  fi
  if [[ -n $full ]]; then
    head -c "$bulk" <&3 || exit 1
    where
    if ! whole; then truncated; return 0; fi
  fi
  pos=$at
  say K "$pos"
}

# A file may be cut to a length that is not zero: seldom, so it is looked for seldom.
still_there() {
  local size
  [[ -n $placed ]] || return 0
  size=$(stat -L -c %s /proc/self/fd/3) || size=0
  (( size >= pos )) && whole && return 0
  truncated
  return 1
}

# The open file was cut. If a copy was taken before, the rest of it is read there first.
truncated() {
  local name size
  if (( ${#head} >= 32 )); then
    for name in "${rotated[@]}"; do
      [[ -f $name && ! $name -ef /proc/self/fd/3 ]] || continue
      first_bytes "$name"
      [[ $seen == "$head"* ]] || continue
      { exec 4<"$name"; } || continue
      first_bytes /proc/self/fd/4
      size=$(stat -L -c %s /proc/self/fd/4) || size=0
      exec 5<&3 3<&4 4<&-
      if [[ $seen == "$head"* ]] && (( size >= pos )) && place same "$pos" 0; then
        exec 5<&-
        lossy=1 calm=0
        return 0
      fi
      exec 3<&5 5<&-
    done
  fi
  head='' lossy=''
  { exec 3</proc/self/fd/3; }
  place anew 0 '?' || give_up 'the file changes faster than it can be placed'
}

give_up() { say X "$*"; exit 1; }

# Under which rotated name is the open file now? Names move up in one manner and down in the other,
# so each row is walked in the direction in which a moving file cannot slip past.
named() {
  local n
  manner='' k=0
  for (( n = 1; n <= rotated_max; n++ )); do
    [[ $log.$n -ef /proc/self/fd/3 ]] && { manner=up k=$n; return 0; }
  done
  for (( n = rotated_max; n >= 1; n-- )); do
    [[ $stem.$n$ending -ef /proc/self/fd/3 ]] && { manner=down k=$n; return 0; }
  done
  return 1
}

# The file that was written after the open one.
next_name() {
  local n
  name=$log
  case $manner in
    up)
      for (( n = k - 1; n >= 1; n-- )); do
        [[ -f $log.$n ]] && { name=$log.$n; return; }
      done ;;
    down)
      for (( n = k + 1; n <= rotated_max; n++ )); do
        [[ -f $stem.$n$ending ]] && { name=$stem.$n$ending; return; }
      done ;;
    *)  # deleted: the oldest of those that were written to after it
      for n in "${rotated[@]}"; do
        [[ -f $n && $n -nt /proc/self/fd/3 ]] || continue
        [[ $name == "$log" || $n -ot $name ]] && name=$n
      done ;;
  esac
}

# The open file has ended and its name belongs to another: go on to the next one.
advance() {
  local name manner k gap=0 was
  named || named || gap='?'
  next_name
  was=$manner:$k:$name
  [[ -f $name ]] || return 1
  { exec 4<"$name"; } || return 1
  # Names may have moved meanwhile: the answer must be the same again, and be what was opened.
  named
  next_name
  if [[ $was != "$manner:$k:$name" || ! $name -ef /proc/self/fd/4 ||
        $name -ef /proc/self/fd/3 ]]; then
    exec 4<&-
    return 1
  fi
  [[ -z $lossy ]] || gap='?'
  exec 3<&4 4<&-
  lossy='' head=''
  place next 0 "$gap" || give_up 'the next file cannot be placed'
}

# Look for the file in which we stopped: by identity and first bytes, then by first bytes alone.
found() {
  local name manner size identity
  for manner in same any; do
    [[ $manner == same ]] || (( fp_bytes >= 32 )) || return 1
    for name in "$log" "${rotated[@]}"; do
      [[ -f $name ]] || continue
      { exec 3<"$name"; } || continue
      identity=$(stat -L -c '%d:%i %s' /proc/self/fd/3) || continue
      size=${identity#* } identity=${identity% *}
      (( size >= fp_bytes && size >= fp_offset )) || continue
      [[ $manner == any || $identity == "$fp_identity" ]] || continue
      digest "$fp_bytes" /proc/self/fd/3 || continue
      [[ $printed == "$fp_digest" || $fp_bytes == 0 ]] || continue
      place same "$fp_offset" 0 && return 0
    done
  done
  return 1
}

# The current end, moved back to the beginning of its line.
line_end() {
  local size from count ended partial
  size=$(stat -L -c %s /proc/self/fd/3) || return 1
  from=$(( size > 65536 ? size - 65536 : 0 )) count=$(( size > 65536 ? 65536 : size ))
  begin=$size
  (( size )) || return 0
  ended=$(tail -c "+$size" </proc/self/fd/3 | head -c 1 | wc -l)
  (( ended )) && return 0
  partial=$(tail -c "+$(( from + 1 ))" </proc/self/fd/3 | head -c "$count" | tail -n 1 | wc -c)
  begin=$(( size - partial ))
}

start() {
  local begin=0
  if [[ -n $fp_identity ]]; then
    found && return 0
    # Names may have been moving while they were looked through: look again before it is lost.
    (( ++missed >= 3 )) || return 1
    [[ -f $log ]] && { exec 3<"$log"; } && place lost 0 '?'
    return
  fi
  [[ -f $log ]] && { exec 3<"$log"; } || { missed=1; return 1; }
  # A file that came to be while we waited for it is new from its first byte on.
  (( missed )) || line_end || return 1
  place start "$begin" 0
}

follow() {
  log=${STACKWARD_ROOT-}$1 mark=$2 poll=$3 silent_max=$4 bulk=$5 rotated_max=$6 grace=$7
  fp_identity=$8 fp_digest=$9 fp_bytes=${10} fp_offset=${11}
  local n
  exec 2>/dev/null
  stem=${log%.*} ending=.${log##*.} placed='' rotated=()
  [[ ${log##*/} == *.* ]] || stem=$log ending=.rotated
  for (( n = 1; n <= rotated_max; n++ )); do rotated+=("$log.$n" "$stem.$n$ending"); done
  if ! start; then
    say W
    until pause "$poll"; start; do :; done
  fi
  while :; do
    if drain; then
      calm=0
      read -t 0 && pause "$poll"
      continue
    fi
    pause "$poll"
    (( ++idle % 5 )) || whole || truncated
    if [[ $log -ef /proc/self/fd/3 ]]; then calm=0; continue; fi
    (( ++calm >= grace )) || continue
    still_there && ! drain && advance && calm=0
  done
}
"""
