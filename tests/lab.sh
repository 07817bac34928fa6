#!/usr/bin/env bash
# The programs behind two NATs that translate at random and let nothing in, with the relay between them.
#
#     bridge 192.168.10.2 --- NAT A 203.0.113.2 --- public: relay 192.0.2.31 --- NAT B 198.51.100.2 --- agent 192.168.20.2
#
# Usage: FARWIRE_PROGRAMS=DIR tests/lab.sh      (root; iproute2, nftables, conntrack, python3)
# One line for each check; ends with 1 if one failed. Everything lives in network namespaces of its own and
# in a scratch directory, and goes when the script ends, however it ends.
set -euo pipefail

for tool in ip nft conntrack python3 ss; do
    command -v "$tool" >/dev/null || { echo "error: the lab needs \`$tool\` (Debian: apt-get install iproute2 nftables conntrack python3)" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "error: network namespaces need root" >&2; exit 1; }
BIN=${FARWIRE_PROGRAMS:?the directory of the built programs}
WORK=$(mktemp -d /tmp/farwire-lab-XXXXXX)
P=fw$$
failed=0

end() {
    [ $? = 0 ] || failed=1
    trap - EXIT INT TERM
    for ns in bridge nat-a public nat-b agent; do
        ip netns pids "$P-$ns" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
        ip netns del "$P-$ns" 2>/dev/null || true
    done
    [ "$failed" = 0 ] && rm -rf "$WORK" || echo "logs: $WORK" >&2
    exit "$failed"
}
trap 'exit 1' INT TERM
trap end EXIT

on() { local ns=$1; shift; ip netns exec "$P-$ns" env HOME="$WORK" "$@"; }
farwire() { on bridge "$BIN/farwire" --home "$WORK/bridge" "$@"; }
ok() { echo "ok       $1"; }
fail() { echo "FAIL     $1: ${2:-}"; failed=1; }
skip() { echo "skipped  $1: $2"; }
check() { if [ "$2" = "$3" ]; then ok "$1"; else fail "$1" "got \`$(head -c 300 <<<"$2")\`, expected \`$(head -c 300 <<<"$3")\`"; fi; }

# wait_for SECONDS COMMAND...: until it succeeds.
wait_for() {
    local until=$((SECONDS + $1)); shift
    until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $until ] || return 1; sleep 0.1; done
}

wire() { # NS ADDRESS/PREFIX NS ADDRESS/PREFIX
    ip link add "$P-l" type veth peer name "$P-r"
    ip link set "$P-l" netns "$P-$1" name "to-$3"
    ip link set "$P-r" netns "$P-$3" name "to-$1"
    ip -n "$P-$1" addr add "$2" dev "to-$3"; ip -n "$P-$1" link set "to-$3" up
    ip -n "$P-$3" addr add "$4" dev "to-$1"; ip -n "$P-$3" link set "to-$1" up
}

nat() { # NS LAN-INTERFACE
    on "$1" sysctl -qw net.ipv4.ip_forward=1
    on "$1" nft -f - <<NFT
table ip lab {
    counter knocks { }
    chain out { type nat hook postrouting priority 100; oifname "to-public" masquerade random,fully-random; }
    chain through { type filter hook forward priority 0; policy accept;
        iifname "to-public" ct state new,invalid counter name knocks drop; }
    chain in { type filter hook input priority 0; policy accept;
        iifname "to-public" ct state new,invalid meta l4proto != icmp counter name knocks drop; }
    chain blocked { type filter hook forward priority -10; policy accept; }
}
NFT
}

for ns in bridge nat-a public nat-b agent; do ip netns add "$P-$ns"; ip -n "$P-$ns" link set lo up; done
wire bridge 192.168.10.2/24 nat-a 192.168.10.1/24
wire nat-a 203.0.113.2/24 public 203.0.113.1/24
wire nat-b 198.51.100.2/24 public 198.51.100.1/24
wire agent 192.168.20.2/24 nat-b 192.168.20.1/24
ip -n "$P-public" addr add 192.0.2.31/32 dev lo
ip -n "$P-bridge" route add default via 192.168.10.1
ip -n "$P-nat-a" route add default via 203.0.113.1
ip -n "$P-nat-b" route add default via 198.51.100.1
ip -n "$P-agent" route add default via 192.168.20.1
nat nat-a; nat nat-b

relay() {
    # Not through `on`, so that the process started is the relay itself.
    ip netns exec "$P-public" "$BIN/farwire-relay" serve --listen 0.0.0.0:4433 --advertise 192.0.2.31:4433 --http 127.0.0.1:4480 --data "$WORK/relay" \
        >"$WORK/relay.out" 2>>"$WORK/relay.log" &
    relay=$!
    wait_for 20 grep -q '^ready ' "$WORK/relay.out"
}
relay
cut -d' ' -f2 "$WORK/relay.out" | farwire init --relay - --name lab >"$WORK/init.out" 2>&1
farwire server create web-1 --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["token"])' >"$WORK/token"
on agent "$BIN/farwire-agent" enroll --token - --state "$WORK/agent" --wait 60 <"$WORK/token" >"$WORK/enroll.out" 2>&1 &
enrolling=$!
accept() { farwire servers >/dev/null; ! kill -0 $enrolling 2>/dev/null; }
wait_for 60 accept
wait $enrolling && ok "an agent behind NAT enrolls with a bridge behind NAT" || fail "enroll" "$(cat "$WORK/enroll.out")"
on agent "$BIN/farwire-agent" run --state "$WORK/agent" 2>"$WORK/agent.log" &
online() { farwire servers --json | grep -q '"online"'; }
wait_for 30 online || fail "the agent comes online" "$(tail -3 "$WORK/agent.log")"

code=0; out=$(farwire run web-1 -n -- sh -c 'echo there; exit 7') || code=$?
check "a command's output and exit code come back through both NATs" "$out/$code" "there/7"
mcp() {
    # Standard input stays open until the answers are there.
    on bridge python3 - "$BIN/farwire" --home "$WORK/bridge" mcp serve 2>/dev/null <<'PY'
import json, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
def call(number, method, params):
    child.stdin.write((json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}) + "\n").encode())
    child.stdin.flush()
    while True:
        answer = json.loads(child.stdout.readline())
        if answer.get("id") == number:
            return answer["result"]
call(1, "initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "lab", "version": "1"}})
text = call(2, "tools/call", {"name": "run", "arguments": {"server": "web-1", "command": "hostname -I"}})["content"][0]["text"]
print("yes" if "exit=0" in text and "192.168.20.2" in text else text)
PY
}
check "an MCP client runs a command on the agent's side" "$(mcp)" yes

listening=$(on agent ss -Hlnt | wc -l)
check "no TCP socket listens on the agent's side" "$listening" 0
echo "         sockets there: $(on agent ss -Hnua | tr -s ' ' | tr '\n' ';')"
mapped=$(on nat-b conntrack -L -p udp 2>/dev/null | grep 'dst=192.0.2.31' | grep -o 'dport=[0-9]*' | tail -1 | cut -d= -f2)
before=$(on nat-b nft list counter ip lab knocks | grep -o 'packets [0-9]*' | cut -d' ' -f2)
on public python3 - "$mapped" <<'PY'
import socket, sys
# From an address and a port that the agent has not spoken to, at the very port that its NAT has for it.
knock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in (int(sys.argv[1]), 22, 53, 4433):
    knock.sendto(b"anybody there?" * 4, ("198.51.100.2", port))
for port in (22, 80, 443):
    tcp = socket.socket()
    tcp.settimeout(0.2)
    try:
        tcp.connect(("198.51.100.2", port))
        sys.exit("reached")
    except OSError:
        pass
PY
turned() { [ $(($(on nat-b nft list counter ip lab knocks | grep -o 'packets [0-9]*' | cut -d' ' -f2) - before)) -ge 7 ]; }
wait_for 5 turned && ok "whoever knocks at the agent's NAT is not let in" || fail "knocks" "some were not turned away"

# A run of ten seconds, something done to it in the middle of it, and every line counted.
during() { # NAME ACTION...
    local name=$1; shift
    local expected code=0
    expected=$(seq 1 100)
    farwire run web-1 -n -c 'for i in $(seq 1 100); do echo $i; sleep 0.1; done; exit 5' >"$WORK/run.out" 2>"$WORK/run.err" &
    local run=$!
    begun() { [ "$(wc -l <"$WORK/run.out")" -ge 10 ]; }
    wait_for 20 begun
    "$@"
    wait $run || code=$?
    check "$name" "$(cat "$WORK/run.out")/$code" "$expected/5"
}
rebind() { for ns in nat-a nat-b; do on "$ns" conntrack -F >/dev/null 2>&1; done; }
during "both NATs forget their mappings: the run's output is complete" rebind
restart() { { kill -9 "$relay"; wait "$relay"; } 2>/dev/null || true; relay; }
during "the relay is killed and restarted: the run's output is complete" restart

bulk() { # NAME
    local expected got
    expected=$(seq 1 700000 | sha256sum)
    got=$(farwire run web-1 -n -- seq 1 700000 | sha256sum)
    check "$1" "$got" "$expected"
}
for ns in public nat-b; do on $ns ip link set "$([ $ns = public ] && echo to-nat-b || echo to-public)" mtu 1300; done
bulk "5 MB over a path of 1,300 bytes"
if tc -n "$P-public" qdisc add dev to-nat-b root netem delay 50ms loss 1% 2>/dev/null; then
    bulk "5 MB over 50 ms and 1 % of loss"
    tc -n "$P-public" qdisc del dev to-nat-b root
else
    skip "5 MB over 50 ms and 1 % of loss" "this kernel has no netem"
fi

on nat-a nft add rule ip lab blocked udp dport 4433 drop
doctor=$(farwire doctor 2>&1 || true)
if grep -qi 'udp' <<<"$doctor" && grep -q '4433' <<<"$doctor"; then ok "\`doctor\` names the blocked UDP port"; else fail "doctor" "$doctor"; fi
on nat-a nft flush chain ip lab blocked
lines=$(grep -c 'not connected' "$WORK/agent.log" || true)
on nat-b nft add rule ip lab blocked udp dport 4433 drop
told() { [ "$(grep -c 'not connected' "$WORK/agent.log")" -gt "$lines" ]; }
wait_for 60 told || fail "the agent notices that UDP is blocked" "$(tail -3 "$WORK/agent.log")"
sleep 5
check "the agent says once that it is cut off" "$(($(grep -c 'not connected' "$WORK/agent.log") - lines))" 1
on nat-b nft flush chain ip lab blocked
wait_for 60 online && ok "it comes back by itself" || fail "it comes back by itself" "$(tail -3 "$WORK/agent.log")"
