//! Which sessions there are.

use farwire_protocol::failure::Failure;

use crate::client::Client;
use crate::fleet::Fleet;
use crate::sessions::find::{self, KnownSession};
use crate::verbs::servers::{Inquiry, reachable};

/// Lists sessions.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    /// Only those of this server.
    pub server: Option<String>,
    /// Include those that have ended or are lost.
    pub all: bool,
}

impl Sessions {
    /// Asks the named server, or all that the relay lists as online.
    ///
    /// # Errors
    ///
    /// `unknown_server`, or why the relay does not say which servers are online.
    pub async fn carry_out<'a>(
        &self,
        client: &'a Client,
    ) -> Result<Inquiry<'a, Vec<KnownSession>>, Failure> {
        let (online, away) = reachable(client, self.server.as_deref()).await?;
        let all = self.all;
        let fleet =
            Fleet::ask(
                online,
                move |server| async move { find::on_server(client, &server, all).await },
            );
        Ok(Inquiry { fleet, away })
    }
}
