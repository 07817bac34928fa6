//! rclone: a mount of FUSE. It runs as a daemon that is told what to mount, and not as
//! `rclone mount`, which ends with its mount and leaves behind what it has not sent.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use data_encoding::{BASE64, HEXLOWER};
use farwire_protocol::failure::{Failure, Kind};
use rustix::fs::FlockOperation;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::super::serve::token;
use super::{Ends, Wanted, failure, fusermount, run};
use crate::cli::output::print;
use crate::text::neutral::neutral_within;

/// How often to check whether it is still mounted.
const LOOK: Duration = Duration::from_secs(2);

/// How long to wait before checking again what is in use, or not yet sent.
const AGAIN: Duration = Duration::from_millis(200);

/// Directory contents are read again after this many nanoseconds.
const FRESH: u64 = 5_000_000_000;

/// After the unmount, unsent files are given up after this long without progress: the server
/// refuses them.
const STUCK: Duration = Duration::from_secs(60);

/// An idle daemon ends within this time, or is killed.
const GOODBYE: Duration = Duration::from_secs(3);

/// The longest answer of the daemon.
const ANSWER: u64 = 1 << 20;

pub(super) async fn mount(wanted: &Wanted<'_>) -> Result<(), Failure> {
    let mut ends = Ends::new()?;
    let cache = Cache::own(&wanted.place)?;
    let started = tokio::select! {
        started = Rclone::start(wanted, &cache) => started,
        () = ends.next() => Err(Failure::new(Kind::Cancelled, "it was ended before it was mounted")),
    };
    let mut rclone = match started {
        Ok(rclone) => rclone,
        Err(failure) => {
            // It may have got this far.
            let _ = unmount(wanted, &["-z"]).await;
            return Err(failure);
        }
    };
    print(&format!("ready {}\n", wanted.dir.display()))?;
    loop {
        tokio::select! {
            ended = rclone.child.wait() => {
                let why = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                // What it leaves answers nobody.
                let _ = unmount(wanted, &["-z"]).await;
                return Err(failure("rclone ended", &why));
            }
            () = ends.next() => break,
            () = sleep(LOOK) => {
                if !rclone.mounts().await {
                    break;
                }
            }
        }
    }
    tokio::select! {
        ended = rclone.finish(wanted) => ended.inspect(|()| cache.remove()),
        () = ends.next() => rclone.give_up(wanted).await,
    }
}

/// The daemon.
struct Rclone {
    child: Child,
    /// Where it listens: `127.0.0.1:PORT`.
    address: String,
    password: String,
    /// Passes on what it says.
    _said: AbortOnDropHandle<()>,
}

impl Rclone {
    /// Starts it, and lets it mount.
    async fn start(wanted: &Wanted<'_>, cache: &Cache) -> Result<Self, Failure> {
        let password = token()?;
        // Secrets go where other users of this machine cannot read them: not into the arguments.
        let mut child = Command::new("rclone")
            .args(["rcd", "--rc-addr", "127.0.0.1:0", "--cache-dir"])
            .arg(&cache.path)
            .arg("--config")
            .arg(cache.configured(wanted)?)
            .env("RCLONE_RC_USER", "farwire")
            .env("RCLONE_RC_PASS", &password)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C is for us: the daemon still has something to send.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failure("rclone", &error))?;
        let said = child.stderr.take().ok_or_else(|| failure("rclone", &"it prints nothing"))?;
        let mut said = BufReader::new(said).lines();
        let address = listens(&mut said).await?;
        let said = AbortOnDropHandle::new(tokio::spawn(pass_on(said)));
        let rclone = Self { child, address, password, _said: said };
        let what = json!({
            "fs": "farwire:", "mountPoint": wanted.dir.to_string_lossy(),
            // Mode 2 is `writes`: a file that is written is here as a whole, and then sent.
            "vfsOpt": {
                "CacheMode": 2, "DirCacheTime": FRESH, "ReadOnly": wanted.read_only,
            },
        });
        rclone.call("mount/mount", &what).await?;
        Ok(rclone)
    }

    /// Asks it for something.
    async fn call(&self, method: &str, input: &Value) -> Result<Value, Failure> {
        let wrong = |error: io::Error| failure("rclone", &error);
        let body = input.to_string();
        let basic = BASE64.encode(format!("farwire:{}", self.password).as_bytes());
        let question = format!(
            "POST /{method} HTTP/1.0\r\nHost: {}\r\nAuthorization: Basic {basic}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let mut stream = TcpStream::connect(&self.address).await.map_err(wrong)?;
        stream.write_all(question.as_bytes()).await.map_err(wrong)?;
        let mut answer = String::new();
        stream.take(ANSWER).read_to_string(&mut answer).await.map_err(wrong)?;
        understood(&answer)
    }

    /// Whether anything is mounted.
    async fn mounts(&self) -> bool {
        let listed = self.call("mount/listmounts", &json!({})).await;
        // A daemon that does not answer has ended, which is noticed elsewhere.
        listed.map_or(true, |listed| {
            listed["mountPoints"].as_array().is_some_and(|mounts| !mounts.is_empty())
        })
    }

    /// How many files it has not sent.
    async fn waiting(&self) -> Result<u64, Failure> {
        let stats = self.call("vfs/stats", &json!({})).await?;
        let count = |name: &str| stats["diskCache"][name].as_u64().unwrap_or(0);
        Ok(count("uploadsInProgress") + count("uploadsQueued"))
    }

    /// Whether sending has failed, and nothing is being sent now.
    async fn has_failed(&self) -> Result<bool, Failure> {
        let stats = self.call("core/stats", &json!({})).await?;
        let errors = stats["errors"].as_u64().unwrap_or(0);
        let sending = stats["transferring"].as_array().is_some_and(|all| !all.is_empty());
        Ok(errors > 0 && !sending)
    }

    /// Unmounts, so that nothing more is written; waits until everything is sent; then ends the
    /// daemon.
    async fn finish(&mut self, wanted: &Wanted<'_>) -> Result<(), Failure> {
        let mut told = false;
        while self.mounts().await {
            let Err(why) = unmount(wanted, &[]).await else { break };
            if !told {
                note!("farwire: {why}; waiting for it, press Ctrl-C again not to wait");
            }
            told = true;
            sleep(AGAIN).await;
        }
        let mut told = false;
        let (mut left, mut since) = (u64::MAX, Instant::now());
        loop {
            let waiting = self.waiting().await?;
            if waiting < left || !self.has_failed().await? {
                (left, since) = (waiting, Instant::now());
            }
            match waiting {
                0 => break,
                count if since.elapsed() > STUCK => {
                    let _ = self.child.kill().await;
                    return Err(unsent(&format!(
                        "the server does not accept {count} of the files"
                    )));
                }
                count if !told => {
                    let files =
                        if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
                    note!("farwire: unmounted; {files} to be sent, press Ctrl-C again not to wait");
                }
                _ => {}
            }
            told = true;
            sleep(AGAIN).await;
        }
        // It has nothing left to do, and may as well be killed.
        let _ = self.call("core/quit", &json!({})).await;
        if timeout(GOODBYE, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
        Ok(())
    }

    /// Ends it at once.
    async fn give_up(&mut self, wanted: &Wanted<'_>) -> Result<(), Failure> {
        let left = timeout(GOODBYE, self.waiting()).await;
        let _ = unmount(wanted, &["-z"]).await;
        let _ = self.child.kill().await;
        match left {
            Ok(Ok(0)) => Ok(()),
            Ok(Ok(count)) => {
                Err(unsent(&format!("{count} of the files that were written were not sent")))
            }
            _ => Err(unsent("it is not known whether everything that was written has been sent")),
        }
    }
}

fn unsent(text: &str) -> Failure {
    Failure::new(Kind::Cancelled, text)
        .with_hint("they are kept here, and are sent when the same directory is mounted again")
}

/// Where the daemon listens, as it says when it does.
async fn listens(said: &mut Lines<BufReader<ChildStderr>>) -> Result<String, Failure> {
    let mut last = "it ended at once".to_owned();
    while let Ok(Some(line)) = said.next_line().await {
        if let Some(address) = address(&line) {
            return Ok(address);
        }
        last = neutral_within(&line, 400);
    }
    Err(failure("rclone", &last))
}

/// The address in `… Serving remote control on http://127.0.0.1:4711/`.
fn address(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("Serving remote control on ")?;
    let (_, rest) = rest.split_once("http://")?;
    let end = rest.find(|char: char| char != ':' && char != '.' && !char.is_ascii_digit());
    let address = rest.get(..end.unwrap_or(rest.len()))?;
    address.parse::<std::net::SocketAddr>().ok().map(|address| address.to_string())
}

async fn pass_on(mut said: Lines<BufReader<ChildStderr>>) {
    while let Ok(Some(line)) = said.next_line().await {
        note!("rclone: {}", neutral_within(&line, 1_000));
    }
}

/// What the daemon answered.
fn understood(answer: &str) -> Result<Value, Failure> {
    let (head, body) =
        answer.split_once("\r\n\r\n").ok_or_else(|| failure("rclone", &"it broke off"))?;
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    if head.split(' ').nth(1) == Some("200") {
        return Ok(value);
    }
    let why = value["error"].as_str().unwrap_or_else(|| head.lines().next().unwrap_or_default());
    Err(failure("rclone", &neutral_within(why, 400)))
}

async fn unmount(wanted: &Wanted<'_>, more: &[&str]) -> Result<(), String> {
    let program = fusermount().ok_or_else(|| "fusermount3 is gone".to_owned())?;
    run(Command::new(program).arg("-u").args(more).arg(&wanted.dir)).await
}

/// Where unsent files are kept. One for each place: what was written to one is never sent to
/// another.
#[derive(Debug)]
struct Cache {
    path: PathBuf,
    /// While it is open, the directory belongs to us.
    _lock: File,
}

impl Cache {
    /// That of a place, which no other process uses.
    fn own(place: &str) -> Result<Self, Failure> {
        let set = |name: &str| {
            std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
        };
        let above = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
        let above =
            above.ok_or_else(|| failure("mount", &"neither XDG_CACHE_HOME nor HOME is set"))?;
        Self::own_in(&above.join("farwire/mounts"), place)
    }

    /// Writes the daemon's configuration. A named remote is found again in the cache, even if its
    /// URL has changed.
    fn configured(&self, wanted: &Wanted<'_>) -> Result<PathBuf, Failure> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = self.path.join("rclone.conf");
        let text = format!(
            // From other vendors rclone gets no modification times: a file that keeps its size
            // would never be seen as changed.
            "[farwire]\ntype = webdav\nvendor = owncloud\nurl = {}\nbearer_token = {}\n",
            wanted.url, wanted.token
        );
        let written = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| failure(&path.display().to_string(), &error))?;
        Ok(path)
    }

    /// Removes it once everything has been sent.
    fn remove(&self) {
        // What remains only takes up space.
        let _ = std::fs::remove_dir_all(&self.path);
    }

    fn own_in(above: &std::path::Path, place: &str) -> Result<Self, Failure> {
        use std::os::unix::fs::DirBuilderExt as _;
        let name = HEXLOWER.encode(&Sha256::digest(place)[..8]);
        for number in 0..100 {
            let path = above.join(format!("{name}-{number}"));
            let wrong = |error: io::Error| failure(&path.display().to_string(), &error);
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(wrong)?;
            let lock = File::open(&path).map_err(wrong)?;
            // The same place may be mounted twice.
            if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                return Ok(Self { path, _lock: lock });
            }
        }
        Err(failure("mount", &"it is mounted too often"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_daemon_says_is_understood() {
        for line in [
            "2026/11/26 12:42:09 NOTICE: Serving remote control on http://127.0.0.1:45681/",
            "NOTICE: Serving remote control on [http://127.0.0.1:45681/]",
        ] {
            assert_eq!(address(line).as_deref(), Some("127.0.0.1:45681"), "{line}");
        }
        for line in ["", "Serving remote control on http://", "http://127.0.0.1:1/"] {
            assert_eq!(address(line), None, "{line}");
        }
        let ok = understood("HTTP/1.0 200 OK\r\nA: b\r\n\r\n{\"a\": 1}\n").unwrap();
        assert_eq!(ok["a"], 1);
        let refused = understood("HTTP/1.0 500 X\r\n\r\n{\"error\": \"not empty\"}").unwrap_err();
        assert_eq!(refused.message, "rclone: not empty");
        assert!(understood("HTTP/1.0 200").is_err());
    }

    #[test]
    fn what_is_to_be_sent_is_kept_for_each_place_apart() {
        let above = tempfile::tempdir().unwrap();
        let one = Cache::own_in(above.path(), "web-1 work").unwrap();
        let twice = Cache::own_in(above.path(), "web-1 work").unwrap();
        let other = Cache::own_in(above.path(), "web-2 work").unwrap();
        assert!(one.path != twice.path && one.path != other.path && twice.path != other.path);
        let path = one.path.clone();
        drop(one);
        assert_eq!(Cache::own_in(above.path(), "web-1 work").unwrap().path, path);
    }
}
