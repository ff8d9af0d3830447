//! How signatures are found.

use clap::Args;
use vmie::signature::EngineKind;

/// How signatures are found.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct EngineArgs {
    /// Find signatures with this engine: auto, avx512, avx2, portable, anchored, dense or naive.
    /// The results are the same; -v says which one auto takes
    #[arg(
        long,
        value_name = "ENGINE",
        env = "VMIE_ENGINE",
        hide_env_values = true,
        default_value = "auto"
    )]
    pub(crate) engine: EngineKind,
}
