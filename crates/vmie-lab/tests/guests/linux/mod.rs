//! Processes, mappings, modules, symbols and types of Linux guests compared with the guests' own
//! `/proc`, with pahole and with a compiler.

mod answers;
mod damage;
mod mappings;
mod modules;
mod objects;
mod overlay;
mod overwritten;
mod pahole;
mod processes;
mod support;
mod types;
