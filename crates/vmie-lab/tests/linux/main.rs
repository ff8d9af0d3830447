//! Processes, mappings, modules and symbols of Linux guests compared with the guests' own `/proc`.

mod damage;
mod mappings;
mod modules;
mod processes;
mod support;
