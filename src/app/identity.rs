//! Whose process it is: a pooler speaks with the whole world and needs no privileges.

use nix::unistd::{User, geteuid, initgroups, setgid, setuid};
use std::ffi::CString;

/// Why the process may not run as whom it is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It would run as root.
    #[error("pgweir should not run as root: set `user` in the configuration, or use -u")]
    Root,
    /// There is no such user.
    #[error("could not find user '{0}' to switch to (user, -u)")]
    NoUser(String),
    /// The system says no.
    #[error("failed to assume identity of user '{user}' (user, -u): {error}")]
    Refused {
        /// The user.
        user: String,
        /// What the system said.
        error: nix::Error,
    },
}

/// Whether this process still has root's privileges.
pub(super) fn is_root() -> bool {
    geteuid().is_root()
}

/// Becomes `user`, supplementary groups included, for good. Who is that user already has nothing to do.
pub(super) fn become_user(user: &str) -> Result<(), IdentityError> {
    let refused = |error| IdentityError::Refused { user: user.to_owned(), error };
    let found = User::from_name(user).map_err(refused)?;
    let found = found.ok_or_else(|| IdentityError::NoUser(user.to_owned()))?;
    if geteuid() == found.uid {
        return Ok(());
    }
    let name = CString::new(user).map_err(|_| IdentityError::NoUser(user.to_owned()))?;
    initgroups(&name, found.gid).map_err(refused)?;
    setgid(found.gid).map_err(refused)?;
    // It sets the real and the saved one too, of all threads: there is no way back.
    setuid(found.uid).map_err(refused)
}

/// Refuses to be root.
pub(super) fn refuse_root() -> Result<(), IdentityError> {
    if is_root() { Err(IdentityError::Root) } else { Ok(()) }
}
