//! `farwire session …`: one terminal, looked at, typed into and put in order without attaching to
//! it.

mod commands;
mod history;
pub(in crate::cli) mod listed;
mod print;
mod send;
mod shape;
mod show;
mod typing;
mod which;

use clap::Subcommand;
use farwire_protocol::failure::Failure;

use crate::cli::jobs::online;
use crate::client::Client;

// A command that says more than a line has its words where its arguments are.
#[derive(Debug, Subcommand)]
pub(crate) enum Session {
    /// Show a session's state, who may type, who is attached, its labels and limits
    Show(show::Show),
    Screen(show::Screen),
    Send(send::Send),
    Commands(commands::Commands),
    History(history::History),
    /// Resize a session's terminal
    Resize(shape::Resize),
    /// Send a signal to a session's foreground program
    Signal(shape::Signal),
    Take(typing::Take),
    /// Release the keyboard of a session
    Release(typing::Release),
    Handoff(typing::Handoff),
    Policy(typing::SetPolicy),
    /// Set a session's tag, group or read-only state
    Label(shape::Label),
    Limits(shape::SetLimits),
    Close(shape::Close),
}

impl Session {
    pub(crate) fn wants_json(&self) -> bool {
        match self {
            Self::Show(show) => show.json.json,
            Self::Screen(screen) => screen.json.json,
            Self::Send(send) => send.json.json,
            Self::Commands(commands) => commands.json.json,
            Self::History(history) => history.json.json,
            Self::Resize(resize) => resize.json.json,
            Self::Signal(signal) => signal.json.json,
            Self::Take(take) => take.json.json,
            Self::Release(release) => release.json.json,
            Self::Handoff(handoff) => handoff.json.json,
            Self::Policy(policy) => policy.json.json,
            Self::Label(label) => label.json.json,
            Self::Limits(limits) => limits.json.json,
            Self::Close(close) => close.json.json,
        }
    }

    pub(crate) fn carry_out(&self, client: &Client) -> Result<u8, Failure> {
        let done = async {
            match self {
                Self::Show(show) => show.carry_out(client).await.map(|()| 0),
                Self::Screen(screen) => screen.carry_out(client).await.map(|()| 0),
                Self::Send(send) => send.carry_out(client).await,
                Self::Commands(commands) => commands.carry_out(client).await.map(|()| 0),
                Self::History(history) => history.carry_out(client).await.map(|()| 0),
                Self::Resize(resize) => resize.carry_out(client).await.map(|()| 0),
                Self::Signal(signal) => signal.carry_out(client).await.map(|()| 0),
                Self::Take(take) => take.carry_out(client).await.map(|()| 0),
                Self::Release(release) => release.carry_out(client).await.map(|()| 0),
                Self::Handoff(handoff) => handoff.carry_out(client).await.map(|()| 0),
                Self::Policy(policy) => policy.carry_out(client).await.map(|()| 0),
                Self::Label(label) => label.carry_out(client).await.map(|()| 0),
                Self::Limits(limits) => limits.carry_out(client).await.map(|()| 0),
                Self::Close(close) => close.carry_out(client).await.map(|()| 0),
            }
        };
        online(client, Box::pin(done))
    }
}
