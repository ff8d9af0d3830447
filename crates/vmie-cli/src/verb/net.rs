//! `vmie net`: who talks, and through what.

use clap::Args;
use vmie::views::{self, Interface, Socket};
use vmie_rows::{Hex, InterfaceRow, SocketOwner, SocketRow, guest_text};

use crate::answer::{AnswerArgs, print};
use crate::args::several;
use crate::exit::{Done, Result};
use crate::guest::{failed, tell_findings};
use crate::options::Options;
use crate::output::{Cell, Row};
use crate::source::Source;
use crate::space::narrowed;

#[derive(Args, Clone, Debug)]
pub(crate) struct NetArgs {
    #[command(flatten)]
    pub(crate) answer: AnswerArgs,

    /// Interfaces with their addresses instead
    #[arg(long, conflicts_with = "narrow")]
    pub(crate) interfaces: bool,
}

several!(NetArgs as answer);

pub(super) fn run(args: &NetArgs, options: &Options) -> Result<Done> {
    let source = Source::open(&args.answer.source, &options.reporter)?;
    if args.interfaces {
        return interfaces(&source, options);
    }
    let (os, processes) = narrowed(&source, &args.answer.narrow, &options.reporter)?;
    let listing = views::sockets(os.guest(), processes).map_err(|error| failed(&error))?;
    let complete = !tell_findings(&listing.findings, &options.reporter);
    let narrow = args.answer.narrow.pid.is_some() || args.answer.narrow.process.is_some();
    // Others' owners were not looked for.
    let items = listing.items.iter();
    let items = items.filter(|socket| !narrow || !socket.owners.is_empty());
    print(options, complete, items, row, "there are no sockets")
}

fn interfaces(source: &Source, options: &Options) -> Result<Done> {
    let os = source.os()?;
    let listing = views::interfaces(os.guest()).map_err(|error| failed(&error))?;
    let complete = !tell_findings(&listing.findings, &options.reporter);
    let none = "there are no interfaces";
    print(options, complete, &listing.items, interface_row, none)
}

fn row(of: &Socket) -> SocketRow<'_> {
    let text = |bytes: &Option<Vec<u8>>| {
        let text = bytes.as_deref().map(guest_text);
        text.map_or((None, None), |(text, bytes)| (Some(text), bytes))
    };
    let (local, local_bytes) = text(&of.local);
    let (remote, remote_bytes) = text(&of.remote);
    let owners = of.owners.iter().map(|owner| SocketOwner {
        pid: owner.pid,
        process: owner.process.clone(),
        fd: owner.fd,
    });
    SocketRow {
        proto: &of.proto,
        local,
        local_bytes,
        lport: of.lport,
        remote,
        remote_bytes,
        rport: of.rport,
        state: of.state,
        receive_queue: of.receive_queue,
        send_queue: of.send_queue,
        inode: of.inode,
        uid: of.uid,
        netns: of.netns,
        owners: owners.collect(),
        peer: of.peer,
        listed: of.listed,
        sock: Hex(of.object.0),
    }
}

fn interface_row(of: &Interface) -> InterfaceRow<'_> {
    let digits = |byte: &u8| format!("{byte:02x}");
    let mac: Vec<String> = of.mac.iter().map(digits).collect();
    InterfaceRow {
        name: &of.name,
        index: of.index,
        addresses: &of.addresses,
        mac: (!mac.is_empty()).then(|| mac.join(":")),
        up: of.up,
        link: of.link,
        promiscuous: of.promiscuous,
        mtu: of.mtu,
        netns: of.netns,
        device: Hex(of.object.0),
    }
}

impl Row for SocketRow<'_> {
    fn cell(&self, key: &str) -> Option<Cell> {
        /// More owners than this say less than their number.
        const OWNERS: usize = 3;
        if key != "owners" {
            return None;
        }
        let owner =
            |owner: &SocketOwner| format!("{} ({}) fd {}", owner.process, owner.pid, owner.fd);
        let mut text: Vec<String> = self.owners.iter().take(OWNERS).map(owner).collect();
        if self.owners.len() > OWNERS {
            text.push(format!("and {} more", self.owners.len() - OWNERS));
        }
        Some(Cell::new(text.join(", ")))
    }
}

impl Row for InterfaceRow<'_> {}
