//! `vmie dmesg`.

use crate::Bytes;
use crate::define::row;

row! {
    /// A message in the kernel's log.
    pub struct DmesgRow: "vmie.dmesg/1" of "vmie dmesg" {
        /// When it was said, from boot.
        time: f64 [seconds] => right strong;
        /// How grave it is: emerg, alert, crit, err, warn, notice, info or debug.
        level: &'static str => left;
        /// Who says it: kern, or what syslog calls the facility of a program that wrote there.
        facility: String => hidden;
        /// What it says, as it was logged; one message may have several lines.
        text: String => left;
        /// Its bytes, where they are not UTF-8.
        text_bytes: Option<Bytes> => optional;
        /// Who was running: `T` and the number of a thread, or `C` and that of a CPU; null when not known.
        caller: Option<String> => right;
        /// Its number, from 0 on since boot: what is missing between two of them was lost.
        number: u64 => hidden;
        /// The subsystem that it is about; left out where it does not say.
        subsystem: Option<String> => hidden optional;
        /// The device that it is about; left out where it does not say.
        device: Option<String> => hidden optional;
    }
    columns ["time" "level" "facility" "caller" "text" "number" "subsystem" "device"]
}
