//! A person: a program of ours on a terminal, keys, and a screen.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

use crate::PATIENCE;

/// Somebody at a terminal of 80 by 24.
#[derive(Debug)]
pub struct Person {
    child: Child,
    master: OwnedFd,
    input: pipe::Sender,
    screen: Screen,
    all: Vec<u8>,
}

struct Screen(vt100::Parser);

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.screen().contents())
    }
}

impl Person {
    /// Starts a program on a terminal of its own.
    pub fn start(command: &Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a terminal");
        grantpt(&master).expect("it is ours");
        unlockpt(&master).expect("it can be opened");
        let name = ptsname(&master, Vec::new()).expect("a name").into_string().expect("of text");
        let slave = std::fs::File::options().read(true).write(true).open(name).expect("its end");
        rustix::io::ioctl_fionbio(&master, true).expect("it does not block");
        let command = command.as_std();
        // Makes standard input its controlling terminal.
        let mut start = Command::new("setsid");
        start.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => start.env(name, value),
                None => start.env_remove(name),
            };
        }
        let end = || Stdio::from(slave.try_clone().expect("a copy"));
        let child = start
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let copy = master.try_clone().expect("a copy");
        let person = Self {
            child,
            input: pipe::Sender::from_owned_fd_unchecked(copy).expect("keys"),
            screen: Screen(vt100::Parser::default()),
            all: Vec::new(),
            master,
        };
        person.size(80, 24);
        person
    }

    /// Has the terminal say that it is so large, whatever the screen is.
    pub fn size(&self, cols: u16, rows: u16) {
        let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).expect("a size");
    }

    /// Makes the terminal so large.
    pub fn resize(&mut self, cols: u16, rows: u16) {
        let fits = |number| std::num::NonZeroU16::new(number).expect("not nothing");
        self.size(cols, rows);
        self.screen.0.set_size(fits(rows), fits(cols));
    }

    /// Types.
    pub async fn types(&mut self, keys: &str) {
        self.types_bytes(keys.as_bytes()).await;
    }

    /// Types what need not be text.
    pub async fn types_bytes(&mut self, keys: &[u8]) {
        self.input.write_all(keys).await.expect("somebody reads");
    }

    /// Looks at no more than so many bytes of what has come. Gives how many there were.
    pub fn reads(&mut self, most: usize) -> usize {
        let mut buffer = vec![0; most];
        self.take(&mut buffer).len()
    }

    /// Ends the program, and what it started, as a crash does.
    pub async fn kill(mut self) {
        crate::world::children(self.pid()).into_iter().for_each(crate::world::kill);
        self.child.kill().await.expect("it is killed");
    }

    /// What the screen shows.
    pub fn screen(&mut self) -> String {
        let mut buffer = [0; 4096];
        while !self.take(&mut buffer).is_empty() {}
        self.screen.0.screen().contents()
    }

    /// Shows what has come, as much as fits; nothing once nobody has the other end any more.
    ///
    /// The terminal itself is asked, as it may have last words of which the runtime has not been
    /// told yet.
    fn take<'a>(&mut self, buffer: &'a mut [u8]) -> &'a [u8] {
        let length = rustix::io::read(&self.master, &mut *buffer).unwrap_or(0);
        let taken = &buffer[..length];
        self.screen.0.process(taken);
        self.all.extend_from_slice(taken);
        taken
    }

    /// All that has come.
    pub fn everything(&self) -> &[u8] {
        &self.all
    }

    /// Waits until the screen shows this.
    pub async fn sees(&mut self, text: &str) -> String {
        let seen = tokio::time::timeout(PATIENCE, async {
            while !self.screen().contains(text) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let seen = seen.await;
        let screen = self.screen();
        assert!(seen.is_ok(), "waited in vain for {text:?} on\n{screen}");
        screen
    }

    /// Waits until the program has ended.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                // Somebody has to read, or it cannot write its last words.
                self.screen();
                if let Some(status) = self.child.try_wait()? {
                    return Ok(status);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        waited.await.expect("it ends")
    }

    /// The process that sits at it.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it has not ended")
    }

    /// What the program has written since it was last looked at, as it came.
    pub fn raw(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match self.take(&mut buffer) {
                [] => return bytes,
                taken => bytes.extend_from_slice(taken),
            }
        }
    }

    /// What a program has switched on in the terminal, in words.
    pub fn modes(&mut self) -> String {
        self.screen();
        let screen = self.screen.0.screen();
        let all = [
            ("alternate ", screen.alternate_screen()),
            ("hidden ", screen.hide_cursor()),
            ("paste ", screen.bracketed_paste()),
            ("cursor ", screen.application_cursor()),
            ("keypad ", screen.application_keypad()),
            ("mouse ", screen.mouse_protocol_mode() != vt100::MouseProtocolMode::None),
            ("colour ", screen.fgcolor() != vt100::Color::Default),
        ];
        all.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect()
    }

    /// Whether the terminal shows what is typed, as it did before.
    pub fn echoes(&self) -> bool {
        let modes = rustix::termios::tcgetattr(&self.master).expect("modes").local_modes;
        modes.contains(rustix::termios::LocalModes::ECHO | rustix::termios::LocalModes::ICANON)
    }
}
