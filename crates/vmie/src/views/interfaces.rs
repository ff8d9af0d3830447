//! Network interfaces of all network namespaces, with their addresses.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::addr::Gva;
use crate::os::object::{Known as _, Object, ObjectError, Walk};
use crate::os::{Guest, Listing, OsError};

/// `IFF_UP` and `IFF_PROMISC` of `include/uapi/linux/if.h`.
const UP: u64 = 1;
const PROMISCUOUS: u64 = 0x100;

/// The longest address of a device (`MAX_ADDR_LEN` of `include/linux/netdevice.h`).
const MAX_ADDRESS: u64 = 32;

/// States of the link by number (RFC 2863).
const STATES: [&str; 7] = [
    "unknown",
    "notpresent",
    "down",
    "lowerlayerdown",
    "testing",
    "dormant",
    "up",
];

/// A network interface.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Interface {
    /// Its name, unique in its namespace.
    pub name: String,
    /// Its number there.
    pub index: u32,
    /// The number of its network namespace.
    pub netns: u32,
    /// Its addresses of IP, each with the length of its network: `10.0.0.1/24`.
    pub addresses: Vec<String>,
    /// Its own address, empty where it has none.
    pub mac: Vec<u8>,
    /// Whether it has been switched on.
    pub up: bool,
    /// What its link is doing.
    pub link: &'static str,
    /// Whether it takes in what is not addressed to it: somebody listens.
    pub promiscuous: bool,
    /// The longest packet.
    pub mtu: u32,
    /// The kernel's record of it (`struct net_device`).
    pub object: Gva,
}

/// All interfaces, by namespace as the system lists them, then as each lists them.
///
/// Cost: some ten reads an interface.
///
/// # Errors
///
/// When the system's types or symbols cannot be had.
pub fn interfaces(guest: &dyn Guest) -> Result<Listing<Interface>, OsError> {
    let objects = guest.objects()?;
    let walk = guest.walk();
    let mut items = Vec::new();
    let namespaces = objects
        .object("net_namespace_list", "list_head")?
        .list("net", "list", &walk)?;
    for net in namespaces {
        let found = of_namespace(&net, &walk, &mut items);
        walk.keep(
            found,
            format_args!("the network namespace at {}", net.address()),
        );
    }
    Ok(Listing {
        items,
        findings: walk.finish(),
    })
}

fn of_namespace(
    net: &Object<'_>,
    walk: &Walk,
    items: &mut Vec<Interface>,
) -> Result<(), ObjectError> {
    let netns = net.u32("ns.inum")?;
    for device in net
        .place("dev_base_head")?
        .list("net_device", "dev_list", walk)?
    {
        let read = one(&device, netns, walk);
        items.extend(walk.keep(read, format_args!("the interface at {}", device.address())));
    }
    Ok(())
}

fn one(device: &Object<'_>, netns: u32, walk: &Walk) -> Result<Interface, ObjectError> {
    let device = device.load();
    let flags = device.u64("flags")?;
    let len = device.u64("addr_len")?.min(MAX_ADDRESS);
    let what = format_args!("the addresses of the interface at {}", device.address());
    let mut addresses = Vec::new();
    walk.keep(add_v4(&device, walk, &mut addresses), what);
    walk.keep(add_v6(&device, walk, &mut addresses), what);
    Ok(Interface {
        name: device.text("name")?,
        index: device.u32("ifindex")?,
        netns,
        addresses,
        mac: device.bytes("dev_addr", len)?,
        up: flags & UP != 0,
        link: STATES
            .get(device.u64("operstate")? as usize)
            .copied()
            .unwrap_or(STATES[0]),
        promiscuous: flags & PROMISCUOUS != 0 || device.bool("promiscuity")?,
        mtu: device.u32("mtu")?,
        object: device.address(),
    })
}

fn add_v4(
    device: &Object<'_>,
    walk: &Walk,
    addresses: &mut Vec<String>,
) -> Result<(), ObjectError> {
    let first = device
        .at("ip_ptr.ifa_list")
        .unless_missing()
        .unless_null()?
        .flatten();
    let Some(first) = first else {
        return Ok(());
    };
    let others = first.chain("ifa_next", walk)?;
    for address in std::iter::once(first).chain(others) {
        let ip = Ipv4Addr::from(address.u32("ifa_local")?.to_le_bytes());
        addresses.push(format!("{ip}/{}", address.u8("ifa_prefixlen")?));
    }
    Ok(())
}

fn add_v6(
    device: &Object<'_>,
    walk: &Walk,
    addresses: &mut Vec<String>,
) -> Result<(), ObjectError> {
    let Some(six) = device
        .at("ip6_ptr")
        .unless_missing()
        .unless_null()?
        .flatten()
    else {
        return Ok(());
    };
    for address in six
        .place("addr_list")?
        .list("inet6_ifaddr", "if_list", walk)?
    {
        let bytes: [u8; 16] = address.bytes("addr", 16)?.try_into().unwrap_or_default();
        addresses.push(format!(
            "{}/{}",
            Ipv6Addr::from(bytes),
            address.u32("prefix_len")?
        ));
    }
    Ok(())
}
