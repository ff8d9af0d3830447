//! What the engine says to try, in the command's words: by the options that say it here.

use vmie::Advice;

/// Words a text in which the engine says what to try.
pub(crate) fn worded(text: String, advice: &[Advice]) -> String {
    let word = |text: String, advice: &Advice| match here(*advice) {
        Some(words) => text.replace(&advice.to_string(), words),
        None => text,
    };
    advice.iter().fold(text, word)
}

/// How it is done here; `None` where the engine's words will do.
fn here(advice: Advice) -> Option<&'static str> {
    Some(match advice {
        Advice::AsState => {
            "give the memory file that was saved with it as the source, and this file with --state"
        }
        Advice::GiveState => "give the file that was saved as snapshot_path with --state",
        Advice::LayoutWithoutState => {
            "without this file the memory file can be read with --layout GPA+LEN@OFFSET,... \
             (the CPUs are unknown then)"
        }
        Advice::VmwareMemory => {
            "give the .vmem file that belongs to it; where RAM is more than 3 GiB, with \
             `--layout 0+3GiB@0,4GiB+LEN@3GiB`"
        }
        Advice::RawWithLayout => {
            "give a memory image of the guest; to read this file as raw memory all the same, give \
             its layout with --layout GPA+LEN@OFFSET"
        }
        Advice::SayMachine => {
            "say which machine it was with --layout pc, q35, microvm or GPA+LEN@OFFSET,..."
        }
        Advice::GiveBase => "give the file under it with --base",
        Advice::ZerosBelow => "give --base zero",
        Advice::AsIndex => "give the image, and this file with --index",
        Advice::AsCandidates => "give the image, and this file with --refine",
        Advice::AsCache => "give the image that it lies beside, with --os-cache",
        Advice::AsTypes => "give the image, and this file with --types",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_try_is_said_by_the_options_of_the_command() {
        let note = format!("it has holes; {}", Advice::GiveBase);
        assert_eq!(
            worded(note, &[Advice::ZerosBelow, Advice::GiveBase]),
            "it has holes; give the file under it with --base"
        );
        let other = Advice::Other("decompress it first");
        assert_eq!(
            worded(format!("packed; {other}"), &[other]),
            "packed; decompress it first"
        );
    }
}
