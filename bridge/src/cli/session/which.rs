//! The session that a command is about.

use clap::Args;
use farwire_protocol::failure::Failure;

use crate::client::Client;
use crate::handles::Handle;
use crate::sessions::find::SessionName;

/// The argument that names a session.
#[derive(Args, Debug)]
pub(crate) struct Which {
    /// The session: its id, such as s3, or SERVER/NAME
    #[arg(value_name = "SESSION")]
    session: String,
}

impl Which {
    pub(super) async fn find(&self, client: &Client) -> Result<Handle, Failure> {
        SessionName::parse(&self.session).find_even_ended(client).await
    }
}
