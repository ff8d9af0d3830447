//! What code is loaded: the kernel's modules, or the program and libraries of a process.

use crate::os::{Guest, Listing, Module, OsError, Process};

/// The kernel's modules, or what a process has loaded, by ascending address.
///
/// # Errors
///
/// When the list could not be looked at. A list that is damaged ends with a finding instead.
pub fn modules(guest: &dyn Guest, of: Option<&Process>) -> Result<Listing<Module>, OsError> {
    guest.modules(of)
}
