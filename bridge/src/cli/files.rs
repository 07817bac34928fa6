//! `farwire files`: what is beneath the roots that servers have opened.

mod serve;

use clap::Subcommand;
use farwire_protocol::failure::Failure;

use crate::client::Client;

/// Work on files of a server, beneath the directories that its owner has opened
#[derive(Debug, Subcommand)]
pub(crate) enum Files {
    Serve(serve::Serve),
}

impl Files {
    pub(crate) fn carry_out(&self, client: Client) -> Result<u8, Failure> {
        match self {
            Self::Serve(serve) => serve.carry_out(client).map(|()| 0),
        }
    }
}
