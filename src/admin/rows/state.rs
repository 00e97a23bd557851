//! `SHOW VERSION`, `SHOW STATE`, `SHOW CONFIG`, `SHOW SETTINGS`.

use super::{Row, row};
use crate::admin::ConfigRow;
use crate::session::VERSION;

/// Tools parse a PgBouncer version, so it comes first.
pub(in crate::admin) fn version() -> [Row; 1] {
    [row![VERSION]]
}

/// Nothing can be paused yet.
pub(in crate::admin) fn state() -> [Row; 3] {
    [row!["active", "yes"], row!["paused", "no"], row!["suspended", "no"]]
}

pub(in crate::admin) fn config(setting: &ConfigRow) -> Row {
    let changeable = if setting.changeable { "yes" } else { "no" };
    row![&setting.key, setting.value.as_ref(), setting.default.as_ref(), changeable]
}

/// The same, with its origin.
pub(in crate::admin) fn setting(setting: &ConfigRow) -> Row {
    let mut row = config(setting);
    row.push((&setting.origin).into());
    row
}
