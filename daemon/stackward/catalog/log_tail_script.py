"""The text that follows a log inside a VM: bash 4.4, coreutils and gzip, installed nowhere.

It is sent down the channel's standard input and writes the file's bytes, cut into stretches by
records of its own, to standard output. It writes nothing on the VM. The last line calls the one
function that starts it, so half a script does nothing. What its records mean is in log_tail.py;
transports/local_tail.py does the same for files of our own machine, and one suite tests both.

Rules of the text:

1. One process, one thing at a time: no `tail -f` beside the loop that would have to be killed, and
   whose bytes would mix with the records. An idle poll, or one that finds little, forks nothing.
2. What is said of a file (identity, first bytes, place) is taken from the open descriptor 3, never
   from a name that may point elsewhere a moment later. Names are only compared with descriptors,
   and what names tell counts only if nothing has moved meanwhile (`look`, `unmoved`).
3. A stretch counts only when its record has come. The first bytes of the file are read again
   before that record is written: after a truncation the stretch is not confirmed.
4. Bash drops NUL bytes when it reads, so what it read is printed only if its length equals the
   distance that the descriptor moved; otherwise processes copy the same stretch.
5. Which file was written after which is told by the names of each row of rotated files. Times are
   asked only for how two rows lie between each other, where two rotators are at work, and for what
   is a copy.
6. A file is known by its first bytes, and by those of the file before it (`before`, DIGEST.COUNT;
   empty: there was none; `?`: not known; `+N`: so many empty ones lie between). The latter find the
   place of one that is young or gone.
7. Whoever copies a log and then cuts it destroys what was written between the two. So a copy is
   never left without telling a gap. Whether a rotated file is one, not everything tells: `lossy`
   says that the open one is, `copies` (a `~` behind the digests) that there are some, so that each
   that was opened `by_name` may be one.
"""

SCRIPT = r"""
export LC_ALL=C
pos=0 head='' head_bytes=0 silent=0 lossy='' missed=0 calm=0 idle=0 packed='' own='' before=''
nothing=e3b0c44298fc1c149afbf4c8996fb924  # digest of no bytes at all
young=32 copies='' by_name='' misplaced=0 come='' come_full=''

say() { printf '\n\036%s %s\n' "$mark" "$*" || exit 1; }

give_up() { say X "$*"; exit 1; }

# The first bytes of a file as they were written. The second word is its name, where the first is
# a descriptor.
first_bytes() {
  seen=''
  case ${2-$1} in
    *.gz) IFS= read -r -N 256 seen < <(gzip -dc <"$1") ;;
    *) IFS= read -r -N 256 seen <"$1" ;;
  esac
}

opening() {
  case ${3-$2} in
    *.gz) gzip -dc <"$2" | head -c "$1" ;;
    *) head -c "$1" <"$2" ;;
  esac
}

digest() {
  printed=$nothing
  (( $1 )) || return 0
  printed=$(opening "$@" | sha256sum) || return 1
  printed=${printed:0:32}
}

# Is the open file still the one that began as we know it? It may only have grown.
whole() {
  first_bytes /proc/self/fd/3
  [[ $seen == "$head"* || ( -z $seen && ! -r /proc/self/fd/3 ) ]]
}

# Does what was seen begin as the open file does? A copy may have been taken when it was shorter.
alike() {
  [[ -n $seen && -n $head ]] || return 1
  [[ $seen == "$head"* ]] || { (( ${#seen} >= young )) && [[ $head == "$seen"* ]]; }
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
  if IFS= read -r -t "$1" word; then answer
  elif (( $? <= 128 || ++silent > silent_max )); then exit 0
  fi
}

answer() {
  silent=0
  still_there
  [[ -z $placed ]] || say K "$pos"
}

# Nothing is new, as for most of a log's life: wait until it is. All VMs do this all the time, so it
# calls nothing, and what seldom changes is looked at seldom. `come` is what it read. Not for a file
# of the past: that its name is another's is known, and what was written after it is waiting.
doze() {
  local word
  while :; do
    if IFS= read -r -t "$poll" word; then
      answer
      return 0
    elif (( $? <= 128 || ++silent > silent_max )); then exit 0
    fi
    IFS= read -r -N 8192 -u 3 come && come_full=1
    [[ -z $come ]] || return 0
    (( ++idle % 5 )) && continue
    whole || { truncated; return 0; }
    [[ $log -ef /proc/self/fd/3 ]] || return 0
  done
}

# --- the past of the log: its rotated files, oldest first, without the .gz of those packed

exists() { [[ -f $1 || -f $1.gz ]]; }

# While a file is being packed both are there, and the packed one is not whole.
actual() { actual=$1; [[ -f $1 ]] || actual=$1.gz; }

# Names move up in one row and down in another while we look: each is walked in the direction in
# which a moving file cannot slip past.
list_past() {
  local n name up=() down=() dated=() days=() middle
  for (( n = 1; n <= rotated_max; n++ )); do
    exists "$log.$n" && up=("$log.$n" "${up[@]}")
  done
  for (( n = rotated_max; n >= 1; n-- )); do
    exists "$stem.$n$ending" && down=("$stem.$n$ending" "${down[@]}")
  done
  days=("$log"[-.][0-9][0-9][0-9][0-9]* "$stem"[-.][0-9][0-9][0-9][0-9]*)
  for name in "${days[@]}"; do
    name=${name%.gz}
    if [[ $name == "$log"* ]]; then middle=${name#"$log"}
    elif [[ $name == *"$ending" ]]; then middle=${name#"$stem"} middle=${middle%"$ending"}
    else continue
    fi
    [[ $middle =~ ^[-.][0-9]{4}[-.:_T0-9]*$ ]] && dated+=("$name")
  done
  if (( ${#dated[@]} )); then
    mapfile -d '' -t dated < <(printf '%s\0' "${dated[@]}" | sort -zuV)
    n=$(( ${#dated[@]} - rotated_max ))
    dated=("${dated[@]:n > 0 ? n : 0}")
  fi
  (( ${#down[@]} && ( ${#up[@]} || ${#dated[@]} ) )) && copies=1  # two rotators
  past=()
  join "${up[@]}"; join "${down[@]}"; join "${dated[@]}"
}

# Where two rotators are at work, the times of the last bytes tell how their rows lie.
join() {
  local i=0 one joined=()
  while (( $# && i < ${#past[@]} )); do
    actual "${past[i]}"; one=$actual
    actual "$1"
    if [[ $actual -ot $one ]]; then joined+=("$1"); shift
    else joined+=("${past[i]}"); (( i += 1 ))
    fi
  done
  past=("${joined[@]}" "${past[@]:i}" "$@")
}

# All names, and which files they are.
look() {
  local i names=("$log")
  list_past
  for i in "${!past[@]}"; do actual "${past[i]}"; names+=("$actual"); done
  seen_names="${names[*]} $(stat -L -c %d:%i "${names[@]}")"
}

unmoved() { look; [[ $seen_names == "$1" ]]; }

# Was a later file there before this slot's? Then it is a copy of one that was cut: what is renamed
# came before all that follow. Packing makes another file, and leaves it the time of its last bytes.
# Not every file system knows when a file came to be. The names must be the same afterwards.
is_copy() {
  local i since='' born changed names=()
  for (( i = $1; i < ${#past[@]}; i++ )); do actual "${past[i]}"; names+=("$actual"); done
  (( ${#names[@]} )) || return 1
  [[ ! -f $log ]] || names+=("$log")
  while read -r born changed; do
    born=${born/./} changed=${changed/./}
    [[ $born$changed =~ ^[0-9]+$ ]] || return 1
    if [[ -n $since ]]; then
      (( ! 10#$born || 10#$born >= 10#$since )) || return 0
    elif [[ ${names[0]} == *.gz ]]; then since=$changed
    else since=$born
    fi
  done < <(stat -L -c '%.9W %.9Y' "${names[@]}")
  return 1
}

# The open file becomes the one before ours.
note_open() {
  local count
  count=$(opening 256 /proc/self/fd/3 "$packed" | wc -c)
  digest "$count" /proc/self/fd/3 "$packed" && before=$printed.$count
}

# What lies before slot $1: that of which `before` is said.
note_before() {
  local i count empty=0
  before=''
  for (( i = $1 - 1; i >= 0; i-- )); do
    actual "${past[i]}"
    length "$actual"
    if (( ! count )); then (( empty += 1 )); continue; fi
    digest "$count" "$actual" || continue
    before=$printed.$count
    break
  done
  (( ! empty )) || before+=+$empty
}

# How many of the first 256 bytes there are.
length() {
  case $1 in
    *.gz) count=$(opening 256 "$1" | wc -c) ;;
    *) count=$(stat -L -c %s "$1") ;;
  esac
  (( count = count < 256 ? count : 256 ))
}

# The slot of the file before ours: -1 where there was none.
find_before() {
  local known=${before%+*} empty=0 count
  [[ $before != *+* ]] || empty=${before##*+}
  if [[ $before == '?' ]]; then slot=$(( ${#past[@]} - 1 )); return 0; fi
  slot=-1
  if [[ -n $known ]]; then
    for (( slot = ${#past[@]} - 1; slot >= 0; slot-- )); do
      actual "${past[slot]}"
      digest "${known#*.}" "$actual" && [[ $printed == "${known%.*}" ]] && break
    done
    (( slot >= 0 )) || return 1
  fi
  while (( empty-- > 0 && slot + 1 < ${#past[@]} )); do
    actual "${past[slot + 1]}"
    length "$actual"
    (( ! count )) || break
    (( slot += 1 ))
  done
  return 0
}

# The slot of the open file itself.
find_own() {
  for slot in "${!past[@]}"; do
    actual "${past[slot]}"
    [[ $actual -ef /proc/self/fd/3 ]] && return 0
  done
  slot=-1
  return 1
}

# The slot of another file that begins as ours: a copy of it, or it itself when it was packed.
# A few bytes say little: then only the file that follows the one before us can be it.
find_twin() {
  local first=0 last=${#past[@]}
  [[ -n $head ]] || return 1
  if (( ${#head} < young )); then
    find_before || return 1
    first=$(( slot + 1 )) last=$(( slot + 2 < last ? slot + 2 : last ))
  fi
  for (( slot = last - 1; slot >= first; slot-- )); do
    actual "${past[slot]}"
    [[ $actual -ef /proc/self/fd/3 ]] && continue
    first_bytes "$actual"
    alike && return 0
  done
  return 1
}

name_of() {
  name=$log
  if (( $1 < ${#past[@]} )); then actual "${past[$1]}"; name=$actual; fi
}

# --- places

# Descriptor 3 is open: tell which file it is, and go to the offset. The fourth word is what a look
# at the names told. If that has changed the file is not what it was by them: it was copied and cut,
# perhaps, and what was in it is elsewhere now.
place() {
  local old_head=$head old_own=$own
  settle "$1" "$2" "$3" "${4-}" && return 0
  head=$old_head own=$old_own
  return 1
}

settle() {
  local kind=$1 offset=$2 gap=$3 was=$4 tries identity size count
  for tries in 1 2 3 4 5; do
    { exec 3</proc/self/fd/3; } || return 1
    identity=$(stat -L -c '%d:%i %s' /proc/self/fd/3) || return 1
    size=${identity#* } identity=${identity% *}
    if [[ -n $packed ]]; then
      exec 5< <(gzip -dc </proc/self/fd/3)
      count=$(opening 256 /proc/self/fd/3 .gz | wc -c)
      (( offset == 0 || $(head -c "$offset" <&5 | wc -c) == offset )) || return 1
    else
      (( offset <= size )) || return 1
      count=$(( size < 256 ? size : 256 ))
    fi
    first_bytes /proc/self/fd/3 "$packed"; head=$seen
    digest "$count" /proc/self/fd/3 "$packed" || return 1
    own=$printed
    if [[ -z $packed ]]; then
      (( offset == 0 )) || dd iflag=skip_bytes skip="$offset" count=0 status=none <&3 || return 1
      where
      (( at == offset )) || return 1
      whole || continue
      head=$seen
    fi
    [[ -z $was ]] || unmoved "$was" || return 1
    head_bytes=$count pos=$offset placed=1 extent=0
    say H "$kind" "$identity" "$own:$before${copies:+~}" "$count" "$offset" "$gap"
    return 0
  done
  return 1
}

# Open what has this name now. True: it still has it.
open_name() {
  [[ -f $1 ]] && { exec 3<"$1"; } || return 1
  [[ -f /proc/self/fd/3 && $1 -ef /proc/self/fd/3 ]] || return 1
  packed=''
  [[ $1 != *.gz || $1 == "$log" ]] || packed=.gz
}

# The place is lost: go on behind the file that lay before it. What is left of the past from there
# on was not read yet; if that file is gone, so are all that were older.
resettle() {
  local kind=$1 next name old was copy
  placed=''
  while :; do
    until [[ -f $log ]]; do pause "$poll"; done
    look; was=$seen_names
    find_before || slot=-1
    next=$(( slot + 1 ))
    name_of "$next"
    old=$before
    if open_name "$name"; then
      note_before "$next"
      if unmoved "$was"; then
        first_bytes /proc/self/fd/3 "$packed"
        if [[ $name != "$log" ]] && alike; then  # a copy of ours after all
          before=$old
          place same "$pos" 0 && { lossy=1 by_name=1; return 0; }
          note_open
          continue
        fi
        copy=''
        ! is_copy "$next" || copy=1
        if place "$kind" 0 '?' "$was"; then
          lossy=$copy by_name=''
          [[ $name == "$log" ]] || by_name=1
          return 0
        fi
      fi
      before=$old
    fi
    pause "$poll"
  done
}

# While the file is shorter than 256 bytes its fingerprint grows with it.
grown() {
  local count=$(( at < 256 ? at : 256 ))
  (( head_bytes < 256 && count > head_bytes )) || return 1
  digest "$count" /proc/self/fd/3 || return 1
  own=$printed head_bytes=$count
  news="F $own:$before${copies:+~} $count"
}

# The open file was empty: does it still follow the file before it? Else what came between was
# written, copied and cut since we looked. Descriptor 8 is on that file while nothing has come.
follows() {
  local old=$before were=0
  list_past
  find_own || slot=${#past[@]}
  if (( slot )); then
    actual "${past[slot - 1]}"
    [[ ! $actual -ef /proc/self/fd/8 ]] || return 0
  fi
  note_before "$slot"
  [[ $before == "$old" || $old == '?' ]] && return 0
  # Ours was renamed, and what was before it thrown away, but for some of the empty ones.
  if (( slot < ${#past[@]} )) && [[ -z $before || $before == +* ]]; then
    [[ $old != *+* ]] || were=${old##*+}
    (( ${before#+} + 0 > were )) || return 0
  fi
  before=$old
  return 1
}

# Send what is new in the open file. True: something was.
drain() {
  local piece=$come full=$come_full news=''
  come='' come_full=''
  if [[ -n $packed ]]; then unpack; return; fi
  if [[ -z $piece ]]; then
    full=''
    IFS= read -r -N 8192 -u 3 piece && full=1
  fi
  [[ -n $piece ]] || return 1
  where
  whole && { (( pos )) || [[ $seen == "${piece:0:256}"* ]]; } || { truncated; return 0; }
  if (( head_bytes == 0 )); then
    follows || follows || { resettle next; return 0; }
    exec 8<&-
  fi
  head=$seen
  grown
  [[ -z $news ]] || say "$news"
  if (( at - pos == ${#piece} )); then
    printf '%s' "$piece" || exit 1
  else
    full=''
    if (( at - pos > bulk )); then  # a hole: no more than is confirmed at once
      (( at = pos + bulk ))
      { exec 3</proc/self/fd/3; } || exit 1
      dd iflag=skip_bytes skip="$at" count=0 status=none <&3 || exit 1
    fi
    tail -c "+$(( pos + 1 ))" </proc/self/fd/3 | head -c "$(( at - pos ))" || exit 1
    whole || { truncated; return 0; }
  fi
  if [[ -n $full ]]; then
    full=$at
    dd bs=65536 count="$bulk" iflag=count_bytes status=none <&3 || exit 1
    where
    if ! whole; then truncated; return 0; fi
    # How far the file went is asked again when all that was there then has been read.
    if (( at - full < bulk )); then extent=$at
    elif (( at >= extent )); then extent=$(stat -L -c %s /proc/self/fd/3)
    fi
  fi
  pos=$at
  say K "$pos" ${full:+$(( extent > pos ? extent - pos : 0 ))}
}

# The open file is packed and does not grow: what is left of it, piece by piece.
unpack() {
  local said
  [[ $packed == .gz ]] || return 1
  said=$( { dd bs="$bulk" count=1 iflag=fullblock <&5 >&6; } 2>&1 )
  if [[ $said =~ ([0-9]+)\ bytes ]] && (( BASH_REMATCH[1] )); then
    (( pos += BASH_REMATCH[1] ))
    say K "$pos"
    return 0
  fi
  exec 5<&-
  gzip -t </proc/self/fd/3 || lossy=1
  packed=.gz.read calm=$grace
  return 1
}

# A file may be cut to a length that is not zero: seldom, so it is looked for seldom.
still_there() {
  local size
  [[ -n $placed && -z $packed ]] || return 0
  size=$(stat -L -c %s /proc/self/fd/3) || size=0
  (( size >= pos )) && whole && return 0
  truncated
  return 1
}

# The open file was cut. If a copy was taken before, the rest of it is read there first.
truncated() {
  local was is_read=''
  placed='' copies=1
  while [[ -z $is_read ]]; do
    look; was=$seen_names
    if find_twin; then
      exec 7<&3
      # It was found by its name, which may be another's by now.
      if open_name "$actual" && { first_bytes /proc/self/fd/3 "$packed"; alike; }; then
        if place same "$pos" 0; then
          exec 7<&-
          lossy=1 calm=0
          return 0
        fi
        note_open && is_read=1  # all of it, and more than that
      fi
      exec 3<&7 7<&-
      packed=''
    elif unmoved "$was"; then
      break
    fi
    pause "$poll"
  done
  resettle anew
}

# The file that was written after the open one.
successor() {
  gap=0 is_itself=''
  if find_own; then is_itself=1
  elif ! find_twin; then
    gap='?'
    find_before || slot=-1
  fi
  next=$(( slot + 1 ))
  name_of "$next"
}

# The open file has ended and its name belongs to another: go on to the next one.
advance() {
  local name next gap is_itself was kind=next offset=0 was_packed=$packed old=$before new copy=''
  if (( head_bytes == 0 )); then
    follows || follows || { resettle next; return 0; }
  fi
  look; was=$seen_names
  successor
  [[ -f $name && ! $name -ef /proc/self/fd/3 ]] || return 1
  { exec 4<"$name"; } || return 1
  if [[ -n $is_itself ]] && (( head_bytes )); then new=$own.$head_bytes
  else note_before "$next"; new=$before before=$old
  fi
  if ! unmoved "$was" || [[ ! $name -ef /proc/self/fd/4 ]]; then
    exec 4<&-
    return 1
  fi
  first_bytes /proc/self/fd/4 "$name"
  # It begins as what we have read: that was a copy of it, and it has not been cut yet.
  if (( ${#head} >= young )) && alike; then kind=same offset=$pos; fi
  ! is_copy "$next" || copy=1
  exec 7<&3 3<&4 4<&-
  packed=''
  [[ $name != *.gz || $name == "$log" ]] || packed=.gz
  if [[ $kind == next ]]; then
    [[ -z $lossy && ( -z $by_name || -z $copies ) ]] || gap='?'
    before=$new
  fi
  if place "$kind" "$offset" "$gap" "$was"; then
    exec 8<&7 7<&-
    (( head_bytes == 0 )) || exec 8<&-
    misplaced=0 lossy=$copy by_name=''
    [[ $name == "$log" ]] || by_name=1
    return 0
  fi
  # It is moved or cut this moment, as a rule.
  [[ $kind == same ]] || (( ++misplaced < 10 )) || give_up 'the next file cannot be placed'
  exec 3<&7 7<&-
  packed=$was_packed before=$old
  return 1
}

# Look for the file in which we stopped: by identity and first bytes, then by first bytes alone.
found() {
  local name manner i
  look; was=$seen_names
  before=$fp_before
  if (( fp_bytes < young )) && [[ $before != '?' ]]; then
    find_before || return 1
    i=$(( slot + 1 ))
    name_of "$i"
    begins_as_known "$name" && judge "$i" && unmoved "$was" && place same "$fp_offset" 0
    return
  fi
  for manner in same any; do
    [[ $manner == same ]] || (( fp_bytes >= young )) || return 1
    for (( i = ${#past[@]}; i >= 0; i-- )); do
      name_of "$i"
      [[ $manner == any || $(stat -L -c %d:%i "$name") == "$fp_identity" ]] || continue
      begins_as_known "$name" || continue
      before=$fp_before
      judge "$i"
      unmoved "$was" || return 1
      place same "$fp_offset" 0 && return 0
      # A copy that ends before our place: all of it was read.
      if [[ $manner == any && $name != "$log" ]]; then
        note_open && fp_before=$before missed=3
        return 1
      fi
    done
  done
  return 1
}

# We go on in this slot's file. If it is one of the past: is it where we stopped, or a copy of that?
judge() {
  lossy='' by_name=''
  (( $1 < ${#past[@]} )) || return 0
  by_name=1
  if [[ -z $packed && $(stat -L -c %d:%i /proc/self/fd/3) != "$fp_identity" ]]; then lossy=1
  elif is_copy "$1"; then lossy=1
  fi
  if [[ -n $lossy || $(stat -L -c %d:%i "$log") == "$fp_identity" ]]; then copies=1; fi
}

begins_as_known() {
  open_name "$1" || return 1
  (( fp_bytes == 0 )) && return 0
  digest "$fp_bytes" /proc/self/fd/3 "$packed" && [[ $printed == "$fp_own" ]]
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
  local begin=0 was
  if [[ -n $fp_identity ]]; then
    [[ -f $log ]] || (( missed < 3 )) || return 1
    found && return 0
    # While names are moving it may be anywhere: look again before it is lost.
    unmoved "$was" || return 1
    (( ++missed >= 3 )) || return 1
    [[ -f $log ]] || return 1
    before=$fp_before
    resettle lost
    return
  fi
  open_name "$log" || { missed=1; return 1; }
  look; was=$seen_names
  # A file that came to be while we waited for it is new from its first byte on.
  (( missed )) || line_end || return 1
  note_before "${#past[@]}"
  unmoved "$was" && [[ $log -ef /proc/self/fd/3 ]] || return 1
  place start "$begin" 0
}

follow() {
  log=${STACKWARD_ROOT-}$1 mark=$2 poll=$3 silent_max=$4 bulk=$5 rotated_max=$6 grace=$7
  fp_identity=$8 fp_own=${9%%:*} fp_before='?' fp_bytes=${10} fp_offset=${11}
  [[ $9 != *:* ]] || fp_before=${9#*:}
  [[ $9 != *'~' ]] || fp_before=${fp_before%'~'} copies=1
  exec 2>/dev/null 6>&1
  shopt -s nullglob
  stem=${log%.*} ending=.${log##*.} placed='' soon=''
  [[ ${log##*/} == *.* ]] || stem=$log ending=.rotated
  if ! start; then
    say W
    until pause "$poll"; start; do :; done
  fi
  while :; do
    if drain; then
      calm=0 soon=0.01
      read -t 0 && pause "$poll"
      continue
    fi
    # Whoever writes a message with its trace may be between the two: do not keep the rest waiting.
    if [[ -n $soon ]]; then
      pause "$soon"
      (( silent -= silent > 0 ))
      soon=''
      continue
    fi
    if [[ -z $packed$by_name$lossy ]] && (( calm == 0 )); then
      doze
      [[ -z $come ]] || continue
    elif [[ $packed != .gz.read ]]; then
      pause "$poll"
      [[ -n $packed ]] || (( ++idle % 5 )) || whole || truncated
    fi
    if [[ $log -ef /proc/self/fd/3 ]]; then calm=0; continue; fi
    (( ++calm >= grace )) || continue
    if [[ ! -f $log ]] && { list_past; ! find_own; }; then calm=$(( grace - 10 )); continue; fi
    still_there || continue
    drain && continue
    if advance; then calm=0
    elif (( calm >= grace + 3 )); then calm=$(( grace - 10 ))  # it may be long in coming
    fi
  done
}
"""
