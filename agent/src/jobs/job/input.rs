//! What is passed on to a program: the bytes of its standard input, or of its terminal.

use std::sync::{Arc, LazyLock};

use tokio::sync::watch;

use super::{Job, Place, Stdin, lock};
use crate::holder::message::Order;
use crate::os::input::Input;

/// No input is ever passed on.
static NOTHING: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));

impl Job {
    /// How far standard input has been passed on, and a way to wait for more.
    pub(crate) fn written(&self) -> watch::Receiver<u64> {
        self.written.as_ref().unwrap_or(&NOTHING).subscribe()
    }

    /// Passes on standard input. A program that wants no more gets none, and that is no error.
    pub(crate) async fn write(&self, bytes: &[u8]) {
        if self.written.is_none() {
            return;
        }
        if self.started().await.is_err() {
            return;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(pipe) = self.stdin() else { break };
            // A full pipe when this is cancelled: what was taken is counted.
            match pipe.try_write(rest) {
                Ok(taken) => {
                    rest = rest.get(taken..).unwrap_or_default();
                    self.passed(taken);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if pipe.writable().await.is_err() {
                        break;
                    }
                }
                Err(_) => {
                    self.let_go_of_stdin();
                    break;
                }
            }
        }
        self.passed(rest.len());
    }

    /// So many bytes of standard input have been passed on.
    pub(crate) fn passed(&self, bytes: usize) {
        if let Some(written) = &self.written {
            self.spool.add_input(bytes as u64);
            written.send_modify(|written| *written += bytes as u64);
        }
    }

    /// The master of its terminal, while it runs.
    pub(crate) fn master(&self) -> Option<Arc<Input>> {
        self.terminal.as_ref().and_then(|_| self.stdin())
    }

    fn stdin(&self) -> Option<Arc<Input>> {
        match &*lock(&self.stdin) {
            Stdin::Open(pipe) => Some(pipe.clone()),
            Stdin::Waiting | Stdin::Closed => None,
        }
    }

    /// Nothing more can be passed on.
    pub(crate) fn let_go_of_stdin(&self) {
        let before = std::mem::replace(&mut *lock(&self.stdin), Stdin::Closed);
        if let Stdin::Open(_) = before
            && let Place::Held(line) = &*lock(&self.place)
        {
            line.order(&Order::CloseInput(self.id));
        }
    }

    /// Ends standard input, when the bridge has ended it and everything before has been passed on.
    pub(crate) async fn close_stdin(&self) {
        if self.started().await.is_ok() {
            self.let_go_of_stdin();
        }
    }
}
