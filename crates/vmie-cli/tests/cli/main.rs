//! The command as its users and their scripts see it.

mod contract;
mod exits;
mod golden;
mod hostile;
mod support;
