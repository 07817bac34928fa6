//! `/livez`, `/readyz` and `/metrics`, for whoever looks after the relay.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use farwire_protocol::failure::{Failure, Kind};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use crate::run::Relay;

#[derive(Clone)]
struct Site {
    relay: Arc<Relay>,
    metrics: PrometheusHandle,
}

/// Takes the address, so that a port in use is known before the relay says that it is ready.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::new(Kind::Io, format!("cannot serve HTTP on {address}: {error}"))
            .with_hint("choose another address with --http")
    })
}

/// Serves until it is dropped.
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
    if site.relay.draining.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n");
    }
    if site.relay.store.check().await.is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n");
    }
    (StatusCode::OK, "ready\n")
}

async fn render(State(site): State<Site>) -> String {
    let (agents, devices) = site.relay.presence.counts();
    metrics::gauge!("farwire_relay_agents").set(agents as f64);
    metrics::gauge!("farwire_relay_devices").set(devices as f64);
    metrics::gauge!("farwire_relay_unproven").set(site.relay.entrance.len() as f64);
    site.metrics.render()
}
