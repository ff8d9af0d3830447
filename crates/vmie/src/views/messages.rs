//! What the kernel has said: the messages that are still in its log.
//!
//! Since 5.10 the log is a ring of descriptors beside a ring of texts (`kernel/printk/printk_ringbuffer.c` describes both);
//! before it is one buffer of records that follow each other (`kernel/printk/printk.c`). Which it is is told by the symbols.

use std::time::Duration;

use crate::addr::{Address, Gva};
use crate::os::object::{Known as _, Object, ObjectError, Objects, Walk};
use crate::os::{FindingKind, Guest, OsError};

/// How many bytes all texts may take: `log_buf_len` is at most 2 GiB, and nobody has that.
const MAX_TEXT: u64 = 256 << 20;

/// A message.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Message {
    /// Its number, from 0 on since boot.
    pub number: u64,
    /// When it was said, from boot.
    pub time: Duration,
    /// How grave it is, 0 (emergency) to 7 (debugging).
    pub level: u8,
    /// Who says it: 0 for the kernel, others for what programs wrote there (syslog's facilities).
    pub facility: u8,
    /// What it says, as it was written: it may have line breaks and any other byte.
    pub text: Vec<u8>,
    /// Who was running when it was said; `None` where the kernel does not keep that.
    pub caller: Option<Caller>,
    /// The subsystem and the device that it is about, where it says so.
    pub device: Option<(String, String)>,
}

/// Who was running.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    /// The thread of this number.
    Thread(u32),
    /// No thread, for an interrupt, on this CPU.
    Cpu(u32),
}

impl Caller {
    fn of(id: u32) -> Self {
        match id >> 31 {
            0 => Self::Thread(id),
            _ => Self::Cpu(id & !(1 << 31)),
        }
    }
}

/// The messages of a log.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Log {
    /// Those that are there, in order.
    pub messages: Vec<Message>,
    /// How many came before the first of them: the log has room for so much, and what is new takes the place of what is old.
    pub overwritten: u64,
    /// What did not add up.
    pub findings: Vec<crate::os::Finding>,
}

/// The messages in the kernel's log, the oldest first. Numbers are the kernel's own, so what is missing between them is told.
///
/// Cost: three reads a message.
///
/// # Errors
///
/// When the log cannot be found, or the head of it cannot be read: an empty log is never the answer for that.
pub fn messages(guest: &dyn Guest) -> Result<Log, OsError> {
    let objects = guest.objects()?;
    let walk = guest.walk();
    let mut messages = Vec::new();
    match objects.behind("prb", "printk_ringbuffer") {
        Ok(ring) => ring_messages(&ring, &walk, &mut messages)?,
        Err(error) if error.is_missing() => buffer_messages(&objects, &walk, &mut messages)?,
        Err(error) => return Err(error.into()),
    }
    let mut next = messages.first().map_or(0, |first: &Message| first.number);
    let overwritten = next;
    for message in &messages {
        if message.number != next {
            let text = format!(
                "messages {next} to {} are missing",
                message.number.wrapping_sub(1)
            );
            walk.note(FindingKind::Inconsistent, None, text);
        }
        next = message.number.wrapping_add(1);
    }
    Ok(Log {
        messages,
        overwritten,
        findings: walk.finish(),
    })
}

/// The upper two bits of a descriptor's state say what it is, the others which number it has at present.
const STATE_SHIFT: u32 = 62;
const COMMITTED: u64 = 1;
const FINALIZED: u64 = 2;

/// The texts of a ring.
struct Texts<'o> {
    data: Object<'o>,
    size: u64,
}

impl Texts<'_> {
    /// What stands in the block from `begin` to `next` that belongs to descriptor `id`. `None` for a block without text.
    fn read(
        &self,
        begin: u64,
        next: u64,
        id: u64,
        len: u64,
    ) -> Result<Option<Vec<u8>>, ObjectError> {
        // Odd positions stand for no block: the text is empty, or there was no room for it.
        if begin & 1 != 0 {
            return Ok(None);
        }
        let lap = |position: u64| position / self.size;
        // A block that would go over the end stands at the start instead.
        let at = match lap(begin) == lap(next.wrapping_sub(1)) {
            true => begin % self.size,
            false => 0,
        };
        let room = (self.size - at).saturating_sub(8);
        let at = Gva(self.data.address().0.wrapping_add(at));
        let block = self.data.objects().object_at(at, "prb_data_block")?;
        // The text of another message has taken its place.
        if block.u64("id")? != id {
            return Ok(None);
        }
        block
            .place("data")?
            .cast("char")?
            .bytes("", len.min(room))
            .map(Some)
    }
}

fn ring_messages(
    ring: &Object<'_>,
    walk: &Walk,
    messages: &mut Vec<Message>,
) -> Result<(), ObjectError> {
    let ring = ring.load();
    let count_bits = ring.u32("desc_ring.count_bits")?;
    let size_bits = ring.u32("text_data_ring.size_bits")?;
    if !(1..=30).contains(&count_bits) || !(4..=31).contains(&size_bits) {
        let text = format!(
            "the log has 2^{count_bits} descriptors and 2^{size_bits} bytes, which cannot be"
        );
        walk.note(FindingKind::Damaged, Some(ring.address()), text);
        return Ok(());
    }
    let mask = (1_u64 << count_bits) - 1;
    let (descs, infos) = (ring.at("desc_ring.descs")?, ring.at("desc_ring.infos")?);
    let texts = Texts {
        data: ring.at("text_data_ring.data")?,
        size: 1 << size_bits,
    };
    let ids = (1_u64 << STATE_SHIFT) - 1;
    let tail = ring.u64("desc_ring.tail_id")? & ids;
    let head = ring.u64("desc_ring.head_id")? & ids;
    let count = (head.wrapping_sub(tail) & ids) + 1;
    if count > mask + 1 {
        let text =
            format!("the log goes from descriptor {tail:#x} to {head:#x}, more than there are");
        walk.note(FindingKind::Damaged, Some(ring.address()), text);
    }
    let mut room = MAX_TEXT;
    for step in 0..count.min(mask + 1) {
        // Behind the head stands what is being written.
        let id = tail.wrapping_add(step) & ids;
        let read = ring_message(&descs, &infos, &texts, id, mask, walk);
        let what = format_args!("message with the descriptor {id:#x}");
        let Some(Some(message)) = walk.keep(read, what) else {
            continue;
        };
        let Some(left) = room.checked_sub(message.text.len() as u64) else {
            walk.note(
                FindingKind::Limit,
                None,
                format!("more than {MAX_TEXT} bytes of messages"),
            );
            break;
        };
        room = left;
        messages.push(message);
    }
    Ok(())
}

fn ring_message(
    descs: &Object<'_>,
    infos: &Object<'_>,
    texts: &Texts<'_>,
    id: u64,
    mask: u64,
    walk: &Walk,
) -> Result<Option<Message>, ObjectError> {
    let desc = descs.element(id & mask)?.load();
    let state = desc.u64("state_var")?;
    // What is reserved is being written, and what can be used again, or has another number, is gone.
    let is_there = matches!(state >> STATE_SHIFT, COMMITTED | FINALIZED);
    if !is_there || state & ((1 << STATE_SHIFT) - 1) != id {
        return Ok(None);
    }
    let info = infos.element(id & mask)?.load();
    let len = info.u64("text_len")?;
    let begin = desc.u64("text_blk_lpos.begin")?;
    let text = texts.read(begin, desc.u64("text_blk_lpos.next")?, id, len)?;
    if text.is_none() && len != 0 {
        let number = info.u64("seq")?;
        let text = format!("the text of message {number} is gone");
        walk.note(FindingKind::Inconsistent, Some(info.address()), text);
    }
    let device = |member: &str| -> Result<Option<String>, ObjectError> {
        info.text(member).unless_missing()
    };
    let subsystem = device("dev_info.subsystem")?.filter(|name| !name.is_empty());
    let name = device("dev_info.device")?.unwrap_or_default();
    Ok(Some(Message {
        number: info.u64("seq")?,
        time: Duration::from_nanos(info.u64("ts_nsec")?),
        level: info.u8("level")?,
        facility: info.u8("facility")?,
        text: text.unwrap_or_default(),
        caller: info.u32("caller_id").unless_missing()?.map(Caller::of),
        device: subsystem.map(|subsystem| (subsystem, name)),
    }))
}

/// Kernels before 5.10: records one behind the other, each with its length; a length of 0 leads back to the start.
fn buffer_messages(
    objects: &Objects<'_>,
    walk: &Walk,
    messages: &mut Vec<Message>,
) -> Result<(), ObjectError> {
    let number = |symbol, ty| objects.object(symbol, ty)?.u64("");
    let buffer = objects.behind("log_buf", "printk_log")?;
    let size = number("log_buf_len", "u32")?;
    let (mut at, end) = (
        number("log_first_idx", "u32")?,
        number("log_next_idx", "u32")?,
    );
    let (first, next) = (
        number("log_first_seq", "u64")?,
        number("log_next_seq", "u64")?,
    );
    let most = size / buffer.byte_len()?.max(1);
    let count = next.wrapping_sub(first);
    for step in 0..count.min(most) {
        let header = |at: u64| {
            let at = Gva(buffer.address().raw().wrapping_add(at));
            Ok::<_, ObjectError>(objects.object_at(at, "printk_log")?.load())
        };
        let mut record = header(at)?;
        if record.u64("len")? == 0 {
            at = 0;
            record = header(at)?;
        }
        let len = record.u64("len")?;
        let header_len = record.byte_len()?;
        let text_len = record.u64("text_len")?;
        if len < header_len + text_len || at.checked_add(len).is_none_or(|end| end > size) {
            let text = format!(
                "the record at {at:#x} of the log has {len} bytes, which cannot be: the rest is not read"
            );
            walk.note(FindingKind::Damaged, Some(record.address()), text);
            return Ok(());
        }
        let text = Gva(record.address().raw().wrapping_add(header_len));
        messages.push(Message {
            number: first.wrapping_add(step),
            time: Duration::from_nanos(record.u64("ts_nsec")?),
            level: record.u8("level")?,
            facility: record.u8("facility")?,
            text: objects.object_at(text, "char")?.bytes("", text_len)?,
            caller: record.u32("caller_id").unless_missing()?.map(Caller::of),
            device: None,
        });
        at += len;
    }
    if count > most || at != end {
        let text = format!(
            "the log counts {count} messages up to {end:#x}; {} were read, up to {at:#x}",
            messages.len()
        );
        walk.note(FindingKind::Inconsistent, None, text);
    }
    Ok(())
}
