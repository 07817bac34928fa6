//! `farwire files serve`: a root as a WebDAV server on this machine.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use farwire_protocol::failure::{Failure, Kind};
use farwire_protocol::header::Class;
use farwire_protocol::streams::files::{Enter, Root};
use tokio::net::TcpListener;

use crate::cli::output::print;
use crate::cli::runtime::{Ends, runtime};
use crate::client::Client;
use crate::files::place::ServerPath;
use crate::files::serve::{Guard, Served, serve};
use crate::files::{Files, RootPath, RootRequest};

/// Serve a root, or a directory in one, over WebDAV on this machine, for any WebDAV client
///
/// Nothing outside the directory can be reached. Prints `ready URL` once it listens, and serves
/// until it is terminated. The URL contains a token that is new at each start; whoever has it has
/// access to the root. The server enforces what is allowed.
#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// The directory: SERVER or SERVER:PATH
    dir: ServerPath,
    /// The root to serve, if the server has several and no path is given
    #[arg(long, value_name = "NAME")]
    root: Option<String>,
    /// The address to listen on; port 0 picks a free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Allow addresses that other machines can reach; everybody on the path can read the traffic
    #[arg(long)]
    allow_remote: bool,
    /// Refuse all changes
    #[arg(long)]
    read_only: bool,
}

impl Serve {
    pub(crate) fn carry_out(&self, client: Client) -> Result<(), Failure> {
        if !self.listen.ip().is_loopback() && !self.allow_remote {
            let text =
                format!("{} can be reached from other machines, without encryption", self.listen);
            return Err(Failure::new(Kind::InvalidArgument, text)
                .with_hint("listen on 127.0.0.1, or give --allow-remote"));
        }
        runtime()?.block_on(self.serve(client))
    }

    async fn serve(&self, client: Client) -> Result<(), Failure> {
        let mut request = match &self.root {
            Some(_) if !self.dir.path.is_empty() => {
                let text = "the path already names the root; leave --root out";
                return Err(Failure::new(Kind::InvalidArgument, text));
            }
            Some(root) => {
                RootRequest::unbound(Enter { root: Some(root.clone()), ..Enter::default() })
            }
            None => self.dir.below(&client).await?,
        };
        request.enter.read_only = self.read_only.then_some(true);
        let leaving = client.clone();
        let Ready { served, listener, address, url, token } =
            ready(client, &self.dir.server, request, self.listen).await?;
        let mut ends = Ends::new()?;
        let path = url.rsplit('/').nth(1).unwrap_or_default();
        print(&format!("ready http://farwire:{token}@{address}/{path}/\n"))?;
        let served = tokio::select! {
            served = serve(Arc::new(served), listener) => served.map_err(|error| {
                Failure::new(Kind::Io, format!("cannot listen on {address}: {error}"))
            }),
            () = ends.next() => Ok(()),
        };
        leaving.leave().await;
        served
    }
}

/// A root that is about to be served.
pub(super) struct Ready {
    pub(super) served: Served,
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
    /// Where, without the token.
    pub(super) url: String,
    pub(super) token: String,
}

/// Enters a root and listens.
pub(super) async fn ready(
    client: Client,
    server: &str,
    mut request: RootRequest,
    listen: SocketAddr,
) -> Result<Ready, Failure> {
    let server = client.find(server).await?;
    request.enter.client = Some("files serve".to_owned());
    // A missing root is reported before the URL is printed.
    let entered = Files::enter(&client, &server, &request, Class::Interactive).await?;
    let Root { name, path, .. } = entered.root.clone();
    entered.leave().await?;
    let failed = |error: std::io::Error| {
        Failure::new(Kind::Io, format!("cannot listen on {listen}: {error}"))
    };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let token = token()?;
    let hosts = vec![address.to_string(), format!("localhost:{}", address.port())];
    let url = format!("http://{address}/{name}/");
    request.path = RootPath::Known(path.0);
    (request.enter.root, request.enter.prefix) = (Some(name.clone()), Some(format!("/{name}")));
    let served = Served { client, server, request, guard: Guard::new(token.clone(), hosts) };
    Ok(Ready { served, listener, address, url, token })
}

/// 256 random bits, in letters that a URL takes.
pub(super) fn token() -> Result<String, Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new(Kind::ResourceExhausted, format!("no random numbers: {error}"))
    })?;
    Ok(data_encoding::BASE64URL_NOPAD.encode(&bytes))
}
