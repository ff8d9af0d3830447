//! The command as its users and their scripts see it.

mod contract;
mod engines;
mod exits;
mod golden;
mod hostile;
mod interrupts;
mod layouts;
mod refine;
mod rules;
mod series;
mod several;
mod snap;
mod support;
mod width;
mod writes;
