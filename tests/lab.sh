#!/usr/bin/env bash
# tests/lab.sh [WORD...] - the three programs on three hosts, two of them behind NAT (Linux, as root).
#
#   bridge -- nat a --+                        +-- nat b -- agent
#   10.71.1.2         | 203.0.113.2  relay     |            10.71.2.2
#                     +------------ 192.0.2.1 -+ 198.51.100.2
#
# Five network namespaces: the hosts and the two routers. The routers masquerade with random ports, let
# nothing in that was not asked for, and drop silently. Each check prints one line that begins with
# `ok`, `FAIL` or `skipped`; with WORDs only the checks are made whose name holds one of them. Ends with
# 0 if none failed, 1 if one did, 2 if the lab cannot be built here. Whatever happens, no namespace, no
# process and no file is left.
#
# Addresses are from the ranges for documentation and private use; nothing leaves the namespaces.
# FARWIRE_PROGRAMS names the directory of the programs; `cargo xtask lab` builds them and sets it.
# shellcheck disable=SC2015 # A && B || C: C is for both
set -uo pipefail
export LC_ALL=C

relay_ip=192.0.2.1 nat_a=203.0.113.2 nat_b=198.51.100.2 port=4433
lab=fwlab$$
words=("$@")
ok=0 failed=0 skipped=0 note=""
relay="" agent=""

no_lab() {
    echo "no lab here: $*" >&2
    exit 2
}

# --- what this needs

programs=${FARWIRE_PROGRAMS:-$(dirname "$0")/../target/debug}
[ "$(uname -s)" = Linux ] || no_lab "network namespaces are of Linux"
[ "$(id -u)" = 0 ] || no_lab "network namespaces need root"
for need in ip:iproute2 ss:iproute2 nft:nftables conntrack:conntrack timeout:coreutils cmp:diffutils; do
    command -v "${need%%:*}" >/dev/null || no_lab "\`${need%%:*}\` is missing (Debian: apt-get install ${need##*:})"
done
for program in farwire farwire-agent farwire-relay; do
    [ -x "$programs/$program" ] || no_lab "$programs/$program is missing: \`cargo build --bins\` makes it"
done
programs=$(cd "$programs" && pwd)

# --- cleaning up

dir=$(mktemp -d) || no_lab "no scratch directory"

processes() {
    local host
    for host in bridge nata relay natb agent; do ip netns pids "$lab-$host" 2>/dev/null; done
}

nobody() { [ -z "$(processes)" ]; }

clean_up() {
    trap '' INT TERM HUP
    local host left
    left=$(processes)
    # What runs in our namespaces was started here, or by an agent that was.
    # shellcheck disable=SC2086
    [ -z "$left" ] || kill -9 $left 2>/dev/null
    { wait; } 2>/dev/null
    within 10 nobody || echo "processes are left: $(processes | tr '\n' ' ')" >&2
    for host in bridge nata relay natb agent; do ip netns del "$lab-$host" 2>/dev/null; done
    rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# --- words that the checks are made of

# within SECONDS COMMAND...: waits until it succeeds.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.05
    done
}

# on HOST COMMAND...
on() {
    local host=$1
    shift
    ip netns exec "$lab-$host" "$@"
}

farwire() { on bridge timeout -k 5 120 "$programs/farwire" --home "$dir/bridge" "$@"; }

start_relay() {
    : >"$dir/ready"
    ip netns exec "$lab-relay" "$programs/farwire-relay" serve --listen "$relay_ip:$port" \
        --advertise "$relay_ip:$port" --http 127.0.0.1:4480 --data "$dir/relay" --log info \
        >"$dir/ready" 2>>"$dir/relay.log" </dev/null &
    relay=$!
    within 20 grep -q '^ready ' "$dir/ready"
}

start_agent() {
    ip netns exec "$lab-agent" "$programs/farwire-agent" run --state "$dir/agent" --log info \
        >>"$dir/agent.log" 2>&1 </dev/null &
    agent=$!
}

# Ends a process as a power cut would.
kill_hard() {
    kill -9 "$1"
    { wait "$1"; } 2>/dev/null
}

online() { farwire servers --json 2>/dev/null | grep -q '"state": *"online"'; }

# The local ports of a process's UDP sockets.
udp_port() { on "$1" ss -Hnulp | sed -n "s/.*:\([0-9]\+\) .*pid=$2,.*/\1/p" | head -n 1; }

# outside ROUTER PORT: the port that a router shows for an inner one.
outside() {
    on "$1" conntrack -L -p udp 2>/dev/null |
        sed -n "s/.*sport=$2 dport=$port .*sport=$port dport=\([0-9]\+\).*/\1/p" | head -n 1
}

# impair RULE: each router treats what it forwards by this rule, until `impair` alone.
impair() {
    local router
    for router in nata natb; do
        on "$router" nft delete table ip impair 2>/dev/null
        [ $# = 0 ] || on "$router" nft -f - <<RULES || return 1
table ip impair {
    set ports { type inet_service; }
    chain through { type filter hook forward priority -10; $1; }
}
RULES
    done
    true
}

# How many packets a router has met by a rule that counts.
counted() { on "$1" nft list ruleset | sed -n "s/.*$2.*counter packets \([0-9]\+\).*/\1/p" | head -n 1; }

lines() { wc -l <"$1"; }
has_lines() { [ "$(lines "$1")" -ge "$2" ]; }

# begin_counting [LAST]: a run that counts until it is told to go, says LAST, and ends with 23; silent
# as long as it is told to hush. Sets `counting`.
begin_counting() {
    rm -f "$dir/go" "$dir/go.hush" "$dir/go.hushed"
    : >"$dir/counted"
    : >"$dir/counting.err"
    # shellcheck disable=SC2016
    ip netns exec "$lab-bridge" "$programs/farwire" --home "$dir/bridge" run box -n -- sh -c \
        'n=0
        while [ ! -e "$1" ]; do
            if [ -e "$1.hush" ]; then echo $n >"$1.hushed"; else n=$((n+1)); echo $n; fi
            sleep 0.02
        done
        '"${1:-:}"'; echo last $n; exit 23' \
        sh "$dir/go" >"$dir/counted" 2>"$dir/counting.err" </dev/null &
    counting=$!
    within 20 has_lines "$dir/counted" 20 || { note="the run did not begin"; return 1; }
}

# It speaks again after what was done to it.
still_counts() {
    within 60 has_lines "$dir/counted" $(($(lines "$dir/counted") + 50)) || { note="nothing came any more"; return 1; }
}

running() { kill -0 "$1" 2>/dev/null; }
ended() { ! running "$1"; }

# end_counting: every line is there once, in order, and so is the exit code.
end_counting() {
    touch "$dir/go"
    within 90 ended "$counting" || { note="the run did not end"; kill -9 "$counting"; wait "$counting"; return 1; }
    local code=0 n
    wait "$counting" || code=$?
    n=$(sed -n 's/^last //p' "$dir/counted")
    [ "$code" = 23 ] || { note="exit code $code instead of 23: $(tail -n 1 "$dir/counting.err")"; return 1; }
    { seq "$n"; [ ! -e "$dir/bulk" ] || cat "$dir/bulk"; echo "last $n"; } | cmp -s - "$dir/counted" ||
        { note="the output is not what the program wrote"; return 1; }
    note="${note:+$note, }$n lines, code 23"
}

# five_megabytes: random bytes come byte for byte.
five_megabytes() {
    local begun=$SECONDS code=0
    head -c 5000000 /dev/urandom >"$dir/random"
    farwire run box -n -- cat "$dir/random" >"$dir/came" 2>"$dir/err" || code=$?
    [ "$code" = 0 ] || { note="exit code $code: $(tail -n 1 "$dir/err")"; return 1; }
    cmp -s "$dir/random" "$dir/came" || { note="$(stat -c %s "$dir/came") bytes came, or others"; return 1; }
    note="${note:+$note; }5000000 bytes in $((SECONDS - begun)) s"
}

# check NAME FUNCTION: 0 is ok, 77 skipped, anything else failed; `note` says more.
check() {
    local word code=0
    if [ ${#words[@]} != 0 ]; then
        for word in "${words[@]}"; do [[ $1 == *"$word"* ]] && break; done
        [[ $1 == *"$word"* ]] || return 0
    fi
    note=""
    "$2" || code=$?
    case $code in
        0) ok=$((ok + 1)) && echo "ok      $1${note:+ ($note)}" ;;
        77) skipped=$((skipped + 1)) && echo "skipped $1: $note" ;;
        *)
            failed=$((failed + 1)) && echo "FAIL    $1${note:+: $note}"
            tail -n 5 "$dir/relay.log" "$dir/agent.log" 2>/dev/null | sed 's/^/            /'
            ;;
    esac
}

# --- the network

router() { # NAME LAN
    on "$1" sysctl -qw net.ipv4.ip_forward=1 || return 1
    on "$1" nft -f - <<RULES
table ip nat {
    chain out { type nat hook postrouting priority srcnat; oifname wan masquerade fully-random; }
}
table ip wall {
    chain through {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname lan accept
    }
    chain inbound {
        type filter hook input priority 0; policy accept;
        ct state established,related accept
        iifname wan counter drop
    }
}
RULES
}

# Every packet is on its own, so that one that is lost is one.
wire() { # HOST INTERFACE ADDRESS HOST INTERFACE ADDRESS
    ip link add name "$2" netns "$lab-$1" type veth peer name "$5" netns "$lab-$4" &&
        ip -n "$lab-$1" addr add "$3" dev "$2" && ip -n "$lab-$4" addr add "$6" dev "$5" &&
        ip -n "$lab-$1" link set "$2" gso_max_segs 1 up && ip -n "$lab-$4" link set "$5" gso_max_segs 1 up
}

build() {
    local host
    for host in bridge nata relay natb agent; do
        ip netns add "$lab-$host" && ip -n "$lab-$host" link set lo up || return 1
    done
    wire bridge eth0 10.71.1.2/24 nata lan 10.71.1.1/24 && wire agent eth0 10.71.2.2/24 natb lan 10.71.2.1/24 &&
        wire nata wan $nat_a/24 relay net-a 203.0.113.1/24 && wire natb wan $nat_b/24 relay net-b 198.51.100.1/24 &&
        ip -n "$lab-relay" addr add $relay_ip/32 dev lo && on relay sysctl -qw net.ipv4.ip_forward=1 &&
        ip -n "$lab-bridge" route add default via 10.71.1.1 && ip -n "$lab-nata" route add default via 203.0.113.1 &&
        ip -n "$lab-agent" route add default via 10.71.2.1 && ip -n "$lab-natb" route add default via 198.51.100.1 &&
        router nata && router natb
}

export HOME=$dir/home
unset FARWIRE_HOME FARWIRE_AGENT_STATE FARWIRE_RELAY_DATA FARWIRE_RELAY_CONFIG FARWIRE_LOG XDG_CONFIG_HOME
mkdir "$HOME"
build || no_lab "the kernel refused a namespace, a veth pair or a rule of nftables"

# --- the checks

enrolls() {
    start_relay || { note="the relay does not get ready: $(tail -n 1 "$dir/relay.log")"; return 1; }
    sed -n 's/^ready //p' "$dir/ready" | farwire init --relay - --name lab >"$dir/out" 2>&1 ||
        { note=$(tail -n 1 "$dir/out"); return 1; }
    farwire server create box --json >"$dir/token" 2>"$dir/out" || { note=$(tail -n 1 "$dir/out"); return 1; }
    sed -n 's/.*"token": *"\([^"]*\)".*/\1/p' "$dir/token" |
        on agent timeout 60 "$programs/farwire-agent" enroll --state "$dir/agent" --token - --wait 50 >"$dir/out" 2>&1 &
    local enrolling=$!
    # shellcheck disable=SC2317
    enrolled() { farwire servers >/dev/null 2>&1; ended "$enrolling"; }
    within 50 enrolled && wait "$enrolling" || { note=$(tail -n 1 "$dir/out"); return 1; }
    start_agent
    within 30 online || { note="the agent does not come online"; return 1; }
}

no_listener() {
    local found
    found=$(on agent ss -Hlntp)
    [ -z "$found" ] || { note=$found; return 1; }
}

only_its_own() {
    local found
    found=$(on agent ss -Hlnup)
    if [ "$(wc -l <<<"$found")" != 1 ] || [[ $found != *pid=$agent,* ]]; then
        note=$found
        return 1
    fi
    note="ss lists one UDP socket, the one it dials out with: UDP knows no listening"
}

# said_nothing HOST udp|tcp ADDRESS PORT: probes and fails if anything comes back.
said_nothing() {
    # shellcheck disable=SC2016
    local probe='
        datagram() { { printf "$1"; head -c 1300 /dev/urandom; } | dd bs=1300 count=1 iflag=fullblock status=none >&3; }
        exec 3<>"/dev/$1/$2/$3" || exit 0
        [ "$1" = udp ] || exit 3
        echo hello >&3
        datagram "\\x40"                                    # QUIC: of a connection that nobody knows
        datagram "\\xc0\\0\\0\\0\\1\\10abcdefgh\\10abcdefgh"  # QUIC: the first packet of a client
        datagram "\\xc0aaaa\\10abcdefgh\\10abcdefgh"         # QUIC: the same in no version that there is
        came=$(timeout 1 head -c 1 <&3 | od -An -tx1)
        [ -z "$came" ] || exit 3'
    local code=0
    on "$1" timeout 2 bash -c "$probe" probe "$2" "$3" "$4" 2>/dev/null || code=$?
    [ $code != 3 ]
}

unreachable_from_outside() {
    local before mapped tcp
    mapped=$(outside natb "$(udp_port agent "$agent")")
    [ -n "$mapped" ] || { note="the router has no mapping for the agent"; return 1; }
    said_nothing natb udp $relay_ip $port && { note="the relay does not answer either: this check proves nothing"; return 1; }
    before=$(counted natb 'iifname "wan"')
    said_nothing relay udp $nat_b "$mapped" || { note="UDP port $mapped answered a stranger"; return 1; }
    said_nothing nata udp $nat_b "$mapped" || { note="UDP port $mapped answered a stranger"; return 1; }
    for tcp in 22 80 443 "$port" "$mapped"; do
        said_nothing relay tcp $nat_b "$tcp" || { note="TCP port $tcp accepts"; return 1; }
    done
    local after
    after=$(counted natb 'iifname "wan"')
    ((after > before)) || { note="the probes did not arrive at the router: this check proves nothing"; return 1; }
    note="$((after - before)) probes at the mapped UDP port and at TCP ports dropped by the router"
}

unreachable_from_its_lan() {
    said_nothing natb udp 10.71.2.2 "$(udp_port agent "$agent")" ||
        { note="the agent answered a stranger on its own LAN"; return 1; }
    said_nothing natb tcp 10.71.2.2 22 || return 1
    note="no router in between: the agent itself says nothing to strangers"
}

runs() {
    local code=0
    echo in | farwire run box -c 'cat; echo err >&2; exit 7' >"$dir/out" 2>"$dir/err" || code=$?
    [ "$code $(cat "$dir/out") $(cat "$dir/err")" = "7 in err" ] ||
        { note="code $code: $(cat "$dir/out" "$dir/err")"; return 1; }
    code=0
    farwire run box -n -c 'kill -TERM $$' 2>"$dir/err" || code=$?
    [ $code = 143 ] || { note="$code instead of 143 for TERM"; return 1; }
    note="codes 7 and 128+15, standard input, output and error"
}

# The answer to one MCP request, by its id.
answer() {
    local line
    while IFS= read -r -t 60 -u "${mcp[0]}" line; do
        [[ $line == *"\"id\":$1,"* || $line == *"\"id\":$1}"* ]] && printf '%s\n' "$line" && return
    done
    return 1
}

runs_by_mcp() {
    local said=""
    coproc mcp { exec ip netns exec "$lab-bridge" "$programs/farwire" --home "$dir/bridge" mcp serve 2>"$dir/err"; }
    # shellcheck disable=SC2154 # coproc sets it
    local server=$mcp_PID
    {
        echo '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"lab","version":"1"}}}'
        echo '{"jsonrpc":"2.0","method":"notifications/initialized"}'
        echo '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"run","arguments":{"server":"box","command":"echo through two routers; exit 5"}}}'
    } >&"${mcp[1]}"
    said=$(answer 2)
    eval "exec ${mcp[1]}>&-"
    within 10 ended "$server" || { note="it did not end with its input"; kill -9 "$server"; return 1; }
    [[ $said == *'exit=5'* && $said == *'through two routers'* ]] || { note="answered: $said"; return 1; }
    note="exit=5"
}

# hushed: all that was said has come, and nothing more is said.
hushed() { [ -s "$dir/go.hushed" ] && [ "$(lines "$dir/counted")" = "$(cat "$dir/go.hushed")" ]; }

# moved ROUTER PORT OLD: the router shows another port.
moved() {
    local now
    now=$(outside "$1" "$2")
    [ -n "$now" ] && [ "$now" != "$3" ]
}

survives_rebinding() {
    local a b a_was b_was
    begin_counting || return 1
    a=$(udp_port bridge $counting) b=$(udp_port agent "$agent")
    a_was=$(outside nata "$a") b_was=$(outside natb "$b")
    [ -n "$a_was" ] && [ -n "$b_was" ] || { note="the routers have no mappings"; return 1; }
    on nata conntrack -F 2>/dev/null
    on natb conntrack -F 2>/dev/null
    still_counts || return 1
    within 30 moved nata "$a" "$a_was" || { note="the bridge's mapping did not change"; return 1; }
    within 30 moved natb "$b" "$b_was" || { note="the agent's mapping did not change"; return 1; }
    note="bridge $a_was to $(outside nata "$a"), agent $b_was to $(outside natb "$b")"
    end_counting
}

# Neither side has anything to send that would tell the other where it is now, until the program speaks
# again: the bridge hears of it when it next keeps its mapping alive.
survives_rebinding_in_silence() {
    local began
    begin_counting || return 1
    touch "$dir/go.hush"
    within 20 hushed || { note="it does not fall silent"; return 1; }
    on nata conntrack -F 2>/dev/null
    on natb conntrack -F 2>/dev/null
    began=$SECONDS
    touch "$dir/go"
    within 60 ended "$counting" || true
    note="the end came after $((SECONDS - began)) s"
    end_counting
}

survives_the_relay() {
    begin_counting || return 1
    kill_hard "$relay"
    start_relay || { note="the relay does not get ready again"; return 1; }
    still_counts || return 1
    end_counting
}

delayed_and_lossy() {
    local router code=0
    command -v tc >/dev/null || { note="there is no \`tc\`"; return 77; }
    for router in nata natb; do
        on $router tc qdisc add dev wan root netem delay 25ms loss 1% 2>/dev/null &&
            on $router tc qdisc add dev lan root netem delay 25ms loss 1% 2>/dev/null ||
            { note="this kernel has no netem"; code=77; break; }
    done
    [ $code = 77 ] || five_megabytes || code=$?
    for router in nata natb; do
        on $router tc qdisc del dev wan root 2>/dev/null
        on $router tc qdisc del dev lan root 2>/dev/null
    done
    return $code
}

lossy() {
    local code=0 lost
    impair 'meta l4proto udp numgen random mod 100 < 1 counter drop' || { note="nftables has no numgen"; return 77; }
    five_megabytes || code=$?
    lost=$(($(counted nata numgen) + $(counted natb numgen)))
    impair
    [ $code = 0 ] || return $code
    ((lost > 0)) || { note="nothing was lost: this check proves nothing"; return 1; }
    note="$note, $lost packets lost"
}

# The agent's connection has found out that packets of 1480 bytes pass; then they do no more.
narrow_path() {
    local router interface code=0
    head -c 2000000 /dev/urandom | od -An -v -tx1 >"$dir/bulk"
    begin_counting "cat '$dir/bulk'" || code=1
    if [ $code = 0 ]; then
        for router in nata natb; do
            for interface in wan lan; do ip -n "$lab-$router" link set $interface mtu 1300 || code=1; done
        done
    fi
    [ $code = 0 ] && { still_counts && end_counting; } || code=1
    rm -f "$dir/bulk"
    [ $code = 0 ] && { five_megabytes || code=1; }
    for router in nata natb; do
        for interface in wan lan; do ip -n "$lab-$router" link set $interface mtu 1500; done
    done
    return $code
}

doctor_names_the_port() {
    local code=0 relay_line
    impair 'meta l4proto udp counter drop' || return 1
    farwire doctor >"$dir/out" 2>&1 || code=$?
    impair
    relay_line=$(grep -A 1 '^BAD  relay' "$dir/out" | tr -s ' \n' ' ')
    relay_line=${relay_line% }
    [ $code = 69 ] || { note="exit code $code: $(cat "$dir/out")"; return 1; }
    [[ $relay_line == *"UDP port $port"*"blocked"* ]] || { note="it says: $(cat "$dir/out")"; return 1; }
    note=${relay_line#BAD }
}

complaints() { grep -c 'not connected' "$dir/agent.log"; }
complained_since() { [ "$(complaints)" -gt "$1" ]; }
tried() { on natb nft list set ip impair ports | grep -o '[0-9]\{4,5\}' | sort -u | wc -l; }
tried_since() { [ "$(tried)" -gt "$1" ]; }

agent_says_it_once() {
    local before times code=0
    before=$(complaints)
    impair "meta l4proto udp add @ports { udp sport } counter drop" || return 1
    # Silence is noticed when the connection's idle time has passed.
    within 60 complained_since "$before" || { note="it did not notice in a minute"; code=1; }
    # Each dial has a socket of its own.
    [ $code = 0 ] && { within 60 tried_since $(($(tried) + 2)) || { note="it does not dial again"; code=1; }; }
    times=$(($(complaints) - before))
    impair
    [ $code = 0 ] || return 1
    [ $times = 1 ] || { note="it said so $times times"; return 1; }
    grep 'not connected' "$dir/agent.log" | tail -n 1 | grep -q "UDP port $port" || { note="it does not name the port"; return 1; }
    within 90 online || { note="it does not come back"; return 1; }
    note=$(grep 'not connected' "$dir/agent.log" | tail -n 1 | sed 's/.*not connected/not connected/; s/\x1b\[[0-9;]*m//g')
}

ends_cleanly() {
    kill -TERM "$agent" "$relay"
    within 10 ended "$agent" && wait "$agent" || { note="the agent"; return 1; }
    within 10 ended "$relay" && wait "$relay" || { note="the relay"; return 1; }
    within 10 nobody || { note="left: $(processes | tr '\n' ' ')"; return 1; }
}

words_were=("${words[@]}")
words=()
check "both sides behind NAT: init, server create, enroll, online" enrolls
((failed == 0)) || exit 1
words=("${words_were[@]}")
check "agent: no TCP socket listens" no_listener
check "agent: no UDP socket but its own" only_its_own
check "agent: a stranger at its public address gets nothing" unreachable_from_outside
check "agent: a stranger on its LAN gets nothing" unreachable_from_its_lan
check "run: output and exit code through the relay" runs
check "MCP: run through the relay" runs_by_mcp
check "NAT rebinding: both mappings change during a run" survives_rebinding
check "NAT rebinding: both mappings are lost while the run is silent" survives_rebinding_in_silence
check "relay: killed and restarted during a run" survives_the_relay
check "link: 50 ms and 1 % loss by netem" delayed_and_lossy
check "link: 1 % loss by nftables" lossy
check "link: path MTU falls to 1300 during a run" narrow_path
check "UDP blocked: farwire doctor names the port" doctor_names_the_port
check "UDP blocked: the agent says it once and comes back" agent_says_it_once
words=()
check "end: agent and relay end with 0 on TERM, nothing is left" ends_cleanly
echo "$ok passed, $failed failed, $skipped skipped"
((failed == 0))
