//! The rows, a file for each verb.

mod coverage;
mod creds;
mod dissect;
mod dmesg;
mod env;
mod find;
mod history;
mod info;
mod lsof;
mod maps;
mod modules;
mod net;
mod ns;
mod paths;
mod place;
mod ps;
mod read;
mod refs;
mod scan;
mod show;
mod sig;
mod snap;
mod state;
mod strings;
mod symbols;
mod threads;
mod types;
mod vtop;
mod xref;

pub use coverage::{Coverage, Gap};
pub use creds::CredsRow;
pub use dissect::{Compared, FieldRow, OtherValue};
pub use dmesg::DmesgRow;
pub use env::EnvRow;
pub use find::FoundRow;
pub use history::HistoryLineRow;
pub use info::{Cpu, InfoRow, Os, PhysicalRange, SnapshotInfo};
pub use lsof::LsofRow;
pub use maps::{ExtentRow, RegionRow, VmaRow};
pub use modules::ModuleRow;
pub use net::{InterfaceRow, SocketOwner, SocketRow};
pub use ns::NsRow;
pub use paths::PathRow;
pub use place::{Owner, Place, Site, SourceMark};
pub use ps::ProcessRow;
pub use read::{BytesRow, Hole, InstructionRow, Piece, WordRow};
pub use refs::RefRow;
pub use scan::{Context, MatchRow, RuleRow};
pub use show::ValueRow;
pub use sig::{Anchor, SigRow};
pub use snap::{ChangeRow, Dump, GroupRow, HistoryRow, SeriesMomentRow, TakenRow, WatchedRow};
pub use state::State;
pub use strings::StringRow;
pub use symbols::SymbolRow;
pub use threads::ThreadRow;
pub use types::MemberRow;
pub use vtop::{Step, WalkRow};
pub use xref::{Way, XrefRow};

use crate::{Row, Shape};

/// All shapes, in the order of the reference.
pub static SHAPES: &[&Shape] = &[
    InfoRow::SHAPE,
    ProcessRow::SHAPE,
    ThreadRow::SHAPE,
    EnvRow::SHAPE,
    CredsRow::SHAPE,
    NsRow::SHAPE,
    LsofRow::SHAPE,
    SocketRow::SHAPE,
    InterfaceRow::SHAPE,
    DmesgRow::SHAPE,
    HistoryLineRow::SHAPE,
    RegionRow::SHAPE,
    ExtentRow::SHAPE,
    VmaRow::SHAPE,
    WalkRow::SHAPE,
    BytesRow::SHAPE,
    WordRow::SHAPE,
    InstructionRow::SHAPE,
    MatchRow::SHAPE,
    RuleRow::SHAPE,
    FoundRow::SHAPE,
    StringRow::SHAPE,
    XrefRow::SHAPE,
    RefRow::SHAPE,
    PathRow::SHAPE,
    FieldRow::SHAPE,
    TakenRow::SHAPE,
    ChangeRow::SHAPE,
    WatchedRow::SHAPE,
    HistoryRow::SHAPE,
    GroupRow::SHAPE,
    SeriesMomentRow::SHAPE,
    SigRow::SHAPE,
    SymbolRow::SHAPE,
    ModuleRow::SHAPE,
    MemberRow::SHAPE,
    ValueRow::SHAPE,
];
