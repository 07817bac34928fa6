"""The rows with a delay, with loss, with a rate and with a NAT that forgets: three hosts in network namespaces.

    op --- nat a --- link --- hub (relay, jump host) --- nat b --- host (agent, sshd)

Both routers masquerade what goes to the hub. The link has its delay, loss and rate from netem; where the
kernel has none, from a program that is given with --link and called as

    PROGRAM tap --a NAMESPACE:INTERFACE --b NAMESPACE:INTERFACE --set "both delay=50ms loss=5%" --ctl SOCKET

which makes both interfaces and carries Ethernet between them until it is killed. Linux, as root; needs
iproute2, nftables and conntrack. Used by run.py, for the parts `loss`, `rate` and `rebind`."""
import os, pty, random, select, signal, statistics, subprocess, time

OP, NAT_A, HUB, NAT_B, HOST = "op", "nata", "hub", "natb", "host"
PREFIX = f"fwfar{os.getpid()}"
MASQUERADE = """
table ip nat {
    chain out {
        type nat hook postrouting priority 100
        oifname "wan" masquerade fully-random
    }
}
"""
RELAY, AGENT = "10.73.0.1", "10.73.3.2"


def sh(*argv, check=True, text=None):
    done = subprocess.run(argv, input=text, capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


def within(host):
    """What a command begins with, to run on this host."""
    return ["ip", "netns", "exec", f"{PREFIX}-{host}"]


class Lab:
    """The hosts. `near` is one way of the link in milliseconds."""

    def __init__(self, link):
        self.link, self.child = link, None
        try:
            self.build()
        except BaseException:
            self.end()
            raise

    def build(self):
        for host in (OP, NAT_A, HUB, NAT_B, HOST):
            sh("ip", "netns", "add", f"{PREFIX}-{host}")
            sh(*within(host), "ip", "link", "set", "lo", "up")
        self.wire((OP, "eth", "10.73.1.2/24"), (NAT_A, "lan", "10.73.1.1/24"))
        self.wire((HUB, "b", "10.73.2.1/24"), (NAT_B, "wan", "10.73.2.2/24"))
        self.wire((NAT_B, "lan", "10.73.3.1/24"), (HOST, "eth", "10.73.3.2/24"))
        if self.link is None:
            self.wire((NAT_A, "wan", "10.73.0.2/24"), (HUB, "a", "10.73.0.1/24"))
        for host, gate in ((OP, "10.73.1.1"), (NAT_A, "10.73.0.1"), (NAT_B, "10.73.2.1"), (HOST, "10.73.3.1")):
            if host != NAT_A:
                sh(*within(host), "ip", "route", "add", "default", "via", gate)
        sh(*within(HUB), "ip", "route", "add", "10.73.3.0/24", "via", "10.73.2.2")
        for router in (NAT_A, NAT_B):
            sh(*within(router), "sysctl", "-qw", "net.ipv4.ip_forward=1")
            sh(*within(router), "nft", "-f", "-", text=MASQUERADE)

    def wire(self, one, other):
        ends = [f"fw{os.getpid() % 10000}{random.randrange(10**6)}{end}" for end in "xy"]
        sh("ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for end, (host, name, address) in zip(ends, (one, other)):
            sh("ip", "link", "set", end, "netns", f"{PREFIX}-{host}")
            sh(*within(host), "ip", "link", "set", end, "name", name)
            self.address(host, name, address)

    def address(self, host, name, address):
        sh(*within(host), "ip", "addr", "add", address, "dev", name)
        sh(*within(host), "ip", "link", "set", "dev", name, "up")

    def shape(self, delay, loss=0, rate=None):
        """One way: milliseconds, percent, Mbit/s."""
        if self.link:
            if self.child:
                self.child.kill()
                self.child.wait()
            words = f"both delay={delay}ms loss={loss}%" + (f" rate={rate} queue=256" if rate else "")
            argv = [self.link, "tap", "--a", f"{PREFIX}-{NAT_A}:wan", "--b", f"{PREFIX}-{HUB}:a", "--set", words]
            self.child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for host, name in ((NAT_A, "wan"), (HUB, "a")):
                while name not in sh(*within(host), "ip", "-o", "link"):
                    time.sleep(0.02)
            self.address(NAT_A, "wan", "10.73.0.2/24")
            self.address(HUB, "a", "10.73.0.1/24")
        else:
            for host, name in ((NAT_A, "wan"), (HUB, "a")):
                netem = ["delay", f"{delay}ms", "loss", f"{loss}%", "limit", "1000"]
                netem += ["rate", f"{rate}mbit", "limit", "170"] if rate else []
                sh(*within(host), "tc", "qdisc", "replace", "dev", name, "root", "netem", *netem)
        sh(*within(NAT_A), "ip", "route", "replace", "default", "via", "10.73.0.1")

    def forget(self, router):
        """Every mapping is another from now on."""
        sh(*within(router), "conntrack", "-F")

    def end(self):
        if self.child:
            self.child.kill()
        for host in (OP, NAT_A, HUB, NAT_B, HOST):
            for pid in sh("ip", "netns", "pids", f"{PREFIX}-{host}", check=False).split():
                os.kill(int(pid), signal.SIGKILL)
            sh("ip", "netns", "del", f"{PREFIX}-{host}", check=False)


def jump(work, user):
    """`ssh -J` from `op` by the hub to the host; None where there is no sshd."""
    sshd = "/usr/sbin/sshd"
    if not os.path.exists(sshd):
        return None
    os.makedirs("/run/sshd", exist_ok=True)
    for name in ("far_id", "far_host"):
        sh("ssh-keygen", "-qt", "ed25519", "-N", "", "-f", f"{work}/{name}")
    os.chmod(f"{work}/far_id.pub", 0o644)
    for host in (HUB, HOST):
        config = f"{work}/far_sshd_{host}"
        open(config, "w").write(f"Port 22\nHostKey {work}/far_host\nAuthorizedKeysFile {work}/far_id.pub\nPidFile none\n"
                                "StrictModes no\nUsePAM yes\nPermitRootLogin yes\nMaxStartups 200\n")
        subprocess.Popen([*within(host), sshd, "-D", "-f", config], stderr=subprocess.DEVNULL)
    options = ["-F", "none", "-i", f"{work}/far_id", "-oIdentitiesOnly=yes", "-oStrictHostKeyChecking=no",
               "-oUserKnownHostsFile=/dev/null", "-oLogLevel=ERROR", "-l", user]
    through = " ".join(["ssh", *options, "-W", "%h:%p", RELAY])
    argv = [*within(OP), "ssh", "-tt", *options, f"-oProxyCommand={through}", AGENT]
    time.sleep(0.3)
    return argv


def keys_apart(terminal, count, apart=0.08):
    """Types a key each 80 ms without waiting for the one before. Gives milliseconds, in order."""
    keys = [b"%04d." % n for n in range(count)]
    sent, times, got, begun = {}, {}, b"", time.perf_counter()
    while len(times) < count and time.perf_counter() - begun < count * apart + 20:
        n = len(sent)
        due = begun + n * apart if n < count else begun + 1e9
        if time.perf_counter() >= due:
            sent[n] = time.perf_counter()
            os.write(terminal.fd, keys[n])
            continue
        if select.select([terminal.fd], [], [], max(0, min(due - time.perf_counter(), 0.5)))[0]:
            got += os.read(terminal.fd, 1 << 16)
            for n in list(sent):
                if n not in times and keys[n] in got:
                    times[n] = (time.perf_counter() - sent[n]) * 1000
    assert len(times) == count, f"{count - len(times)} keys of {count} were lost"
    return [times[n] for n in range(count)]


def loss(args, lab, systems, terminal, row):
    lab.shape(50, loss=5)
    times = {name: [] for name in systems}
    for _ in range(3):
        for name, argv in systems.items():
            one = terminal(argv).cat()
            times[name] += keys_apart(one, 4 * args.rounds)
            one.end()
    for name, values in times.items():
        row("key and its echo, 100 ms and 5 % loss each way", name, values, "ms", p99=True)


def rate(args, lab, systems, terminal, row):
    """How long Ctrl-C takes to become a prompt, beside a flood that fills a path of 20 Mbit/s."""
    lab.shape(50, rate=20)
    times = {name: [] for name in systems}
    for _ in range(5):
        for name, argv in systems.items():
            one = terminal(argv)
            os.write(one.fd, b"PS1='rea''dy> '; stty -echo\r")
            one.quiet(1, 5)
            os.write(one.fd, b"yes 0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz\r")
            until = time.perf_counter() + 4
            while time.perf_counter() < until:
                if select.select([one.fd], [], [], 0.1)[0]:
                    os.read(one.fd, 1 << 16)
            begun, got = time.perf_counter(), b""
            os.write(one.fd, b"\x03")
            while b"ready> " not in got and time.perf_counter() - begun < 60:
                if select.select([one.fd], [], [], 1)[0]:
                    got = got[-64:] + os.read(one.fd, 1 << 16)
            times[name].append((time.perf_counter() - begun) * 1000)
            one.end()
    for name, values in times.items():
        row("Ctrl-C to prompt in a flood, 100 ms and 20 Mbit/s", name, values, "ms")


def rebind(args, lab, systems, terminal, row):
    """The longest silence after a NAT has forgotten its mappings, while somebody types."""
    lab.shape(50)
    argv = systems["Farwire, `attach`"]
    for router, what in ((NAT_A, "the client's"), (NAT_B, "the agent's")):
        longest = []
        for _ in range(10):
            one = terminal(argv).cat()
            before = statistics.median(keys_apart(one, 20))
            lab.forget(router)
            times = keys_apart(one, 40)
            # Nothing came for so long: what a key took beyond its usual time, and the gap that there is anyway.
            longest.append(max(times) - before + 80)
            one.end()
        row(f"longest silence after {what} NAT gave it another port, 100 ms", "Farwire, `attach`", longest, "ms")


def measure(args, parts, work, farwire_class, terminal, row):
    """Measures these parts in a lab of their own."""
    lab = Lab(args.link)
    try:
        lab.shape(0)
        hosts = {"relay": within(HUB), "agent": within(HOST), "cli": within(OP)}
        farwire = farwire_class(args.programs, f"{work}/far", hosts, f"{RELAY}:4433")
        systems = {"Farwire, `attach`": farwire.argv("attach", "web-1", "--new")}
        if args.user and (ssh := jump(work, args.user)):
            systems["`ssh -J`"] = ssh
        for part in parts:
            {"loss": loss, "rate": rate, "rebind": rebind}[part](args, lab, systems, terminal, row)
        farwire.end()
    finally:
        lab.end()
