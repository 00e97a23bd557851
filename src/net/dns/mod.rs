//! Names of hosts: looked up, kept for a while, and looked up again for as long as connections depend on them.
//!
//! A connection to an address that a name gave holds the [`Standing`] of that address. When the name has other addresses
//! the standing of those that are gone is lost, and whoever holds one knows that its connection is to be given up.

mod resolv_conf;
mod stub;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use stub::{Answered, Stub};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

/// How often it is looked for names whose time is over.
const ROUND: Duration = Duration::from_millis(500);

/// How long answers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Addresses.
    pub found: Duration,
    /// That there are none.
    pub failed: Duration,
}

/// Whether an address is still one of its name's. All clones are one.
#[derive(Debug, Clone, Default)]
pub struct Standing(Arc<AtomicBool>);

impl Standing {
    /// Whether the name has lost this address.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// The flag that tells that the address is lost, for those who know nothing of names.
    #[must_use]
    pub fn lost(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }

    fn lose(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether a connection depends on it.
    fn is_held(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// An address of a host.
#[derive(Debug, Clone)]
pub struct Found {
    /// The address.
    pub ip: IpAddr,
    /// Whether it is still one of the name's; `None` where the host is an address and no name.
    pub standing: Option<Standing>,
}

/// A name as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameView {
    /// The name.
    pub name: String,
    /// How long until it is looked up again.
    pub left: Duration,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Looks up names, and remembers what came of it. It knows no more names than it was ever asked for and not told to
/// [forget](Resolver::retain).
#[derive(Debug)]
pub struct Resolver {
    source: Source,
    keep: Mutex<Keep>,
    names: Mutex<HashMap<String, Arc<Name>>>,
    asking: AtomicU64,
    losses: AtomicU64,
}

/// Who is asked.
#[derive(Debug)]
enum Source {
    /// The system: `/etc/hosts`, DNS, and whatever else `nsswitch.conf` names.
    System,
    /// `/etc/hosts` and the servers of another `resolv.conf`.
    Stub(Stub),
}

#[derive(Debug)]
struct Name {
    text: String,
    answer: Mutex<Answer>,
    /// Held by who looks it up, so that all others wait for that one look-up.
    lookup: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Answer {
    addresses: Vec<(IpAddr, Standing)>,
    /// Why the last look-up gave none.
    failure: Option<String>,
    /// When it came.
    since: Option<Instant>,
    /// When it is too old; `None` before the first.
    until: Option<Instant>,
    /// How many have asked: each begins with another address.
    turn: usize,
}

impl Resolver {
    /// One that knows nothing yet, and asks the system, or the servers that another `resolv.conf` names.
    ///
    /// # Errors
    ///
    /// When that file cannot be read.
    pub fn new(resolv_conf: Option<&Path>, keep: Keep) -> io::Result<Arc<Self>> {
        let source = match resolv_conf {
            None => Source::System,
            Some(path) => Source::Stub(Stub::new(path)?),
        };
        let (keep, names) = (Mutex::new(keep), Mutex::default());
        Ok(Arc::new(Self { source, keep, names, asking: AtomicU64::new(0), losses: AtomicU64::new(0) }))
    }

    /// Changes how long answers are kept: those that come from now on.
    pub fn set_keep(&self, keep: Keep) {
        *lock(&self.keep) = keep;
    }

    /// Forgets names that are not to be kept.
    pub fn retain(&self, mut is_kept: impl FnMut(&str) -> bool) {
        lock(&self.names).retain(|name, _| is_kept(name));
    }

    /// The addresses of a host, each time beginning with the next of them. An address stands for itself.
    ///
    /// While a name cannot be looked up, the addresses that it had last are as good as any.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// When it has none.
    pub async fn addresses(&self, host: &str) -> io::Result<Vec<Found>> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![Found { ip, standing: None }]);
        }
        let name = self.name(host);
        // One in use is kept fresh as it is, and nobody has to wait for that.
        if !name.is_held() {
            self.refresh(&name).await;
        }
        name.next_turn()
    }

    /// All names that were asked for, in their order.
    #[must_use]
    pub fn list(&self) -> Vec<NameView> {
        let now = Instant::now();
        let mut names: Vec<_> = lock(&self.names).values().map(|name| name.view(now)).collect();
        names.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        names
    }

    /// Look-ups under way.
    #[must_use]
    pub fn under_way(&self) -> u64 {
        self.asking.load(Ordering::Relaxed)
    }

    /// How often a name has lost an address.
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }

    fn name(&self, text: &str) -> Arc<Name> {
        let mut names = lock(&self.names);
        if let Some(name) = names.get(text) {
            return Arc::clone(name);
        }
        let name =
            Name { text: text.to_owned(), answer: Mutex::default(), lookup: tokio::sync::Mutex::default() };
        let name = Arc::new(name);
        names.insert(text.to_owned(), Arc::clone(&name));
        name
    }

    /// Looks a name up if what is known of it is too old.
    async fn refresh(&self, name: &Name) {
        if !name.is_stale(Instant::now()) {
            return;
        }
        let asked = Instant::now();
        let _mine = name.lookup.lock().await;
        // Somebody else may have asked while this one waited to.
        if name.was_asked_since(asked) {
            return;
        }
        let _counted = UnderWay::begin(&self.asking);
        let result = match &self.source {
            Source::System => ask_system(&name.text).await,
            Source::Stub(stub) => stub.ask(&name.text).await.map(|answered| name.complete(answered)),
        };
        let keep = *lock(&self.keep);
        if name.take(result, keep, Instant::now()) {
            self.losses.fetch_add(1, Ordering::Release);
        }
    }

    /// Looks names up again for as long as connections depend on them. Ends with the resolver.
    pub fn keep_fresh(resolver: &Arc<Self>) -> impl Future<Output = ()> + Send + use<> {
        let resolver: Weak<Self> = Arc::downgrade(resolver);
        async move {
            loop {
                sleep(ROUND).await;
                let Some(resolver) = resolver.upgrade() else { return };
                let now = Instant::now();
                let due: Vec<_> =
                    lock(&resolver.names).values().filter(|name| name.is_due(now)).cloned().collect();
                for name in due {
                    let resolver = Arc::clone(&resolver);
                    tokio::spawn(async move { resolver.refresh(&name).await });
                }
            }
        }
    }
}

impl Name {
    fn is_stale(&self, now: Instant) -> bool {
        lock(&self.answer).until.is_none_or(|until| until <= now)
    }

    /// Whether it is too old, and a connection depends on it, and nobody is looking it up.
    fn is_due(&self, now: Instant) -> bool {
        self.is_stale(now) && self.is_held() && self.lookup.try_lock().is_ok()
    }

    /// Whether a connection depends on it.
    fn is_held(&self) -> bool {
        lock(&self.answer).addresses.iter().any(|(_, standing)| standing.is_held())
    }

    fn was_asked_since(&self, asked: Instant) -> bool {
        lock(&self.answer).since.is_some_and(|since| since > asked)
    }

    fn next_turn(&self) -> io::Result<Vec<Found>> {
        let mut answer = lock(&self.answer);
        let count = answer.addresses.len();
        if count == 0 {
            let reason = answer.failure.clone().unwrap_or_else(|| "it has no address".to_owned());
            return Err(io::Error::new(io::ErrorKind::NotFound, reason));
        }
        let first = answer.turn % count;
        answer.turn = answer.turn.wrapping_add(1);
        let in_turn = answer.addresses.iter().cycle().skip(first).take(count);
        Ok(in_turn.map(|(ip, standing)| Found { ip: *ip, standing: Some(standing.clone()) }).collect())
    }

    /// The addresses of an answer, and those of before of a family that nobody could say anything of: a question that
    /// fails takes no address away.
    fn complete(&self, answered: Answered) -> Vec<IpAddr> {
        let Answered { mut addresses, unknown } = answered;
        if let Some(family) = unknown {
            let known = lock(&self.answer);
            addresses.extend(known.addresses.iter().map(|(ip, _)| *ip).filter(|ip| family.has(*ip)));
        }
        addresses
    }

    /// Takes over what a look-up came to; tells whether an address has lost its standing.
    fn take(&self, result: io::Result<Vec<IpAddr>>, keep: Keep, now: Instant) -> bool {
        let mut answer = lock(&self.answer);
        answer.since = Some(now);
        match result {
            Ok(found) if !found.is_empty() => {
                answer.until = Some(now + keep.found);
                answer.failure = None;
                answer.move_to(&self.text, found)
            }
            other => {
                let reason =
                    other.err().map_or_else(|| "it has no address".to_owned(), |error| error.to_string());
                if answer.failure.is_none() {
                    tracing::warn!(name = self.text, "DNS lookup failed: {reason}");
                }
                answer.until = Some(now + keep.failed);
                answer.failure = Some(reason);
                false
            }
        }
    }

    fn view(&self, now: Instant) -> NameView {
        let answer = lock(&self.answer);
        NameView {
            name: self.text.clone(),
            left: answer.until.map(|until| until.saturating_duration_since(now)).unwrap_or_default(),
            addresses: answer.addresses.iter().map(|(ip, _)| *ip).collect(),
        }
    }
}

impl Answer {
    /// Takes over other addresses; those that are gone lose their standing. Tells whether there were such.
    fn move_to(&mut self, name: &str, found: Vec<IpAddr>) -> bool {
        let mut addresses: Vec<(IpAddr, Standing)> = Vec::new();
        for ip in found {
            if addresses.iter().any(|(other, _)| *other == ip) {
                continue;
            }
            let known = self.addresses.iter().find(|(other, _)| *other == ip);
            addresses.push((ip, known.map(|(_, standing)| standing.clone()).unwrap_or_default()));
        }
        let mut is_loss = false;
        for (ip, standing) in &self.addresses {
            if !addresses.iter().any(|(other, _)| other == ip) {
                tracing::info!(name, address = %ip, "an address is gone: its connections are closed when they are free");
                standing.lose();
                is_loss = true;
            }
        }
        // In an order of our own: servers shuffle their answers, and the turn goes round these.
        addresses.sort_unstable_by_key(|(ip, _)| *ip);
        self.addresses = addresses;
        is_loss
    }
}

/// Counts a look-up for as long as it lives, also when it is given up.
struct UnderWay<'a>(&'a AtomicU64);

impl<'a> UnderWay<'a> {
    fn begin(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The system's resolver blocks, for half a minute when no server answers. So each look-up has a thread of its own: there is
/// one at a time for a name, and those of the runtime are for what is quick.
async fn ask_system(name: &str) -> io::Result<Vec<IpAddr>> {
    let (tell, told) = oneshot::channel();
    let name = name.to_owned();
    std::thread::Builder::new().name("lookup".to_owned()).spawn(move || {
        let found = (name.as_str(), 0).to_socket_addrs();
        // Nobody may be waiting any longer.
        let _heard = tell.send(found.map(|found| found.map(|address| address.ip()).collect()));
    })?;
    told.await.map_err(io::Error::other)?
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What they guard is whole after every step, so a panic elsewhere cannot have spoilt it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Keep = Keep { found: Duration::from_secs(15), failed: Duration::from_secs(3) };

    fn name() -> Name {
        Name { text: "db".to_owned(), answer: Mutex::default(), lookup: tokio::sync::Mutex::default() }
    }

    fn ips(last: &[u8]) -> Vec<IpAddr> {
        last.iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_used_in_turn_and_lose_their_standing_when_they_are_gone() {
        let (name, now) = (name(), Instant::now());
        assert!(name.is_stale(now));
        name.take(Ok(ips(&[2, 1, 2])), KEEP, now);
        let first = name.next_turn().unwrap();
        assert_eq!(first.iter().map(|found| found.ip).collect::<Vec<_>>(), ips(&[1, 2]));
        let second = name.next_turn().unwrap();
        assert_eq!(second.iter().map(|found| found.ip).collect::<Vec<_>>(), ips(&[2, 1]));
        assert!(!name.is_stale(now + Duration::from_secs(14)) && name.is_due(now + KEEP.found));
        name.take(Ok(ips(&[2, 3])), KEEP, now);
        let lost: Vec<_> = first.iter().map(|found| found.standing.as_ref().unwrap().is_lost()).collect();
        assert_eq!(lost, [true, false]);
        drop((first, second));
        assert!(!name.is_due(now + KEEP.found), "nothing depends on it any longer");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_keeps_the_addresses_that_were() {
        let (name, now) = (name(), Instant::now());
        name.take(Err(io::Error::other("no such name")), KEEP, now);
        assert_eq!(name.next_turn().unwrap_err().to_string(), "no such name");
        assert!(name.is_stale(now + KEEP.failed) && !name.is_stale(now));
        name.take(Ok(ips(&[1])), KEEP, now);
        let held = name.next_turn().unwrap();
        name.take(Ok(Vec::new()), KEEP, now);
        assert_eq!(name.next_turn().unwrap()[0].ip, held[0].ip);
        assert!(!held[0].standing.as_ref().unwrap().is_lost());
        assert_eq!(name.view(now).left, KEEP.failed);
    }

    #[tokio::test]
    async fn an_address_is_no_name() {
        let resolver = Resolver::new(None, KEEP).unwrap();
        let found = resolver.addresses("127.0.0.1").await.unwrap();
        assert!(found[0].standing.is_none() && resolver.list().is_empty());
        let found = resolver.addresses("localhost").await.unwrap();
        assert!(found.iter().all(|found| found.ip.is_loopback() && found.standing.is_some()));
        assert_eq!(resolver.list()[0].name, "localhost");
        resolver.retain(|_| false);
        assert!(resolver.list().is_empty());
    }
}
