//! stub
#![allow(missing_docs)]
use crate::session::*;
use crate::stats::TrafficSnapshot;
use std::sync::Arc;
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    Immediate,
    WaitForServers,
    WaitForClients,
}
#[derive(Debug)]
pub struct ConfigRow {
    pub key: String,
    pub value: String,
    pub default: String,
    pub changeable: bool,
}
pub trait Verbs: Send + Sync + std::fmt::Debug {
    fn reload(&self) -> Result<String, Vec<String>>;
    fn shutdown(&self, how: Shutdown);
    fn effective(&self) -> Vec<ConfigRow>;
}
#[derive(Debug)]
pub struct AdminConsole(Arc<dyn Verbs>);
impl AdminConsole {
    pub fn new(v: Arc<dyn Verbs>) -> Self {
        Self(v)
    }
    pub fn tick(&self, _s: &Arc<Service>) {
        let _ = &self.0;
    }
    pub fn stats_line(&self) -> String {
        String::new()
    }
    pub fn retire(&self, _d: &str, _t: TrafficSnapshot) {}
}
impl Console for AdminConsole {
    fn run<'a>(&'a self, _s: &'a Arc<Service>, _r: Role, _c: &'a str) -> Answering<'a> {
        Box::pin(async { Ok(bytes::BytesMut::new()) })
    }
}
