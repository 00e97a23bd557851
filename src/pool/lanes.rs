//! How many servers are dialled at a time on one host, whatever the number of its pools: a server that has just come back
//! is not run over.

use crate::config::{Hosts, PoolSettings};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::Notify;

/// Dials of one host at a time.
pub(super) const LANES: u32 = 16;

/// Dials under way, by where they go.
#[derive(Debug, Default)]
pub struct Lanes(Mutex<HashMap<Place, Lane>>);

type Place = (Hosts, u16);

/// There while somebody dials or waits.
#[derive(Debug, Default)]
struct Lane {
    dials: u32,
    /// Keepers that found no lane free; all are woken when one is, and come back when they still need it.
    waiting: Vec<Weak<Notify>>,
}

/// The right to one dial, given back on drop.
#[derive(Debug)]
pub(super) struct LaneTaken {
    lanes: Arc<Lanes>,
    place: Place,
}

impl Lanes {
    /// Takes a lane, or has `wake` notified when one may be free.
    pub(super) fn take(self: &Arc<Self>, settings: &PoolSettings, wake: &Arc<Notify>) -> Option<LaneTaken> {
        let place = (settings.hosts.clone(), settings.port);
        let mut places = self.places();
        let lane = places.entry(place.clone()).or_default();
        if lane.dials >= LANES {
            let wake = Arc::downgrade(wake);
            if !lane.waiting.iter().any(|other| other.ptr_eq(&wake)) {
                lane.waiting.push(wake);
            }
            return None;
        }
        lane.dials += 1;
        Some(LaneTaken { lanes: Arc::clone(self), place })
    }

    fn places(&self) -> MutexGuard<'_, HashMap<Place, Lane>> {
        // They are whole after every step, so a panic elsewhere cannot have spoilt them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LaneTaken {
    fn drop(&mut self) {
        let mut places = self.lanes.places();
        let Some(lane) = places.get_mut(&self.place) else { return };
        lane.dials -= 1;
        let waiting = std::mem::take(&mut lane.waiting);
        if lane.dials == 0 {
            places.remove(&self.place);
        }
        drop(places);
        waiting.iter().filter_map(Weak::upgrade).for_each(|wake| wake.notify_one());
    }
}
