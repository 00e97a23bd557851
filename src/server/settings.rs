//! Settings that travel with a client: what it asked for at startup and what it changed since, and the SQL that turns
//! one client's settings on a server into another's.

use super::Parameters;
use super::context::{hash, is_indifferent};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

/// Settings that PostgreSQL reports (ParameterStatus) and that a client can change: only these can be followed without
/// looking at SQL. The spelling is PostgreSQL's.
///
/// <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-ASYNC>
const FOLLOWED: [&str; 9] = [
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "IntervalStyle",
    "scram_iterations",
    "search_path",
    "standard_conforming_strings",
    "TimeZone",
];

/// Settings that differ from what a fresh login gives, by name. Cheap to clone and to compare with its own clones.
#[derive(Debug, Clone, Default)]
pub struct Settings(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    /// In the order of the names. A tree would take ten times as much for one, and many clients have one of their own.
    pairs: Box<[(Box<str>, Box<str>)]>,
    context: u64,
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(one), Some(two)) => Arc::ptr_eq(one, two) || one.pairs == two.pairs,
            _ => false,
        }
    }
}

impl Eq for Settings {}

impl std::hash::Hash for Settings {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.pairs().hash(state);
    }
}

impl FromIterator<(String, String)> for Settings {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(pairs: T) -> Self {
        Self::of(pairs.into_iter().map(|(name, value)| (canonical_name(&name), value)).collect())
    }
}

/// The spelling that PostgreSQL reports, for a setting that it reports; lower case for any other. Names are not
/// case-sensitive.
fn canonical_name(name: &str) -> String {
    FOLLOWED
        .iter()
        .find(|followed| followed.eq_ignore_ascii_case(name))
        .map_or_else(|| name.to_ascii_lowercase(), |followed| (*followed).to_owned())
}

impl Settings {
    fn of(map: BTreeMap<String, String>) -> Self {
        if map.is_empty() {
            return Self(None);
        }
        let mut steering = map.iter().filter(|(name, _)| !is_indifferent(name)).peekable();
        let context = if steering.peek().is_some() { hash(steering.collect::<Vec<_>>()) } else { 0 };
        let pairs = map.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self(Some(Arc::new(Inner { pairs, context })))
    }

    /// Whether these are the others; from then on they are so without being compared.
    pub fn settle_with(&mut self, other: &mut Self) -> bool {
        if let (Some(one), Some(two)) = (&self.0, &other.0)
            && !Arc::ptr_eq(one, two)
        {
            if one.pairs != two.pairs {
                return false;
            }
            // Always the one that lies lower in memory: so all that meet come to share the same.
            if Arc::as_ptr(one) < Arc::as_ptr(two) {
                other.0 = Some(Arc::clone(one));
            } else {
                self.0 = Some(Arc::clone(two));
            }
            return true;
        }
        self.0.is_some() == other.0.is_some()
    }

    fn pairs(&self) -> &[(Box<str>, Box<str>)] {
        self.0.as_deref().map_or(&[], |inner| &inner.pairs)
    }

    /// What they make of the meaning of texts, in short; zero where they change nothing.
    #[must_use]
    pub fn context(&self) -> u64 {
        self.0.as_deref().map_or(0, |inner| inner.context)
    }

    /// Names and values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs().iter().map(|(name, value)| (&**name, &**value))
    }

    /// The value of one of them.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let pairs = self.pairs();
        let found = pairs.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(&*pairs[found].1)
    }

    /// How many clones there are, this one included. Those without any setting are not counted.
    #[must_use]
    pub fn holders(&self) -> usize {
        self.0.as_ref().map_or(0, Arc::strong_count)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// These settings after the server reported a value. A value that a fresh login has needs no setting, and what
    /// cannot be set by a client is no setting of it.
    #[must_use]
    pub fn after_report(&self, name: &str, value: &str, baseline: &Parameters) -> Self {
        let is_fresh = baseline.get(name).is_some_and(|fresh| fresh == value);
        let known = self.get(name);
        let is_followed = FOLLOWED.contains(&name) || baseline.extra(name).is_some();
        if !is_followed || known == Some(value) || (known.is_none() && is_fresh) {
            return self.clone();
        }
        let mut map: BTreeMap<_, _> =
            self.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        // One that is not known beforehand was asked for in another spelling.
        map.retain(|other, _| other == name || !other.eq_ignore_ascii_case(name));
        if is_fresh {
            map.remove(name);
        } else {
            map.insert(name.to_owned(), value.to_owned());
        }
        Self::of(map)
    }

    /// Those of them whose changes the server reports. Of the others only pgweir's own SQL tells.
    #[must_use]
    pub fn reported(&self, baseline: &Parameters) -> Self {
        if self.iter().all(|(name, _)| is_reported(name, baseline)) {
            return self.clone();
        }
        let reported = self.iter().filter(|(name, _)| is_reported(name, baseline));
        Self::of(reported.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// What is known of these settings when they have been asked for on a server with the settings `before`, as far as
    /// it reports nothing. A server reports what changes: where another spelling of a value leads to no report, the value
    /// is the one from before.
    #[must_use]
    pub fn unless_reported(&self, before: &Self, baseline: &Parameters) -> Self {
        let known = |name: &str, value: &str| {
            let usual = Some(name).filter(|name| FOLLOWED.contains(name) && baseline.contains_key(*name));
            match usual.or_else(|| baseline.extra(name)) {
                Some(reported) => before.get(reported).map(|value| (reported.to_owned(), value.to_owned())),
                None => Some((name.to_owned(), value.to_owned())),
            }
        };
        Self::of(self.iter().filter_map(|(name, value)| known(name, value)).collect())
    }

    /// The SQL that leads from these settings to `wanted`, or `None` when nothing differs.
    ///
    /// It is one simple query, so it happens as a whole or not at all. Values go through `set_config`, since `SET`
    /// would read a list as one name; and the text is ASCII whatever the values are, so that neither the encoding nor
    /// `standard_conforming_strings` of the moment can change what it means.
    #[must_use]
    pub fn transition(&self, wanted: &Self, baseline: &Parameters) -> Option<String> {
        if self == wanted {
            return None;
        }
        self.path(wanted, baseline, |_| false)
    }

    /// The same where those that the server does not report may have been reset meanwhile: they are set in any case.
    #[must_use]
    pub fn transition_after_reset(&self, wanted: &Self, baseline: &Parameters) -> Option<String> {
        self.path(wanted, baseline, |name| !is_reported(name, baseline))
    }

    fn path(&self, wanted: &Self, baseline: &Parameters, doubts: impl Fn(&str) -> bool) -> Option<String> {
        let mut resets = String::new();
        let mut calls: Vec<String> = Vec::new();
        for (name, _) in self.iter().filter(|(name, _)| wanted.get(name).is_none()) {
            match baseline.get(name) {
                Some(fresh) => calls.push(call(name, fresh)),
                None => append(&mut resets, format_args!("RESET {};", identifier(name))),
            }
        }
        calls.extend(
            wanted
                .iter()
                .filter(|&(name, value)| self.get(name) != Some(value) || doubts(name))
                .map(|(name, value)| call(name, value)),
        );
        if !calls.is_empty() {
            append(&mut resets, format_args!("SELECT {}", calls.join(",")));
        }
        Some(resets).filter(|sql| !sql.is_empty())
    }
}

/// Whether a server with this baseline reports when a client changes it.
fn is_reported(name: &str, baseline: &Parameters) -> bool {
    (FOLLOWED.contains(&name) && baseline.contains_key(name)) || baseline.extra(name).is_some()
}

fn append(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    let _infallible = out.write_fmt(text);
}

fn call(name: &str, value: &str) -> String {
    format!("pg_catalog.set_config({},{},false)", literal(name), literal(value))
}

/// A literal for any text, in plain ASCII. What needs no quoting in any encoding is quoted; anything else is sent as
/// hexadecimal digits.
fn literal(text: &str) -> String {
    let plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'\'' | b'\\'));
    if plain {
        return format!("'{text}'");
    }
    let mut out = String::from("pg_catalog.convert_from(pg_catalog.decode('");
    text.bytes().for_each(|byte| append(&mut out, format_args!("{byte:02x}")));
    out.push_str("','hex'),'UTF8')");
    out
}

/// A name for RESET: each part of it quoted.
fn identifier(name: &str) -> String {
    name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect::<Vec<_>>().join(".")
}

/// Whether PostgreSQL would take this as the name of a setting: letters, digits, `_` and `$`, in parts with dots
/// between. Anything else would be an error there too, and never gets into SQL here.
#[must_use]
pub fn is_setting_name(name: &str) -> bool {
    name.split('.').all(|part| {
        part.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn baseline() -> Parameters {
        let fresh = [("TimeZone", "UTC"), ("application_name", "")];
        BTreeMap::from(fresh.map(|(name, value)| (name.to_owned(), value.to_owned()))).into()
    }

    #[test]
    fn nothing_is_sent_when_nothing_differs() {
        let one = settings(&[("timezone", "Asia/Tokyo")]);
        assert_eq!(one.transition(&one.clone(), &baseline()), None);
        assert_eq!(one.transition(&settings(&[("TIMEZONE", "Asia/Tokyo")]), &baseline()), None);
        assert_eq!(Settings::default().transition(&Settings::default(), &baseline()), None);
    }

    #[test]
    fn only_differences_are_sent() {
        let one = settings(&[("timezone", "Asia/Tokyo"), ("extra_float_digits", "3"), ("search_path", "a")]);
        let two = settings(&[("search_path", "\"b\", c"), ("application_name", "x")]);
        assert_eq!(
            one.transition(&two, &baseline()).unwrap(),
            "RESET \"extra_float_digits\";SELECT pg_catalog.set_config('TimeZone','UTC',false),\
             pg_catalog.set_config('application_name','x',false),\
             pg_catalog.set_config('search_path','\"b\", c',false)"
        );
    }

    #[test]
    fn hostile_values_are_sent_as_digits() {
        let sql = Settings::default()
            .transition(&settings(&[("application_name", "a'b\\é")]), &baseline())
            .unwrap();
        assert!(sql.is_ascii() && sql.contains("decode('6127625cc3a9','hex')"), "{sql}");
    }

    #[test]
    fn reports_of_settings_are_followed() {
        let none = Settings::default();
        let tokyo = none.after_report("TimeZone", "Asia/Tokyo", &baseline());
        assert_eq!(tokyo.get("TimeZone"), Some("Asia/Tokyo"));
        assert_eq!(tokyo.after_report("TimeZone", "UTC", &baseline()), none);
        assert_eq!(none.after_report("in_hot_standby", "on", &baseline()), none);
    }

    #[test]
    fn another_spelling_of_a_value_that_is_in_force_is_known_by_its_own() {
        let asked = settings(&[("timezone", "utc"), ("work_mem", "5MB")]);
        let work_mem = settings(&[("work_mem", "5MB")]);
        assert_eq!(asked.unless_reported(&Settings::default(), &baseline()), work_mem);
        let tokyo = settings(&[("timezone", "Asia/Tokyo")]);
        let known = settings(&[("timezone", "asia/tokyo")]).unless_reported(&tokyo, &baseline());
        assert_eq!(known, tokyo);
        assert_eq!(known.after_report("TimeZone", "UTC", &baseline()), Settings::default());
    }

    #[test]
    fn extra_parameters_are_followed_under_the_name_that_is_reported() {
        let fresh = [("App.Tenant", "none"), ("is_superuser", "off")];
        let fresh = BTreeMap::from(fresh.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let following =
            Parameters::following(fresh.clone(), &["app.tenant".to_owned(), "unheard".to_owned()]);
        let none = Settings::default();
        let one = none.after_report("App.Tenant", "one", &following);
        assert_eq!(one.get("App.Tenant"), Some("one"));
        assert_eq!(one.after_report("App.Tenant", "none", &following), none);
        assert_eq!(none.after_report("App.Tenant", "one", &fresh.into()), none, "it was not asked for");
        let asked = settings(&[("APP.tenant", "ONE"), ("work_mem", "5MB")]);
        let known = asked.unless_reported(&one, &following);
        assert_eq!(known, settings(&[("work_mem", "5MB")]).after_report("App.Tenant", "one", &following));
        assert_eq!(asked.after_report("App.Tenant", "two", &following).iter().count(), 2);
    }

    #[test]
    fn what_is_not_reported_is_set_again_after_a_reset() {
        let one = settings(&[("timezone", "Asia/Tokyo"), ("search_path", "a"), ("work_mem", "5MB")]);
        let tokyo = settings(&[("timezone", "Asia/Tokyo")]);
        assert_eq!(one.reported(&baseline()), tokyo);
        assert_eq!(
            one.transition_after_reset(&one, &baseline()).unwrap(),
            "SELECT pg_catalog.set_config('search_path','a',false),pg_catalog.set_config('work_mem','5MB',false)"
        );
        let left = one.transition_after_reset(&tokyo, &baseline()).unwrap();
        assert_eq!(left, "RESET \"search_path\";RESET \"work_mem\";");
        assert_eq!(tokyo.transition_after_reset(&tokyo, &baseline()), None);
    }

    #[test]
    fn names_of_settings_are_told_from_anything_else() {
        assert!(is_setting_name("app.tenant_id") && is_setting_name("work_mem"));
        assert!(
            !is_setting_name("")
                && !is_setting_name("a;b")
                && !is_setting_name("a..b")
                && !is_setting_name("1a")
        );
    }
}
