//! The exporter's HTTP server. A scraper that misbehaves hurts only itself: there are few connections at a time, each
//! has one request and one deadline, and the figures are read beside the threads that serve sessions.

use super::applications::Applications;
use super::render;
use crate::session::Service;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 32;
/// From accept to the end of the request's head.
const HEAD: Duration = Duration::from_secs(5);
/// From accept to the last byte of the answer.
const REQUEST: Duration = Duration::from_secs(15);
/// Pause after a failed accept, which is mostly for want of descriptors.
const RETRY: Duration = Duration::from_millis(100);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS: HeaderValue = HeaderValue::from_static(prometheus::TEXT_FORMAT);

/// What the page is made from.
struct Source {
    service: Arc<Service>,
    applications: Applications,
}

/// Answers scrapes for ever.
///
/// Cancel safe: requests that are under way come to their end.
pub async fn serve(listener: TcpListener, service: Arc<Service>) {
    let source = Arc::new(Source { service, applications: Applications::default() });
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let source = Arc::clone(&source);
                tokio::spawn(async move {
                    converse(stream, source).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!("metrics: cannot accept a connection: {error}");
                sleep(RETRY).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, source: Arc<Source>) {
    let answering = service_fn(move |request| {
        let source = Arc::clone(&source);
        async move { Ok::<_, Infallible>(answer(&request, source).await) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), answering);
    match timeout(REQUEST, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("metrics: {error}"),
        Err(_) => tracing::debug!("metrics: the client takes too long"),
    }
}

async fn answer<B>(request: &Request<B>, source: Arc<Source>) -> Response<Full<Bytes>> {
    match route(request.method(), request.uri().path()) {
        Route::Metrics => metrics(source).await,
        Route::Health => response(StatusCode::OK, TEXT, "ok\n"),
        Route::NotFound => response(StatusCode::NOT_FOUND, TEXT, "see /metrics and /healthz\n"),
        Route::NotAllowed => {
            let mut response = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            response
        }
    }
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Metrics,
    Health,
    NotFound,
    NotAllowed,
}

fn route(method: &Method, path: &str) -> Route {
    match path {
        _ if *method != Method::GET => Route::NotAllowed,
        "/metrics" => Route::Metrics,
        "/healthz" => Route::Health,
        _ => Route::NotFound,
    }
}

/// With many pools and clients this takes milliseconds, which sessions on this thread would wait.
async fn metrics(source: Arc<Source>) -> Response<Full<Bytes>> {
    let rendered =
        tokio::task::spawn_blocking(move || render(&source.service.overview(), &source.applications)).await;
    match rendered {
        Ok(Ok(page)) => response(StatusCode::OK, METRICS, page),
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::fmt::Display) -> Response<Full<Bytes>> {
    tracing::error!("metrics: {error}");
    response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the figures cannot be written, see the log\n")
}

fn response(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_pages_can_be_got() {
        assert_eq!(route(&Method::GET, "/metrics"), Route::Metrics);
        assert_eq!(route(&Method::GET, "/healthz"), Route::Health);
        assert_eq!(route(&Method::GET, "/"), Route::NotFound);
        assert_eq!(route(&Method::HEAD, "/metrics"), Route::NotAllowed);
        assert_eq!(route(&Method::POST, "/nothing"), Route::NotAllowed);
    }
}
