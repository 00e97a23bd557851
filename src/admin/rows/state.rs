//! `SHOW VERSION`, `SHOW STATE`, `SHOW CONFIG`, `SHOW SETTINGS`.

use super::{Row, row};
use crate::admin::ConfigRow;
use crate::session::VERSION;

/// Tools parse a PgBouncer version, so it comes first.
pub(in crate::admin) fn version() -> [Row; 1] {
    [row![VERSION]]
}

/// Whether all databases are paused. Nothing can be suspended any longer, so there is no row for it.
pub(in crate::admin) fn state(is_paused: bool) -> [Row; 2] {
    let (active, paused) = if is_paused { ("no", "yes") } else { ("yes", "no") };
    [row!["active", active], row!["paused", paused]]
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
