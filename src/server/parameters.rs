//! What a server reported at its login, and how a client is told.

use super::Settings;
use crate::wire::{TooLong, backend};
use bytes::BytesMut;
use std::collections::BTreeMap;
use std::ops::{Deref, Range};
use std::sync::OnceLock;

/// The values that a server reported when it was logged in to, by name as reported.
#[derive(Debug, Default)]
pub struct Parameters {
    values: BTreeMap<String, String>,
    messages: OnceLock<Messages>,
    /// Those that stay with a client beside the ones that PostgreSQL is known to report; most servers have none.
    extra: Box<[String]>,
}

/// The values as ParameterStatus messages, in the order of the names, and where each of them stands. They are the same
/// for every client but for its own settings, and written once for all of them.
#[derive(Debug, Default)]
struct Messages {
    bytes: BytesMut,
    places: BTreeMap<String, Range<usize>>,
}

impl From<BTreeMap<String, String>> for Parameters {
    fn from(values: BTreeMap<String, String>) -> Self {
        Self { values, messages: OnceLock::new(), extra: Box::default() }
    }
}

impl Deref for Parameters {
    type Target = BTreeMap<String, String>;
    fn deref(&self) -> &Self::Target {
        &self.values
    }
}

impl Parameters {
    /// The same, with more that stay with a client: those of these names that the server reports.
    #[must_use]
    pub fn following(values: BTreeMap<String, String>, names: &[String]) -> Self {
        let is_meant = |name: &&String| names.iter().any(|meant| meant.eq_ignore_ascii_case(name));
        let extra = values.keys().filter(is_meant).cloned().collect();
        Self { extra, ..Self::from(values) }
    }

    /// The same with other values for some of them.
    pub(super) fn with(&self, changed: &Settings) -> Self {
        let mut values = self.values.clone();
        values.extend(changed.iter().map(|(name, value)| (name.to_owned(), value.to_owned())));
        Self { extra: self.extra.clone(), ..Self::from(values) }
    }

    /// The name as it is reported, of one that stays with a client beside the usual ones.
    pub(super) fn extra(&self, name: &str) -> Option<&str> {
        self.extra.iter().find(|extra| extra.eq_ignore_ascii_case(name)).map(String::as_str)
    }

    /// Writes a ParameterStatus for each, with a client's own settings over the server's.
    ///
    /// # Errors
    ///
    /// [`TooLong`] when a value of the client is.
    pub fn put(&self, out: &mut BytesMut, own: &Settings) -> Result<(), TooLong> {
        let Messages { bytes, places } = self.messages.get_or_init(|| Messages::of(&self.values));
        let mut written = 0;
        // Both are in the order of the names; what lies between two of the client's own goes out in one piece.
        for (name, value) in own.iter() {
            if let Some(place) = places.get(name) {
                out.extend_from_slice(&bytes[written..place.start]);
                backend::put_parameter_status(out, name, value)?;
                written = place.end;
            }
        }
        out.extend_from_slice(&bytes[written..]);
        Ok(())
    }
}

impl Messages {
    fn of(values: &BTreeMap<String, String>) -> Self {
        let mut messages = Self::default();
        for (name, value) in values {
            let start = messages.bytes.len();
            // What came in one message fits into one.
            let _fits = backend::put_parameter_status(&mut messages.bytes, name, value);
            messages.places.insert(name.clone(), start..messages.bytes.len());
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_client_is_told_its_own_values_among_those_of_the_server() {
        let fresh =
            pairs(&[("DateStyle", "ISO"), ("TimeZone", "UTC"), ("application_name", ""), ("is", "on")]);
        let parameters = Parameters::from(fresh.clone());
        let own: [&[(&str, &str)]; 6] = [
            &[],
            &[("application_name", "psql")],
            &[("DateStyle", "SQL"), ("is", "off")],
            &[("TimeZone", "Asia/Tokyo"), ("application_name", ""), ("search_path", "a")],
            &[("A", "first"), ("work_mem", "last")],
            &[("DateStyle", "1"), ("TimeZone", "2"), ("application_name", "3"), ("is", "4")],
        ];
        for own in own {
            let settings: Settings = pairs(own).into_iter().collect();
            let (mut told, mut expected) = (BytesMut::new(), BytesMut::new());
            parameters.put(&mut told, &settings).unwrap();
            for (name, value) in &fresh {
                let value = settings.get(name).unwrap_or(value);
                backend::put_parameter_status(&mut expected, name, value).unwrap();
            }
            assert_eq!(told, expected, "{own:?}");
        }
    }
}
