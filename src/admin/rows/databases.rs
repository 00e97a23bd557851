//! `SHOW DATABASES`, `SHOW USERS`.

use super::{Row, limit, row};
use crate::config::{Balance, PoolMode};
use crate::session::{DatabaseOverview, UserOverview};

pub(in crate::admin) fn databases(database: &DatabaseOverview) -> Row {
    row![
        &database.name,
        database.host.as_ref(),
        database.port,
        &database.dbname,
        database.forced_user.as_ref(),
        limit(database.pool_size),
        database.min_pool_size,
        database.reserve_size,
        database.server_lifetime.map_or(0, |lifetime| lifetime.as_secs()),
        database.mode.map(PoolMode::as_str),
        database.balance.map(Balance::as_str),
        limit(database.max_connections),
        database.connections,
        limit(database.max_clients),
        database.clients,
        u32::from(database.gate.is_paused),
        u32::from(database.gate.is_disabled),
    ]
}

/// Pool sizes are text, right-justified, and empty where the user has none of its own.
pub(in crate::admin) fn users(user: &UserOverview) -> Row {
    row![
        &user.name,
        user.pool_size.map_or_else(String::new, |size| format!("{:9}", limit(size))),
        user.reserve_size.map_or_else(String::new, |size| format!("{size:9}")),
        user.mode.map(PoolMode::as_str),
        limit(user.max_connections),
        user.connections,
        limit(user.max_clients),
        user.clients,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::columns;
    use crate::admin::table::Cell;
    use std::time::Duration;

    fn shown(row: &[Cell]) -> Vec<&str> {
        row.iter().map(|cell| cell.as_text().unwrap_or("NULL")).collect()
    }

    #[test]
    fn a_database_is_shown_as_pgbouncer_shows_it() {
        let mut overview = DatabaseOverview {
            name: "app".to_owned(),
            host: None,
            port: 5432,
            dbname: "app_production".to_owned(),
            forced_user: None,
            mode: None,
            balance: None,
            pool_size: None,
            min_pool_size: 1,
            server_lifetime: Some(Duration::from_secs(3600)),
            reserve_size: 3,
            max_clients: Some(90),
            max_connections: Some(50),
            connections: 7,
            clients: 80,
            gate: crate::pool::Gate { is_paused: true, is_disabled: false },
        };
        let row = databases(&overview);
        assert_eq!(row.len(), columns::DATABASES.len());
        let golden = "app NULL 5432 app_production NULL 0 1 3 3600 NULL NULL 50 7 90 80 1 0";
        assert_eq!(shown(&row).join(" "), golden);
        overview.host = Some("db".to_owned());
        overview.mode = Some(PoolMode::Session);
        let row = databases(&overview);
        assert_eq!((shown(&row)[1], shown(&row)[9]), ("db", "session"));
    }

    #[test]
    fn a_user_is_shown_as_pgbouncer_shows_it() {
        let overview = UserOverview {
            name: "alice".to_owned(),
            pool_size: Some(Some(5)),
            mode: None,
            reserve_size: Some(2),
            max_clients: Some(6),
            max_connections: None,
            connections: 3,
            clients: 4,
        };
        let row = users(&overview);
        assert_eq!(row.len(), columns::USERS.len());
        assert_eq!(shown(&row), ["alice", "        5", "        2", "NULL", "0", "3", "6", "4"]);
        let row = users(&UserOverview { pool_size: None, ..overview });
        assert_eq!(shown(&row)[1], "");
    }
}
