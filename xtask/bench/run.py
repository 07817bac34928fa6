#!/usr/bin/env python3
"""Measures Farwire through its relay, beside OpenSSH through a jump host and dropbear where they are
installed, in one run and taking turns. Prints a Markdown table of medians; --out writes it to a file.

    cargo xtask bench [--rounds 60] [--user SOMEBODY] [--pty-mcp PROGRAM] [--only PARTS] [--out FILE]

Everything listens on loopback and ends with the script. Peers need: sshd, ssh, dropbear with dbclient, and
pty-mcp (pip). dropbear takes keys from the user's home only: ours is added there, and removed again."""
import argparse, hashlib, json, os, pty, pwd, random, select, shutil, signal, socket, statistics, subprocess, sys, tempfile, time

import before, far, files

TURN = 20


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def rss_kib(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    return 0


def cpu_ms(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


class Farwire:
    """The three programs. `hosts` has what their commands begin with, where they run on hosts of their own."""

    def __init__(self, programs, work, hosts={}, listen="127.0.0.1:0"):
        self.programs, self.work, self.children, self.hosts = programs, work, [], hosts
        os.makedirs(work, exist_ok=True)
        self.home = f"{work}/bridge"
        self.root = f"{work}/root"
        os.makedirs(self.root, exist_ok=True)
        relay = self.start([*hosts.get("relay", []), f"{programs}/farwire-relay", "serve", "--listen", listen,
                            "--http", "127.0.0.1:0", "--data", f"{work}/relay"], stdout=subprocess.PIPE)
        self.relay = relay.pid
        url = relay.stdout.readline().decode().split()[1]
        self.cli(["init", "--relay", "-", "--name", "bench"], url)
        token = json.loads(self.cli(["server", "create", "web-1", "--json"]))["token"]
        at = hosts.get("agent", [])
        enroll = subprocess.Popen([*at, f"{programs}/farwire-agent", "enroll", "--token", "-", "--state", f"{work}/agent"],
                                  stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        enroll.stdin.write(token.encode())
        enroll.stdin.close()
        while enroll.poll() is None:
            self.cli(["servers"])
        self.agent = self.start([*at, f"{programs}/farwire-agent", "run", "--state", f"{work}/agent",
                                "--fs-root", f"root={self.root}:rw"]).pid
        while b"online" not in self.cli(["servers"]):
            pass

    def start(self, argv, **more):
        child = subprocess.Popen(argv, stderr=subprocess.DEVNULL, **more)
        self.children.append(child)
        return child

    def argv(self, *arguments):
        return [*self.hosts.get("cli", []), f"{self.programs}/farwire", "--home", self.home, *arguments]

    def cli(self, arguments, text=""):
        return subprocess.run(self.argv(*arguments), input=text.encode(), capture_output=True, check=True).stdout

    def end(self):
        for child in self.children:
            child.kill()
        # What is held outlives the agent.
        subprocess.run(["pkill", "-KILL", "-f", f"holder --state {self.work}/"])


class Mcp:
    def __init__(self, argv):
        begun = time.perf_counter()
        self.child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.n = 0
        self.call("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "b", "version": "1"}})
        self.first = time.perf_counter() - begun
        self.write({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def write(self, message):
        self.child.stdin.write((json.dumps(message) + "\n").encode())
        self.child.stdin.flush()

    def call(self, method, params):
        self.n += 1
        self.write({"jsonrpc": "2.0", "id": self.n, "method": method, "params": params})
        while True:
            line = self.child.stdout.readline()
            message = json.loads(line)
            if message.get("id") == self.n:
                self.size = len(line)
                return message["result"]

    def run(self, command):
        return self.call("tools/call", {"name": "run", "arguments": {"server": "web-1", "command": command}})["content"][0]["text"]


class Ssh:
    """Two sshds, the second reached through the first, with a warm ControlMaster; and dropbear."""

    def __init__(self, work, user):
        self.work, self.children, self.systems = work, [], {}
        self.keys = self.before = None
        sshd = shutil.which("sshd") or "/usr/sbin/sshd"
        if not os.path.exists(sshd) or not shutil.which("ssh"):
            return
        os.makedirs("/run/sshd", exist_ok=True)
        subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", f"{work}/id"], check=True)
        subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", f"{work}/host"], check=True)
        ports = [free_port(), free_port()]
        self.user, self.port = user, ports[1]
        for port in ports:
            config = f"{work}/sshd{port}"
            open(config, "w").write(f"Port {port}\nListenAddress 127.0.0.1\nHostKey {work}/host\nAuthorizedKeysFile {work}/id.pub\n"
                                    f"PidFile none\nSubsystem sftp internal-sftp\nStrictModes no\nUsePAM yes\nPermitRootLogin yes\nMaxStartups 200\n")
            self.children.append(subprocess.Popen([sshd, "-D", "-f", config], stderr=subprocess.DEVNULL))
        common = f"User {user}\nIdentityFile {work}/id\nIdentitiesOnly yes\nStrictHostKeyChecking no\nUserKnownHostsFile {work}/known\nLogLevel ERROR\n"
        jump = f"ProxyCommand ssh -F {work}/config -W %h:%p hop\nHostName 127.0.0.1\nPort {ports[0]}\n"
        open(f"{work}/config", "w").write(f"Host hop\nHostName 127.0.0.1\nPort {ports[1]}\nHost direct\nHostName 127.0.0.1\nPort {ports[1]}\nControlPath {work}/cmd\nHost jump\n{jump}Host cm\n{jump}"
                                          f"ControlPath {work}/cm\nHost *\n{common}")
        wait_port(ports)
        master = subprocess.run(["ssh", "-F", f"{work}/config", "-o", "ControlMaster=yes", "-fN", "cm"])
        subprocess.run(["ssh", "-F", f"{work}/config", "-o", "ControlMaster=yes", "-fN", "direct"])
        if master.returncode == 0:
            self.systems["OpenSSH jump, ControlMaster"] = ["ssh", "-F", f"{work}/config", "cm"]
            self.systems["OpenSSH jump, cold"] = ["ssh", "-F", f"{work}/config", "jump"]
        os.chmod(f"{work}/id.pub", 0o644)
        self.dropbear(user)

    def dropbear(self, user):
        if not (shutil.which("dropbear") and shutil.which("dbclient")):
            return
        work, port = self.work, free_port()
        for name in ("dbhost", "dbid"):
            subprocess.run(["dropbearkey", "-t", "ed25519", "-f", f"{work}/{name}"], capture_output=True, check=True)
        public = subprocess.run(["dropbearkey", "-y", "-f", f"{work}/dbid"], capture_output=True, check=True).stdout
        key = next(line for line in public.splitlines() if line.startswith(b"ssh-"))
        who = pwd.getpwnam(user)
        self.keys = f"{who.pw_dir}/.ssh/authorized_keys"
        os.makedirs(os.path.dirname(self.keys), mode=0o700, exist_ok=True)
        self.before = open(self.keys, "rb").read() if os.path.exists(self.keys) else None
        open(self.keys, "wb").write((self.before or b"") + key + b"\n")
        os.chmod(self.keys, 0o600)
        if os.getuid() == 0:
            for path in (os.path.dirname(self.keys), self.keys):
                os.chown(path, who.pw_uid, who.pw_gid)
        argv = ["dropbear", "-F", "-r", f"{work}/dbhost", "-p", f"127.0.0.1:{port}", "-P", f"{work}/db.pid"]
        self.children.append(subprocess.Popen(argv, stderr=subprocess.DEVNULL))
        wait_port([port])
        command = ["dbclient", "-y", "-y", "-i", f"{work}/dbid", "-p", str(port), f"{user}@127.0.0.1"]
        if subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            self.systems["dropbear, direct, cold"] = command

    def end(self):
        if self.keys and self.before is None:
            os.unlink(self.keys)
        elif self.keys:
            open(self.keys, "wb").write(self.before)
        for host in ("cm", "direct"):
            subprocess.run(["ssh", "-F", f"{self.work}/config", "-O", "exit", host], capture_output=True)
        for child in self.children:
            child.kill()


def wait_port(ports):
    for port in ports:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)


def timed(argv):
    begun = time.perf_counter()
    code = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    assert code == 0, (code, argv)
    return (time.perf_counter() - begun) * 1000


def bulk(argv, source):
    begun = time.perf_counter()
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0)
    pieces = []
    while piece := os.read(child.stdout.fileno(), 1 << 20):
        pieces.append(piece)
    assert child.wait() == 0
    took = time.perf_counter() - begun
    got = hashlib.sha256()
    for piece in pieces:
        got.update(piece)
    assert got.digest() == source, argv
    return took


class Terminal:
    """A client on a terminal of its own, which shows a far terminal whose kernel echoes."""

    def __init__(self, argv):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvp(argv[0], argv)
        self.quiet(2.0, 20)

    def quiet(self, silence, longest):
        end = time.time() + longest
        while time.time() < end and select.select([self.fd], [], [], silence)[0]:
            os.read(self.fd, 1 << 16)

    def cat(self):
        os.write(self.fd, b"exec cat\r")
        self.quiet(0.7, 5)
        return self

    def key(self, key):
        """Microseconds until the key has come back. A peer that loses it is not waited for."""
        begun = time.perf_counter()
        os.write(self.fd, key)
        while key not in os.read(self.fd, 1 << 16):
            pass
        return (time.perf_counter() - begun) * 1e6

    def end(self):
        os.kill(self.pid, signal.SIGKILL)
        os.close(self.fd)
        os.waitpid(self.pid, 0)


class Flood:
    """Another terminal over the same connection, that says as much as it can; in a process of its own."""

    def __init__(self, argv):
        self.read, write = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(write)
            return
        terminal, total, done = Terminal(argv), 0, []
        os.write(terminal.fd, b"yes 0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz\r")
        signal.signal(signal.SIGTERM, lambda *_: done.append(1))
        begun = time.time()
        while not done:
            if select.select([terminal.fd], [], [], 0.2)[0]:
                total += len(os.read(terminal.fd, 1 << 16))
        os.write(write, b"%f" % (total / 1e6 / (time.time() - begun)))
        terminal.end()
        os._exit(0)

    def end(self):
        os.kill(self.pid, signal.SIGTERM)
        os.waitpid(self.pid, 0)
        rate = float(os.read(self.read, 100))
        os.close(self.read)
        return rate


def echo(args, farwire, ssh, rows, row):
    """A key, from our own terminal to the far one and back; idle, and beside a flood on the same link."""
    systems = {"Farwire": farwire.argv("attach", "web-1", "--new")}
    for name, command in ssh.systems.items():
        if name.startswith("OpenSSH"):
            systems[name.replace(", cold", "")] = [command[0], "-tt", *command[1:]]
    keys = b"abcdefghijklmnopqrstuvwxyz"
    for beside in (False, True):
        times, rates = {name: [] for name in systems}, {name: [] for name in systems}
        for _ in range(3):
            for name, argv in systems.items():
                terminal = Terminal(argv).cat()
                flood = Flood(argv) if beside else None
                time.sleep(4 if beside else 0)
                for n in range(args.rounds):
                    time.sleep(random.uniform(0.002, 0.012))
                    times[name].append(terminal.key(keys[n % 26:n % 26 + 1]))
                if flood:
                    rates[name].append(flood.end())
                terminal.end()
        for name, values in times.items():
            what = "key and its echo" + (f", beside a flood of {statistics.median(rates[name]):.1f} MB/s" if beside else "")
            row(what, name, values, "us", p99=True)


def bulk_terminal(farwire, ssh, path, rows, row):
    """A file of 200 MB through a terminal: every byte, with the carriage returns that a terminal adds."""
    data = open(path, "rb").read()
    source, size = hashlib.sha256(data).digest(), len(data) + data.count(b"\n")
    systems = {"Farwire, `attach`": farwire.argv("attach", "web-1", "--new")}
    if "OpenSSH jump, ControlMaster" in ssh.systems:
        command = ssh.systems["OpenSSH jump, ControlMaster"]
        systems["OpenSSH jump, ControlMaster"] = [command[0], "-tt", *command[1:]]
    times = {name: [] for name in systems}
    for _ in range(3):
        for name, argv in systems.items():
            terminal = Terminal(argv)
            os.write(terminal.fd, b"stty -echo; PS1=\r")
            terminal.quiet(0.7, 5)
            begun, pieces, got = time.perf_counter(), [], 0
            os.write(terminal.fd, f"cat {path}\r".encode())
            while got < size and select.select([terminal.fd], [], [], 20)[0]:
                pieces.append(os.read(terminal.fd, 1 << 16))
                got += len(pieces[-1])
            times[name].append(time.perf_counter() - begun)
            all = b"".join(pieces)
            at = all.find(data[:60])
            assert hashlib.sha256(all[at:].replace(b"\r\n", b"\n")[:len(data)]).digest() == source, (name, got, size)
            terminal.end()
    for name, values in times.items():
        row("200 MB through a terminal", name, values, "s")


def living_shell(args, farwire, ssh, rows, row):
    """A model's calls to a shell that lives: what it types and what comes of it, in one call."""
    mcp = Mcp(farwire.argv("mcp", "serve"))

    def call(name, arguments):
        return mcp.call("tools/call", {"name": name, "arguments": arguments})["content"][0]["text"]

    session = call("session_open", {"server": "web-1", "name": "bench", "user": args.user}).split()[1]
    systems = {"Farwire, `session_send`, with its exit code": lambda n: call("session_send", {"id": session, "text": f"echo a$(({n}+1))b"})}
    peer = None
    if args.pty_mcp and "OpenSSH jump, ControlMaster" in ssh.systems:
        peer = Mcp([args.pty_mcp])

        def theirs(name, arguments):
            result = peer.call("tools/call", {"name": name, "arguments": {"owner": "bench", **arguments}})
            return result["content"][0]["text"]

        command = f"ssh -F {ssh.work}/config -tt hop"
        id = theirs("pty_spawn", {"command": command}).strip()
        theirs("pty_read_quiescent", {"session_id": id, "quiescence_ms": 700})
        prompt = lambda n: theirs("pty_prompt", {"session_id": id, "data": f"echo a$(({n}+1))b\n", "patterns": [f"a{n + 1}b"]})
        systems["pty-mcp over direct ssh, `pty_prompt`"] = prompt
    third = None
    if args.ssh_session_mcp and ssh.systems:
        env = {"SSH_HOST": "127.0.0.1", "SSH_PORT": str(ssh.port), "SSH_USER": ssh.user, "SSH_KEY": f"{ssh.work}/id",
               "AUTO_OPEN_TERMINAL": "false", "VIEWER_PORT": "0", "SSH_MCP_MODE": "full"}
        third = Mcp(["env", *(f"{name}={value}" for name, value in env.items()), "node", args.ssh_session_mcp])
        run = lambda name, arguments: third.call("tools/call", {"name": name, "arguments": arguments})["content"][0]["text"]
        run("ssh-quick-connect", {})
        systems["ssh-session-mcp over direct ssh, `ssh-run`"] = lambda n: run("ssh-run", {"session": "default", "command": f"echo a$(({n}+1))b"})
    times = {name: [] for name in systems}
    for n in range(args.rounds * 2):
        for name, typed in systems.items():
            if "ssh-session-mcp" in name and n >= 15:
                continue
            begun = time.perf_counter()
            text = typed(n)
            times[name].append((time.perf_counter() - begun) * 1000)
            # That one tells the exit code, and does not always tell the output.
            assert f"a{n + 1}b" in text or '"exitCode": 0' in text, (name, text)
            assert "Farwire" not in name or "exit=0" in text, text
    for name, values in times.items():
        row("a command in a living shell, over MCP", name, values, "ms")
    for client in (mcp, peer, third):
        if client:
            client.child.kill()


PARTS = ("idle", "mcp", "oneshot", "bulk", "terminal", "shell", "echo", "memory", "files", "swarm")

# In network namespaces, as root; see far.py.
FAR = ("loss", "rate", "rebind")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--programs", required=True)
    ap.add_argument("--rounds", type=int, default=60)
    ap.add_argument("--user", default=pwd.getpwuid(os.getuid()).pw_name, help="whom the peers log in as; one without start-up files is fair")
    ap.add_argument("--pty-mcp", default=shutil.which("pty-mcp"), help="the program, for its first answer")
    ap.add_argument("--ssh-session-mcp", help="its build/index.js, for a command in a living shell")
    ap.add_argument("--agents", type=int, default=1000, help="how many idle agents to simulate; 0 for none")
    ap.add_argument("--only", default=",".join(PARTS), help="of these, with commas between: %(default)s; and loss, rate, rebind")
    ap.add_argument("--link", help="for loss, rate and rebind, where the kernel has no netem: see far.py")
    ap.add_argument("--before", help="compare with the programs in this directory instead of peers: see before.py")
    ap.add_argument("--out")
    args = ap.parse_args()
    work = tempfile.mkdtemp(prefix="farwire-bench-")
    os.chmod(work, 0o755)
    if args.before:
        try:
            text = before.measure(args, work, sys.modules[__name__])
        finally:
            shutil.rmtree(work, ignore_errors=True)
        if args.out:
            open(args.out, "w").write(text)
        return
    farwire, ssh, rows = Farwire(args.programs, work), Ssh(work, args.user), []
    try:
        measure(args, work, farwire, ssh, rows)
    finally:
        farwire.end()
        ssh.end()
        shutil.rmtree(work, ignore_errors=True)
    text = "| what | system | p50 | p95 |\n|---|---|---|---|\n" + "".join(f"| {a} | {b} | {c} | {d} |\n" for a, b, c, d in rows)
    print(text)
    if args.out:
        open(args.out, "w").write(text)


def measure(args, work, farwire, ssh, rows):
    def row(what, system, values, unit, p99=False):
        values = sorted(values)
        at = lambda share: f"{values[min(len(values) - 1, int(len(values) * share))]:.2f} {unit}"
        last = f", p99 {at(0.99)}" if p99 else ""
        rows.append((what, system, f"{statistics.median(values):.2f} {unit}", f"{at(0.95)}{last}"))

    parts = args.only.split(",")
    unknown = [part for part in parts if part not in PARTS + FAR]
    assert not unknown, f"no such parts: {unknown}"
    if away := [part for part in parts if part in FAR]:
        far.measure(args, away, work, Farwire, Terminal, row)
        parts = [part for part in parts if part not in FAR]
    path = f"{work}/bulk"
    line = b"".join(b"%07d the quick brown fox jumps over the lazy dog, again and again\n" % n for n in range(20000))
    data = (line * (200_000_000 // len(line) + 1))[:200_000_000]
    open(path, "wb").write(data)
    del data
    for part in parts:
        {"idle": lambda: idle(farwire, rows), "mcp": lambda: first_answer(args, farwire, rows, row),
         "oneshot": lambda: oneshot(args, farwire, ssh, row), "bulk": lambda: bulk_pipe(farwire, ssh, path, row),
         "terminal": lambda: bulk_terminal(farwire, ssh, path, rows, row), "shell": lambda: living_shell(args, farwire, ssh, rows, row),
         "echo": lambda: echo(args, farwire, ssh, rows, row), "memory": lambda: memory(farwire, rows),
         "files": lambda: files.measure(args, work, farwire, ssh, row),
         "swarm": lambda: swarm(args, rows)}[part]()


def idle(farwire, rows):
    # What the agent costs while nothing happens, before anything has happened.
    before, begun = cpu_ms(farwire.agent), time.time()
    time.sleep(10)
    busy = (cpu_ms(farwire.agent) - before) / (time.time() - begun)
    rows.append(("agent idle", "Farwire", f"{rss_kib(farwire.agent) / 1024:.1f} MiB", f"{busy:.2f} ms CPU/s"))


def first_answer(args, farwire, rows, row):
    first, theirs, rss, size = [], [], 0, 0
    for _ in range(20):
        mcp = Mcp(farwire.argv("mcp", "serve"))
        first.append(mcp.first * 1000)
        mcp.call("tools/list", {})
        size, rss = mcp.size, rss_kib(mcp.child.pid)
        mcp.child.kill()
        if args.pty_mcp:
            peer = Mcp([args.pty_mcp])
            theirs.append(peer.first * 1000)
            peer.child.kill()
    row("MCP: first answer after start", "Farwire", first, "ms")
    if theirs:
        row("MCP: first answer after start", "pty-mcp", theirs, "ms")
    rows.append(("MCP: tools/list, and memory after it", "Farwire", f"{size} bytes", f"{rss / 1024:.1f} MiB"))


def oneshot(args, farwire, ssh, row):
    mcp = Mcp(farwire.argv("mcp", "serve"))
    for _ in range(5):
        mcp.run("true")
    systems = {"Farwire, MCP run (warm)": None, "Farwire, command line (cold)": farwire.argv("run", "web-1", "-n", "--", "true")}
    systems.update({name: [*command, "true"] for name, command in ssh.systems.items()})
    times = {name: [] for name in systems}
    for n in range(args.rounds):
        for name, argv in systems.items():
            if name.startswith("OpenSSH jump, cold") and n >= 15:
                continue
            if argv is not None:
                times[name].append(timed(argv))
                continue
            # A model's calls come to a process that is there; as many in a row as rounds in a turn.
            for _ in range(TURN if n % TURN == 0 else 0):
                begun = time.perf_counter()
                assert "exit=0" in mcp.run("true")
                times[name].append((time.perf_counter() - begun) * 1000)
    for name, values in times.items():
        row("one-shot `true`", name, values, "ms")


def bulk_pipe(farwire, ssh, path, row):
    source = hashlib.sha256(open(path, "rb").read()).digest()
    systems = {"Farwire": farwire.argv("run", "web-1", "-n", "--", "cat", path)}
    systems.update({name: [*command, "cat", path] for name, command in ssh.systems.items() if "ControlMaster" in name or "dropbear" in name})
    times = {name: [] for name in systems}
    for _ in range(5):
        for name, argv in systems.items():
            times[name].append(bulk(argv, source))
    for name, values in times.items():
        row("200 MB without a terminal", name, values, "s")


def memory(farwire, rows):
    """A 2 GB output: what each program held at most, and how much more than before that is. The command
    line is compared with what it holds for a command that says nothing."""
    def peak(pid):
        return next(int(line.split()[1]) for line in open(f"/proc/{pid}/status") if line.startswith("VmHWM"))

    def command_line(*argv):
        child = subprocess.Popen(farwire.argv("run", "web-1", "-n", "--", *argv), stdout=subprocess.PIPE, bufsize=0)
        count, most = 0, 0
        while piece := os.read(child.stdout.fileno(), 1 << 20):
            if count >> 26 != (count := count + len(piece)) >> 26 or not most:
                most = peak(child.pid)
        assert child.wait() == 0
        return count, most

    _, quiet = command_line("sh", "-c", "echo; sleep 0.2")
    before = {name: rss_kib(pid) for name, pid in (("agent", farwire.agent), ("relay", farwire.relay))}
    for pid in (farwire.agent, farwire.relay):
        open(f"/proc/{pid}/clear_refs", "w").write("5")
    count, loud = command_line("head", "-c", "2000000000", "/dev/zero")
    assert count == 2_000_000_000, count
    figures = [("agent", before["agent"], peak(farwire.agent)), ("relay", before["relay"], peak(farwire.relay)),
               ("command line", quiet, loud)]
    for name, low, high in figures:
        rows.append(("memory at most during 2 GB of output", name, f"{low / 1024:.0f} → {high / 1024:.0f} MiB", f"+ {(high - low) / 1024:.0f} MiB"))


def swarm(args, rows):
    program = f"{args.programs}/farwire-swarm"
    if not args.agents or not os.path.exists(program):
        return
    env = {**os.environ, "FARWIRE_PROGRAMS": args.programs}
    text = subprocess.run([program, str(args.agents)], env=env, capture_output=True, check=True).stdout.decode()
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        rows.append(tuple(cells[:4]))


if __name__ == "__main__":
    main()
