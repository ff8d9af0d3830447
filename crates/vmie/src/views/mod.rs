//! Views: questions about a guest, each with its answer in one file.
//!
//! A view is a function that takes a [`Guest`](crate::os::Guest), and what it is to narrow its answer to, and answers
//! with rows: plain data, the same for the command, for C and for whoever links this crate. It stands on the interface
//! of the operating system and on [`objects`](crate::os::object) alone, so it holds no offset, no version of a kernel and
//! no address that it did not get by a name.
//!
//! # How to add a view
//!
//! 1. A file here, named after the question, with a row and a function. What can be damaged is answered as a
//!    [`Listing`](crate::os::Listing): the rows that could be read, and findings for what did not add up. What leaves no
//!    answer at all is an [`OsError`](crate::os::OsError): a view may not end empty because it did not know where to look.
//! 2. Take [`Guest::objects`](crate::os::Guest::objects) once, and one [`Walk`](crate::os::object::Walk) for all lists of
//!    the question, which [`Guest::walk`](crate::os::Guest::walk) begins.
//!
//!    ```
//!    use vmie::os::object::{Known as _, ObjectError, Objects, Walk};
//!
//!    /// Open files of a task, by descriptor, with the number of each inode.
//!    fn files(objects: &Objects<'_>, task: vmie::Gva, walk: &Walk) -> Result<Vec<(u64, u64)>, ObjectError> {
//!        let task = objects.object_at(task, "task_struct")?;
//!        let Some(table) = task.at("files.fdt").unless_null()? else {
//!            return Ok(Vec::new());
//!        };
//!        let mut files = Vec::new();
//!        for (fd, file) in table.place("fd")?.pointers(table.u64("max_fds")?, walk)? {
//!            let inode = file.u64("f_inode.i_ino");
//!            files.extend(walk.keep(inode, format_args!("descriptor {fd}")).map(|inode| (fd, inode)));
//!        }
//!        Ok(files)
//!    }
//!    ```
//!
//! 3. Decide by members and not by versions: `task.u32("__state | state")`, `has`, `unless_missing`. `unless_null` is for
//!    what this object does not have. Everything else is an error, and a row that lacks a part has `None` there and a
//!    finding, which [`Walk::keep`](crate::os::object::Walk::keep) makes of the error.
//! 4. Compare what was walked with a number that the system keeps (`nr_mounts`, `nrpages`, `max_fds`), so that a structure
//!    that changed its shape is a finding and not an empty answer.
//! 5. Objects of which several members are read are [loaded](crate::os::object::Object::load) first: one read instead of
//!    many, and members of one moment.
//! 6. Its row in `vmie-rows`, its verb in the command, its function in the C library, where that has one; a test on a
//!    guest of the lab against what the guest itself said, and one with damage.

mod credentials;
mod environment;
mod files;
mod history;
mod interfaces;
mod messages;
mod modules;
mod namespaces;
mod pages;
mod processes;
mod regions;
mod sockets;
mod threads;

pub use credentials::{Capabilities, Credentials, Ids, Seccomp, credentials};
pub use environment::{Variable, environment};
pub use files::{OpenFile, open_files};
pub use history::{Command, history};
pub use interfaces::{Interface, interfaces};
pub use messages::{Caller, Log, Message, messages};
pub use modules::modules;
pub use namespaces::{Namespaces, namespaces};
pub use pages::{PageIs, Pages};
pub use processes::{Order, ProcessView, processes};
pub use regions::Regions;
pub use sockets::{Socket, SocketOwner, sockets};
pub use threads::{Thread, UserRegisters, threads};
