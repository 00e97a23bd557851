//! stub
#![allow(missing_docs)]
pub async fn serve(_l: tokio::net::TcpListener, _s: std::sync::Arc<crate::session::Service>) {}
