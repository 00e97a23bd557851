//! The SQLSTATE codes that pgweir itself sends or understands.
//!
//! <https://www.postgresql.org/docs/current/errcodes-appendix.html>

/// protocol_violation
pub const PROTOCOL_VIOLATION: &str = "08P01";
/// connection_failure
pub const CONNECTION_FAILURE: &str = "08006";
/// sqlclient_unable_to_establish_sqlconnection
pub const CANNOT_CONNECT: &str = "08001";
/// feature_not_supported
pub const FEATURE_NOT_SUPPORTED: &str = "0A000";
/// invalid_parameter_value
pub const INVALID_PARAMETER_VALUE: &str = "22023";
/// character_not_in_repertoire
pub const CHARACTER_NOT_IN_REPERTOIRE: &str = "22021";
/// invalid_authorization_specification
pub const INVALID_AUTHORIZATION: &str = "28000";
/// invalid_password
pub const INVALID_PASSWORD: &str = "28P01";
/// invalid_catalog_name
pub const INVALID_CATALOG_NAME: &str = "3D000";
/// idle_in_transaction_session_timeout
pub const IDLE_IN_TRANSACTION_TIMEOUT: &str = "25P03";
/// transaction_timeout
pub const TRANSACTION_TIMEOUT: &str = "25P04";
/// syntax_error
pub const SYNTAX_ERROR: &str = "42601";
/// too_many_connections
pub const TOO_MANY_CONNECTIONS: &str = "53300";
/// program_limit_exceeded
pub const PROGRAM_LIMIT_EXCEEDED: &str = "54000";
/// configuration_limit_exceeded
pub const CONFIGURATION_LIMIT_EXCEEDED: &str = "53400";
/// query_canceled
pub const QUERY_CANCELED: &str = "57014";
/// admin_shutdown
pub const ADMIN_SHUTDOWN: &str = "57P01";
/// crash_shutdown
pub const CRASH_SHUTDOWN: &str = "57P02";
/// cannot_connect_now
pub const CANNOT_CONNECT_NOW: &str = "57P03";
/// idle_session_timeout
pub const IDLE_SESSION_TIMEOUT: &str = "57P05";
/// config_file_error
pub const CONFIG_FILE_ERROR: &str = "F0000";
/// internal_error
pub const INTERNAL_ERROR: &str = "XX000";
/// invalid_sql_statement_name
pub const UNDEFINED_STATEMENT: &str = "26000";
/// duplicate_prepared_statement
pub const DUPLICATE_STATEMENT: &str = "42P05";
/// invalid_cursor_name
pub const UNDEFINED_PORTAL: &str = "34000";
/// object_not_in_prerequisite_state
pub const OBJECT_NOT_IN_PREREQUISITE_STATE: &str = "55000";
/// undefined_object
pub const UNDEFINED_OBJECT: &str = "42704";
