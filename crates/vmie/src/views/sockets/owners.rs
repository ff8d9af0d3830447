//! Sockets by who holds them: descriptors, and descriptors that are on their way from one process to another.

use super::{AF_UNIX, Found, Met, SocketOwner};
use crate::addr::Gva;
use crate::os::Process;
use crate::os::object::{Object, ObjectError};
use crate::views::files::each_descriptor;

/// `SCM_MAX_FD` of `include/net/scm.h`: how many descriptors one message may carry.
const MAX_IN_MESSAGE: u64 = 253;

/// Adds the owners of sockets, and the sockets that no table has.
pub(super) fn add_all(found: &mut Found<'_, '_>, processes: &[Process]) {
    let (objects, walk) = (found.objects, found.walk);
    let Some(operations) = walk.keep(
        objects.address_of("socket_file_ops"),
        "which files are sockets",
    ) else {
        return;
    };
    for process in processes {
        each_descriptor(objects, process, walk, |descriptor| {
            let what = format_args!("descriptor {} of process {}", descriptor.fd, process.pid);
            let socket = walk
                .keep(socket_of(&descriptor.file, operations), what)
                .flatten();
            if let Some(index) = socket.and_then(|socket| found.add(&socket, Met::Descriptor)) {
                found.sockets[index].owners.push(SocketOwner {
                    pid: process.pid,
                    process: process.name.clone(),
                    fd: descriptor.fd,
                });
            }
        });
    }
    // What is in flight may carry sockets that carry more: those that are new come behind the others.
    let mut next = 0;
    while let Some(socket) = found.sockets.get(next) {
        next += 1;
        if socket.proto != "unix" {
            continue;
        }
        let at = socket.object;
        let read = in_flight(found, at, operations);
        walk.keep(
            read,
            format_args!("what is on its way to the socket at {at}"),
        );
    }
}

/// The socket of a file, where it is one.
fn socket_of<'o>(file: &Object<'o>, operations: Gva) -> Result<Option<Object<'o>>, ObjectError> {
    if file.pointer("f_op")? != operations {
        return Ok(None);
    }
    let socket = file.at_as("private_data", "socket")?;
    let sock = socket.pointer("sk")?;
    if sock == Gva(0) {
        return Ok(None);
    }
    file.objects().object_at(sock, "sock_common").map(Some)
}

/// Adds the sockets that messages carry which wait at a UNIX socket.
fn in_flight(found: &mut Found<'_, '_>, at: Gva, operations: Gva) -> Result<(), ObjectError> {
    let (objects, walk) = (found.objects, found.walk);
    let sock = objects.object_at(at, "sock")?;
    if sock.u16("__sk_common.skc_family")? != AF_UNIX {
        return Ok(());
    }
    // The queue is a ring of packets, of which the head is the first part of one.
    let queue = sock.place("sk_receive_queue")?;
    for packet in queue.list("sk_buff", "next", walk)? {
        let control = packet.place("cb")?.cast("unix_skb_parms")?;
        let list = control.pointer("fp")?;
        if list == Gva(0) {
            continue;
        }
        let list = objects.object_at(list, "scm_fp_list")?;
        let count = list.u64("count")?.min(MAX_IN_MESSAGE);
        for (_, file) in list.place("fp")?.pointers(count, walk)? {
            let socket = walk.keep(socket_of(&file, operations), "a file that is on its way");
            if let Some(socket) = socket.flatten() {
                found.add(&socket, Met::Descriptor);
            }
        }
    }
    Ok(())
}
