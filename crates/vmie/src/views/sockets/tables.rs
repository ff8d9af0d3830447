//! Sockets by the tables of their protocols, in every network namespace.

use super::{Found, Met};
use crate::addr::Gva;
use crate::os::object::{Known as _, Object, ObjectError};
use crate::os::{FindingKind, OsError};

/// How many chains UNIX sockets are sorted into: by path, or none, in the lower half, by abstract name in the upper one
/// (`UNIX_HASH_SIZE` of `include/net/af_unix.h`, which types do not have).
const UNIX_CHAINS: u64 = 512;

/// `MAX_LINKS` of `include/uapi/linux/netlink.h`.
const NETLINK_PROTOCOLS: u64 = 32;

/// Where tables of one kind were looked for, and what is to be said where there was none.
struct Looked {
    tables: usize,
    what: &'static str,
}

/// Adds what the tables have. Tables of each namespace, and those that they have in common, are looked at once.
pub(super) fn add_all(found: &mut Found<'_, '_>) -> Result<(), OsError> {
    let (objects, walk) = (found.objects, found.walk);
    let namespaces: Vec<Object<'_>> = objects
        .object("net_namespace_list", "list_head")?
        .list("net", "list", walk)?
        .collect();
    let each = |path: &str| -> Vec<Gva> {
        let mut all = Vec::new();
        for net in &namespaces {
            let table = net.pointer(path).unless_missing().unless_null();
            let what = format_args!("{path} of the network namespace at {}", net.address());
            let table = walk.keep(table, what).flatten().flatten();
            all.extend(table.filter(|&table| table != Gva(0)));
        }
        all
    };
    let with_global = |symbol: &str, path: &str| -> Vec<Gva> {
        let mut all: Vec<Gva> = objects.address_of(symbol).into_iter().collect();
        all.extend(each(path));
        all.sort_unstable();
        all.dedup();
        all
    };
    let mut looked = Vec::new();
    let tcp = with_global("tcp_hashinfo", "ipv4.tcp_death_row.hashinfo");
    looked.push(Looked {
        tables: tcp.len(),
        what: "tcp",
    });
    for at in tcp {
        let listed = tcp_table(found, at);
        walk.keep(listed, format_args!("the table of tcp at {at}"));
    }
    let udp = with_global("udp_table", "ipv4.udp_table");
    looked.push(Looked {
        tables: udp.len(),
        what: "udp",
    });
    let lite = objects.address_of("udplite_table").into_iter();
    for at in udp.into_iter().chain(lite) {
        let listed = udp_table(found, at);
        walk.keep(listed, format_args!("the table of udp at {at}"));
    }
    let raw: Vec<Gva> = ["raw_v4_hashinfo", "raw_v6_hashinfo"]
        .iter()
        .filter_map(|symbol| objects.address_of(symbol).ok())
        .collect();
    looked.push(Looked {
        tables: raw.len(),
        what: "raw",
    });
    for at in raw {
        let listed = raw_table(found, at);
        walk.keep(listed, format_args!("the table of raw at {at}"));
    }
    let mut unix = 0;
    for net in &namespaces {
        let listed = unix_of(found, net);
        unix += usize::from(
            walk.keep(
                listed,
                format_args!("the table of unix at {}", net.address()),
            ) == Some(true),
        );
        let listed = packets_of(found, net);
        walk.keep(
            listed,
            format_args!("the packet sockets of the namespace at {}", net.address()),
        );
    }
    if unix == 0
        && let Ok(table) = objects.object("unix_socket_table", "hlist_head")
    {
        let listed = add(
            found,
            table.hash_table(UNIX_CHAINS, "", "sock_common", "skc_node", walk),
        );
        unix += usize::from(walk.keep(listed, "the table of unix").is_some());
    }
    looked.push(Looked {
        tables: unix,
        what: "unix",
    });
    let netlink = netlink(found);
    let netlink = walk.keep(netlink, "the tables of netlink").is_some();
    looked.push(Looked {
        tables: netlink.into(),
        what: "netlink",
    });
    for Looked { what, .. } in looked.iter().filter(|looked| looked.tables == 0) {
        let text = format!(
            "this kernel has no table of {what} sockets where one is known: only those that descriptors lead to are told"
        );
        walk.note(FindingKind::Unreadable, None, text);
    }
    Ok(())
}

fn add<'o>(
    found: &mut Found<'_, 'o>,
    sockets: Result<impl Iterator<Item = Object<'o>>, ObjectError>,
) -> Result<(), ObjectError> {
    for socket in sockets? {
        found.add(&socket, Met::Table);
    }
    Ok(())
}

fn tcp_table(found: &mut Found<'_, '_>, at: Gva) -> Result<(), ObjectError> {
    let (objects, walk) = (found.objects, found.walk);
    let info = objects.object_at(at, "inet_hashinfo")?;
    let count = info.u64("ehash_mask")?.saturating_add(1);
    let (ty, node) = ("sock_common", "skc_nulls_node");
    add(
        found,
        info.place("ehash")?
            .hash_table(count, "chain", ty, node, walk),
    )?;
    // Those that listen are apart; where there are two tables of them, the second has them by another link.
    let (table, count) = match info.has("listening_hash") {
        true => ("listening_hash", info.declared_len("listening_hash")?),
        false => ("lhash2", info.u64("lhash2_mask")?.saturating_add(1)),
    };
    add(
        found,
        info.place(table)?
            .hash_table(count, "nulls_head", ty, node, walk),
    )
}

fn udp_table(found: &mut Found<'_, '_>, at: Gva) -> Result<(), ObjectError> {
    let (objects, walk) = (found.objects, found.walk);
    let table = objects.object_at(at, "udp_table")?;
    let count = table.u64("mask")?.saturating_add(1);
    add(
        found,
        table
            .place("hash")?
            .hash_table(count, "head", "sock_common", "skc_node", walk),
    )
}

fn raw_table(found: &mut Found<'_, '_>, at: Gva) -> Result<(), ObjectError> {
    let (objects, walk) = (found.objects, found.walk);
    let info = objects.object_at(at, "raw_hashinfo")?;
    let count = info.declared_len("ht")?;
    // Whether it is a list that ends with a number or one that ends with null, its links are at the same place.
    add(
        found,
        info.place("ht")?
            .hash_table(count, "", "sock_common", "skc_node", walk),
    )
}

/// Whether the namespace has a table of its own.
fn unix_of<'o>(found: &mut Found<'_, 'o>, net: &Object<'o>) -> Result<bool, ObjectError> {
    let Some(buckets) = net.place("unx.table.buckets").unless_missing()? else {
        return Ok(false);
    };
    let walk = found.walk;
    add(
        found,
        buckets.hash_table(UNIX_CHAINS, "", "sock_common", "skc_node", walk),
    )?;
    Ok(true)
}

fn packets_of<'o>(found: &mut Found<'_, 'o>, net: &Object<'o>) -> Result<(), ObjectError> {
    let walk = found.walk;
    match net.place("packet.sklist").unless_missing()? {
        Some(head) => add(found, head.hlist("sock_common", "skc_node", walk)),
        // Without this family there are none.
        None => Ok(()),
    }
}

fn netlink(found: &mut Found<'_, '_>) -> Result<(), ObjectError> {
    let (objects, walk) = (found.objects, found.walk);
    let tables = objects.behind("nl_table", "netlink_table")?;
    for protocol in 0..NETLINK_PROTOCOLS {
        let table = tables.element(protocol)?;
        // Protocols that nobody has registered have none.
        if table.pointer("hash.tbl")? == Gva(0) {
            continue;
        }
        let listed = table
            .place("hash")?
            .rhashtable("netlink_sock", "node", walk);
        add(
            found,
            listed.map(|sockets| sockets.filter_map(|socket| socket.cast("sock_common").ok())),
        )?;
    }
    Ok(())
}
