"""This build beside another one of Farwire, such as the one before a change: the same work, taking turns.

    cargo xtask bench --before DIRECTORY [--only PARTS] [--rounds 60]

DIRECTORY has the three built programs. Each round measures both, in turn first. All of it is done six times, with fresh
copies of the programs and worlds that are started in turn first: one copy of the same program is up to a tenth slower
than another. The ratio is the median of those of the six. `line` is of this build alone: a command in a session beside a
flood with and without ends of lines."""
import hashlib, os, random, select, shutil, statistics, time

TIMES = 6
PROGRAMS = ("farwire", "farwire-agent", "farwire-relay")


def copy(source, place):
    os.makedirs(place)
    for name in PROGRAMS:
        shutil.copy(f"{source}/{name}", place)
    return place


def measure(args, work, bench):
    parts = {"warm": warm, "cold": cold, "mcp": first_answer, "bulk": bulk, "terminal": terminal, "echo": echo,
             "shell": shell, "files": files}
    wanted = args.only.split(",") if args.only != ",".join(bench.PARTS) else [*parts, "line"]
    times = {}
    for n in range(TIMES):
        order = ("before", "now") if n % 2 == 0 else ("now", "before")
        places = {name: f"{work}/{n}{name}" for name in order}
        sources = {"before": args.before, "now": args.programs}
        programs = {name: copy(sources[name], f"{places[name]}-programs") for name in order}
        builds = {name: bench.Farwire(programs[name], places[name]) for name in order}
        try:
            for name in wanted:
                if name != "line":
                    for what, unit, act in parts[name](args, places["before"], bench, builds):
                        times.setdefault((what, unit), []).append(compare(act, args.rounds / TIMES))
                elif n == 0:
                    flood = line(args, work, bench, builds["now"])
        finally:
            for build in builds.values():
                build.end()
    lines = ["| what | before, p50 | now, p50 | now / before |", "|---|---|---|---|"]
    for (what, unit), pairs in times.items():
        before, now = (statistics.median(values) for values in zip(*pairs))
        ratio = statistics.median(now / before for before, now in pairs)
        lines.append(f"| {what} | {before:.2f} {unit} | {now:.2f} {unit} | {ratio:.2f} |")
    lines += flood if "line" in wanted else []
    print("\n".join(lines), flush=True)
    return "\n".join(lines) + "\n"


def compare(act, rounds):
    count, act = act
    times = {"before": [], "now": []}
    for n in range(max(3, int(rounds * count))):
        for name in (times if n % 2 == 0 else reversed(times)):
            times[name].append(act(name))
    return statistics.median(times["before"]), statistics.median(times["now"])


def clocked(act, scale=1000):
    begun = time.perf_counter()
    act()
    return (time.perf_counter() - begun) * scale


def warm(args, work, bench, builds):
    mcps = {name: bench.Mcp(build.argv("mcp", "serve")) for name, build in builds.items()}

    def act(name):
        assert "exit=0" in mcps[name].run("true")

    for name in [*mcps] * 5:
        act(name)
    yield "one-shot `true`, warm", "ms", (8, lambda name: clocked(lambda: act(name)))
    for mcp in mcps.values():
        mcp.child.kill()


def cold(args, work, bench, builds):
    argv = {name: build.argv("run", "web-1", "-n", "--", "true") for name, build in builds.items()}
    yield "one-shot `true`, cold", "ms", (2, lambda name: bench.timed(argv[name]))


def first_answer(args, work, bench, builds):
    def act(name):
        mcp = bench.Mcp(builds[name].argv("mcp", "serve"))
        mcp.child.kill()
        mcp.child.wait()
        return mcp.first * 1000

    yield "MCP, first answer after start", "ms", (1, act)


def big(work):
    path = f"{work}/bulk"
    if not os.path.exists(path):
        text = b"".join(b"%07d the quick brown fox jumps over the lazy dog, again and again\n" % n for n in range(20000))
        with open(path, "wb") as file:
            file.write((text * (200_000_000 // len(text) + 1))[:200_000_000])
    return path


def bulk(args, work, bench, builds):
    path = big(work)
    source = hashlib.sha256(open(path, "rb").read()).digest()
    argv = {name: build.argv("run", "web-1", "-n", "--", "cat", path) for name, build in builds.items()}
    yield "200 MB without a terminal", "s", (0.15, lambda name: bench.bulk(argv[name], source))


def terminal(args, work, bench, builds):
    path = big(work)
    data = open(path, "rb").read()
    size = len(data) + data.count(b"\n")

    def act(name):
        terminal = bench.Terminal(builds[name].argv("attach", "web-1", "--new"))
        os.write(terminal.fd, b"stty -echo; PS1=\r")
        terminal.quiet(0.7, 5)
        begun, got = time.perf_counter(), 0
        os.write(terminal.fd, f"cat {path}\r".encode())
        while got < size and select.select([terminal.fd], [], [], 20)[0]:
            got += len(os.read(terminal.fd, 1 << 16))
        took = time.perf_counter() - begun
        assert got >= size, (got, size)
        terminal.end()
        return took

    yield "200 MB through a terminal", "s", (0.08, act)


def echo(args, work, bench, builds):
    terminals = {name: bench.Terminal(build.argv("attach", "web-1", "--new")).cat() for name, build in builds.items()}
    keys, n = b"abcdefghijklmnopqrstuvwxyz", [0]

    def act(name):
        time.sleep(random.uniform(0.002, 0.012))
        n[0] += 1
        return terminals[name].key(keys[n[0] % 26:n[0] % 26 + 1])

    yield "key and its echo", "us", (10, act)
    for terminal in terminals.values():
        terminal.end()


def session(mcp, name):
    text = mcp.call("tools/call", {"name": "session_open", "arguments": {"server": "web-1", "name": name}})
    return text["content"][0]["text"].split()[1]


def send(mcp, id, **arguments):
    return mcp.call("tools/call", {"name": "session_send", "arguments": {"id": id, **arguments}})["content"][0]["text"]


def shell(args, work, bench, builds):
    mcps = {name: bench.Mcp(build.argv("mcp", "serve")) for name, build in builds.items()}
    sessions = {name: session(mcp, "bench") for name, mcp in mcps.items()}

    def act(name):
        assert "exit=0" in send(mcps[name], sessions[name], text="echo a$((1+1))b")

    for name in [*mcps] * 5:
        act(name)
    yield "a command in a living shell", "ms", (5, lambda name: clocked(lambda: act(name)))
    for mcp in mcps.values():
        mcp.child.kill()


def files(args, work, bench, builds):
    small, large = f"{work}/small", big(work)
    os.makedirs(small, exist_ok=True)
    for n in range(2000):
        with open(f"{small}/{n}", "w") as file:
            file.write(f"{n}\n" * 200)
    count = [0]

    def upload(path, *more):
        def act(name):
            count[0] += 1
            return clocked(lambda: bench.timed(builds[name].argv("files", "put", *more, path, f"web-1:up{count[0]}")), 1)
        return act

    def download(path, *more):
        def act(name):
            count[0] += 1
            return clocked(lambda: bench.timed(builds[name].argv("files", "get", *more, f"web-1:{path}", f"{work}/down{count[0]}")), 1)
        return act

    for build in builds.values():
        bench.timed(build.argv("files", "put", "-r", small, "web-1:small"))
        bench.timed(build.argv("files", "put", large, "web-1:large"))
    yield "2,000 small files to the server", "s", (0.12, upload(small, "-r"))
    yield "2,000 small files from the server", "s", (0.12, download("small", "-r"))
    yield "200 MB to the server", "s", (0.08, upload(large))
    yield "200 MB from the server", "s", (0.08, download("large"))


def line(args, work, bench, build):
    """What a call costs beside a flood in its session, of lines and of one line without an end."""
    mcp, took = bench.Mcp(build.argv("mcp", "serve")), {}
    coloured = "yes $(printf '\\033[31mred\\033[m')"
    floods = {"lines": "yes 0123456789abcdef", "no ends of lines": "yes 0123456789abcdef | tr -d '\\n'",
              "coloured lines": coloured, "coloured, no ends of lines": f"{coloured} | tr -d '\\n'"}
    for what, flood in floods.items():
        times = []
        for n in range(5):
            id = session(mcp, f"line{len(took)}-{n}")
            times.append(clocked(lambda: send(mcp, id, text=flood, wait=3), 1))
            times.append(clocked(lambda: send(mcp, id, keys=["ctrl-c"], wait=3), 1))
        took[what] = [statistics.median(times[0::2]), statistics.median(times[1::2])]
    mcp.child.kill()
    pairs = [("plain", "lines", "no ends of lines"), ("coloured", "coloured lines", "coloured, no ends of lines")]
    rows = [f"| {act} of a {kind} flood | with lines {took[one][n]:.2f} s | without {took[other][n]:.2f} s | {took[other][n] / took[one][n]:.2f} |"
            for kind, one, other in pairs for n, act in enumerate(("3 s", "Ctrl-C"))]
    return rows
