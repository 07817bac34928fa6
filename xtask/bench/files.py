"""Files: WebDAV through `farwire files serve` and our own transfer, beside scp, sftp and rsync.

Called by run.py. Every result is compared with its source once the clock has stopped. TMPDIR decides which
disk is measured; on one that is slow to sync, each file of WebDAV waits for it and those of scp do not."""
import base64, filecmp, hashlib, http.client, os, shutil, socket, subprocess, time, urllib.parse

SIZE, SMALL, LISTED, SEARCHED = 500_000_000, 1000, 10_000, 100_000

# The properties that davfs2 asks for, in its order.
ASKED = b"""<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/>\
<getetag/><getlastmodified/><executable xmlns="http://apache.org/dav/props/"/></prop></propfind>"""


class Dav:
    """One connection that is kept."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        self.base = parts.path.rstrip("/")
        self.head = {"Authorization": "Basic " + base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()}
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=120, blocksize=1 << 18)
        self.connection.connect()
        self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, method, path, body=None, sink=None, **head):
        self.connection.request(method, self.base + path, body=body, headers={**self.head, **head})
        answer = self.connection.getresponse()
        assert answer.status < 300, (method, path, answer.status)
        if sink is None:
            return answer.read()
        buffer = memoryview(bytearray(1 << 20))
        while count := answer.readinto(buffer):
            sink.write(buffer[:count])

    def put(self, path, source):
        with open(source, "rb") as file:
            size = os.path.getsize(source)
            self.ask("PUT", path, body=file if size > 65536 else file.read(), **{"Content-Length": str(size)})


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def run(argv):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True)
    assert done.returncode == 0, (argv, done.stderr[-500:])
    return done.stdout


def same(one, other):
    names = sorted(os.listdir(one))
    assert names == sorted(os.listdir(other)), (len(names), len(os.listdir(other)))
    match, _, _ = filecmp.cmpfiles(one, other, names, shallow=False)
    return len(match) == len(names)


class Place:
    """What is sent and fetched, and where to; emptied before each turn."""

    def __init__(self, work, root):
        self.root, self.here, self.there = root, f"{work}/here", f"{work}/there"
        self.big, self.small = f"{work}/big", f"{work}/small"
        with open(self.big, "wb") as file:
            for _ in range(SIZE // 1_000_000):
                file.write(os.urandom(1_000_000))
        os.makedirs(self.small)
        for n in range(SMALL):
            open(f"{self.small}/f{n:05}", "wb").write(os.urandom(4096))
        os.makedirs(f"{root}/list")
        for n in range(LISTED):
            open(f"{root}/list/entry-{n:06}.txt", "wb").write(b"x")
        shutil.copy(self.big, f"{root}/big")
        shutil.copytree(self.small, f"{root}/small")
        self.source = digest(self.big)

    def clear(self):
        for path in (self.here, self.there, f"{self.root}/w"):
            shutil.rmtree(path, ignore_errors=True)
            os.makedirs(path)
            os.chmod(path, 0o777)


def measure(args, work, farwire, ssh, row):
    root = farwire.root
    place = Place(work, root)
    for top, dirs, names in os.walk(work):
        if top.startswith((root, place.small)):
            os.chmod(top, 0o777)
    os.chmod(place.big, 0o644)
    serve = farwire.start(farwire.argv("files", "serve", "web-1"), stdout=subprocess.PIPE)
    url = serve.stdout.readline().decode().split()[1]
    dav = Dav(url)
    scp = lambda host, *paths: ["scp", "-q", "-r", "-F", f"{ssh.work}/config", *[path.replace("@", f"{host}:") for path in paths]]
    peer = bool(ssh.systems)

    def turns(what, systems, check, rounds):
        times = {name: [] for name in systems}
        for _ in range(rounds):
            for name, work in systems.items():
                place.clear()
                begun = time.perf_counter()
                out = work()
                times[name].append(time.perf_counter() - begun)
                assert check(name, out), (what, name)
        for name, values in times.items():
            row(what, name, values, "s")

    def fetch():
        with open(f"{place.here}/big", "wb", buffering=0) as file:
            dav.ask("GET", "/big", sink=file)

    w = f"{root}/w"
    at = lambda name: w if name.startswith("Farwire") else place.there
    systems = {"Farwire, WebDAV": lambda: dav.put("/w/big", place.big),
               "Farwire, `files put`": lambda: run(farwire.argv("files", "put", place.big, "web-1:w/big"))}
    if peer:
        systems["scp, OpenSSH jump, ControlMaster"] = lambda: run(scp("cm", place.big, f"@{place.there}/big"))
    turns("500 MB up", systems, lambda name, _: digest(f"{at(name)}/big") == place.source, 5)

    systems = {"Farwire, WebDAV": fetch,
               "Farwire, `files get`": lambda: run(farwire.argv("files", "get", "web-1:big", f"{place.here}/big"))}
    if peer:
        systems["scp, OpenSSH jump, ControlMaster"] = lambda: run(scp("cm", f"@{root}/big", f"{place.here}/big"))
    turns("500 MB down", systems, lambda *_: digest(f"{place.here}/big") == place.source, 5)

    def put_all():
        for name in sorted(os.listdir(place.small)):
            dav.put(f"/w/{name}", f"{place.small}/{name}")

    def get_all():
        for name in sorted(os.listdir(place.small)):
            with open(f"{place.here}/{name}", "wb") as file:
                file.write(dav.ask("GET", f"/small/{name}"))

    def inner(directory):
        nested = f"{directory}/small"
        return nested if os.path.isdir(nested) else directory

    systems = {"Farwire, WebDAV, one connection": put_all,
               "Farwire, `files put -r`": lambda: run(farwire.argv("files", "put", "-r", place.small, "web-1:w"))}
    if peer:
        systems["scp, OpenSSH direct, ControlMaster"] = lambda: run(scp("direct", place.small, f"@{place.there}/"))
    if peer and shutil.which("rsync"):
        shell = f"ssh -F {ssh.work}/config"
        systems["rsync, OpenSSH direct, ControlMaster"] = lambda: run(["rsync", "-r", "-e", shell, f"{place.small}/", f"direct:{place.there}/"])
    turns(f"{SMALL} files of 4 KiB up", systems, lambda name, _: same(place.small, inner(at(name))), 5)

    systems = {"Farwire, WebDAV, one connection": get_all,
               "Farwire, `files get -r`": lambda: run(farwire.argv("files", "get", "-r", "web-1:small", f"{place.here}/small"))}
    if peer:
        systems["scp, OpenSSH direct, ControlMaster"] = lambda: run(scp("direct", f"@{root}/small", f"{place.here}/"))
    if peer and shutil.which("rsync"):
        systems["rsync, OpenSSH direct, ControlMaster"] = lambda: run(["rsync", "-r", "-e", shell, f"direct:{root}/small/", f"{place.here}/"])
    turns(f"{SMALL} files of 4 KiB down", systems, lambda *_: same(place.small, inner(place.here)), 5)

    systems = {"Farwire, WebDAV, what davfs2 asks for": lambda: dav.ask("PROPFIND", "/list/", body=ASKED, **{"Depth": "1"}),
               "Farwire, WebDAV, all properties": lambda: dav.ask("PROPFIND", "/list/", **{"Depth": "1"}),
               "Farwire, `files ls`": lambda: run(farwire.argv("files", "ls", "-l", "web-1:list"))}
    if peer:
        batch = f"{work}/batch"
        open(batch, "w").write(f"ls -l {root}/list\n")
        systems["sftp, OpenSSH jump, ControlMaster"] = lambda: run(["sftp", "-q", "-b", batch, "-F", f"{ssh.work}/config", "cm"])
    turns(f"listing of {LISTED}", systems, lambda _, out: out.count(b"entry-") >= LISTED, 5)

    search(farwire, root, turns)
    sync(farwire, place, row)
    serve.kill()


def sync(farwire, place, row):
    """What goes over the loopback, to the relay and from there, when one of many files has changed."""
    top = f"{place.here}/tree"
    place.clear()
    for n in range(LISTED):
        directory = f"{top}/d{n // 100:03}"
        os.makedirs(directory, exist_ok=True)
        open(f"{directory}/f{n:05}", "wb").write(os.urandom(8192))

    def once():
        counted = lambda: int(open("/sys/class/net/lo/statistics/tx_bytes").read())
        before = counted()
        run(farwire.argv("files", "sync", top, "web-1:w/tree"))
        return counted() - before

    whole = once()
    shares = []
    for n in range(5):
        open(f"{top}/d050/f05050", "wb").write(os.urandom(8192))
        shares.append(100 * once() / whole)
        assert filecmp.cmp(f"{top}/d050/f05050", f"{place.root}/w/tree/d050/f05050", shallow=False)
    row(f"sync of {LISTED} files of 8 KiB, one changed", "Farwire, part of the bytes of all", shares, "%")


def search(farwire, root, turns):
    top = f"{root}/tree"
    for n in range(SEARCHED):
        if n % 500 == 0:
            directory = f"{top}/d{n // 5000}/e{n // 500}"
            os.makedirs(directory)
        words = "needle\n" if n % 1000 == 7 else ""
        open(f"{directory}/f{n}.txt", "w").write(f"some words in file {n}\n" * 20 + words)
    systems = {"Farwire, `files search`": lambda: run(farwire.argv("files", "search", "needle", "web-1:tree"))}
    if shutil.which("rg"):
        systems["ripgrep on the server itself"] = lambda: run(["rg", "-n", "needle", top])
    turns(f"search in {SEARCHED} files", systems, lambda _, out: out.count(b"needle") == SEARCHED // 1000, 5)
