//! `/livez`, `/readyz` and `/metrics`, for the operator of the relay.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use farwire_protocol::failure::{Failure, Kind};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use crate::relay::Relay;

#[derive(Clone)]
struct Site {
    relay: Arc<Relay>,
    metrics: PrometheusHandle,
}

/// Binds the address, so that a port in use ends the start before the relay says that it is ready.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::new(Kind::Io, format!("cannot serve HTTP on {address}: {error}"))
            .with_hint("choose another address with --http")
    })
}

/// Serves HTTP until the future is dropped.
pub(crate) async fn serve(listener: TcpListener, relay: Arc<Relay>, metrics: PrometheusHandle) {
    let site = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(render))
        .with_state(Site { relay, metrics });
    if let Err(error) = axum::serve(listener, site).await {
        tracing::error!(%error, "HTTP ended");
    }
}

async fn ready(State(site): State<Site>) -> (StatusCode, &'static str) {
    if site.relay.is_draining() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n");
    }
    if site.relay.store.check().await.is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n");
    }
    (StatusCode::OK, "ready\n")
}

async fn render(State(site): State<Site>) -> String {
    let Relay { presence, entrance, .. } = &*site.relay;
    metrics::gauge!("farwire_relay_agents").set(presence.count_agents() as f64);
    metrics::gauge!("farwire_relay_devices").set(presence.count_devices() as f64);
    metrics::gauge!("farwire_relay_unproven").set(entrance.len() as f64);
    site.metrics.render()
}
